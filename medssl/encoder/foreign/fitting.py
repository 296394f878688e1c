"""The tensors of a file beside those of a network: what fits, what is adapted, what is left out, and what is missing.

Adapted are the first convolution, to the channels of the images, and the position embeddings of a transformer, to their size. Left out are
heads and the token of masked patches, missing may be the counters of batch normalisations. Everything else must be equal by name and shape.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.encoder.foreign.architecture import first_convolution, heads_of

_MASKED = ("mask_token", "masked_embed")  # of pretrainings that hide patches
_POSITIONS_OF_VOLUMES = "patch_embedding.position_embeddings"
_COUNTER = ".num_batches_tracked"
_KERAS_BIAS = re.compile(r"layer1\.0\.conv\d\.bias")
_SHOWN = 3


@dataclass
class Fit:
    """`tensors`: those of the network. `adapted`: a sentence for each; `heads`: how many tensors of each head are left out; `counters`: the
    counters that start at 0. What does not fit: `missing` and `surplus` names, and `shapes` as sentences."""

    tensors: dict[str, Tensor]
    matched: int = 0
    adapted: list[str] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)
    counters: int = 0
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    shapes: dict[str, str] = field(default_factory=dict)

    @property
    def misfits(self) -> int:
        return len(self.missing) + len(self.surplus) + len(self.shapes)

    def explain(self) -> str:
        """What does not fit, with some names of each kind."""
        if any(_KERAS_BIAS.fullmatch(name) for name in self.surplus):
            return (
                "its convolutions have biases, as in networks that come from Keras (RadImageNet's files ending in _notop): these networks "
                "have biases and another stride in each block, so that the same weights without biases answer otherwise. For torch, "
                "RadImageNet has ResNet50.pt"
            )
        kinds = {"missing": self.missing, "left over": self.surplus, "of another shape": list(self.shapes.values())}
        return "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names)


def fit(given: dict[str, Tensor], network: nn.Module, model: str, channels: int) -> Fit:
    """`given`: the tensors of a backbone, by the names of the network or by the numbers of its parts. `network`: timm's `model` for images
    of `channels` channels, without its classifier."""
    expected = network.state_dict()
    result = Fit(_by_name(given, network))
    _leave_out(result, expected, heads_of(model))
    _adapt_channels(result, expected, first_convolution(model, network), channels)
    _adapt_positions(result, expected, network)
    _adapt_positions_of_volumes(result, expected, network)
    counters = [name for name in expected.keys() - result.tensors.keys() if name.endswith(_COUNTER)]
    result.counters, result.matched = len(counters), len(result.tensors.keys() & expected.keys())
    result.tensors |= {name: expected[name] for name in counters}
    result.missing = [name for name in expected if name not in result.tensors]
    result.surplus = [name for name in result.tensors if name not in expected]
    for name in (name for name in expected if name in result.tensors):
        ours, theirs = tuple(expected[name].shape), tuple(result.tensors[name].shape)
        if ours != theirs:
            result.shapes[name] = f"{name}: {theirs} for {ours}"
    return result


def _by_name(given: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Names in place of numbers, as in a Sequential of a network's children (`4.0.conv1.weight`). Children without tensors count: where an
    activation has no number, as in lightly's own ResNets, the Sequential is another network."""
    if not given or not all(name.partition(".")[0].isdecimal() for name in given):
        return dict(given)
    parts = [name for name, _ in network.named_children()]
    split = ((name.partition("."), value) for name, value in given.items())
    return {f"{parts[int(number)] if int(number) < len(parts) else number}.{rest}": value for (number, _, rest), value in split}


def _leave_out(result: Fit, expected: dict[str, Any], heads: tuple[str, ...]) -> None:
    for name in [name for name in result.tensors if name not in expected]:
        if name.startswith(heads) or name in _MASKED:
            del result.tensors[name]
            beginning = name.partition(".")[0]
            result.heads[beginning] = result.heads.get(beginning, 0) + 1


def _adapt_channels(result: Fit, expected: dict[str, Any], first: str, channels: int) -> None:
    """As timm does; weights of grey images are also spread over colours, whose sum is then that of the grey image."""
    given = result.tensors.get(first)
    if given is None or first not in expected or given.ndim not in (4, 5) or given.shape[1] == expected[first].shape[1]:
        return
    before = given.shape[1]
    spread = before == 1 and channels > 1
    if given.ndim == 5 and not spread:
        return  # timm adapts weights of images only: these are refused by their shape
    with suppress(NotImplementedError):  # refused by its shape
        result.tensors[first] = (
            given.repeat(1, channels, *(1,) * (given.ndim - 2)) / channels if spread else adapt_input_conv(channels, given)
        )
        how = "spread" if spread else "summed" if channels == 1 else "repeated and scaled"
        result.adapted.append(f"{first}: {before} to {channels} channels, {how}")


def _adapt_positions(result: Fit, expected: dict[str, Any], network: Any) -> None:
    given, name = result.tensors.get("pos_embed"), "pos_embed"
    if given is None or name not in expected or given.shape == expected[name].shape or not given.ndim == expected[name].ndim == 3:
        return
    with suppress(RuntimeError):  # position embeddings of no square: refused by their shape
        result.tensors[name] = resample_abs_pos_embed(given, network.patch_embed.grid_size, num_prefix_tokens=network.num_prefix_tokens)
        result.adapted.append(f"{name}: {given.shape[1]} to {result.tensors[name].shape[1]} positions, interpolated")


def _adapt_positions_of_volumes(result: Fit, expected: dict[str, Any], network: Any) -> None:
    """Those of cubes: of another number of positions the edges are not known, and they are refused by their shape."""
    given, name = result.tensors.get(_POSITIONS_OF_VOLUMES), _POSITIONS_OF_VOLUMES
    if given is None or name not in expected or given.shape == expected[name].shape or given.ndim != 3:
        return
    edge = round(given.shape[1] ** (1 / 3))
    if edge**3 == given.shape[1]:
        cube = given.mT.unflatten(2, (edge, edge, edge))
        result.tensors[name] = F.interpolate(cube, network.grid, mode="trilinear").flatten(2).mT
        result.adapted.append(f"{name}: {given.shape[1]} to {result.tensors[name].shape[1]} positions, interpolated")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
