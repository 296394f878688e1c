"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), by MONAI: where in an image lies what spoke for the class that was called."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_STRONGEST = 0.65  # of the colour at the map's maximum; the image shines through


@dataclass(frozen=True)
class Case:
    """A test image, by its place, and the class `called` of it with `probability`. `truth`: what it is; `right`: whether that is so."""

    place: int
    truth: int
    called: int
    probability: float
    right: bool


def cases(kind: str, y: np.ndarray, prob: np.ndarray, most: int) -> list[Case]:
    """The most confident right and the most confident wrong case of each class, in the order of the classes, `most` at most.

    Of several labels: the highest probability of each label among the images that have it, and among those that do not.
    """
    found: list[Case] = []
    if kind == "multilabel":
        for c in range(prob.shape[1]):
            for value, wanted in ((1, True), (0, False)):
                found += _surest(
                    np.flatnonzero((y[:, c] == value) & (prob[:, c] > 0.5)), prob[:, c], [c if wanted else -1] * len(y), [c] * len(y)
                )
        return found[:most]
    called = prob.argmax(1)
    for c in range(prob.shape[1]):
        for right in (True, False):
            found += _surest(np.flatnonzero((y == c) & ((called == c) == right)), prob.max(1), y, called)
    return found[:most]


def _surest(
    places: np.ndarray, confidence: np.ndarray, truth: Sequence[int] | np.ndarray, called: Sequence[int] | np.ndarray
) -> list[Case]:
    if not len(places):
        return []
    at = int(places[confidence[places].argmax()])
    return [Case(at, int(truth[at]), int(called[at]), float(confidence[at]), truth[at] == called[at])]


def last_map(network: nn.Module, image: Tensor) -> str | None:
    """The name of the part that gives the last feature map [1, C, h, w] of convolutions; None where there is none.

    There is none in a transformer either: where a linear layer works on places (tokens, or the last axis of a map) after the last
    convolution, what the convolution saw has been mixed since.
    """
    names = {part: name for name, part in network.named_modules()}
    maps: list[str] = []

    def heard(part: nn.Module, _: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if isinstance(part, nn.Linear) and output.ndim > 2:
            maps.clear()
        elif output.ndim == 4 and min(output.shape[2:]) > 1 and any(isinstance(inner, nn.Conv2d) for inner in part.modules()):
            maps.append(names[part])

    hooks = [part.register_forward_hook(heard) for part in names]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return maps[-1] if maps else None


def grad_cam(classifier: nn.Module, images: np.ndarray, called: Sequence[int]) -> np.ndarray | None:
    """float [n, H, W] in [0, 1], 1 at the place that spoke loudest for class `called` of `images` (float32 [n, C, H, W] in [0, 1]).

    None for a network without a feature map to look at. An image in which nothing spoke for its class is 0 everywhere.
    """
    network = copy.deepcopy(classifier).eval().float()  # MONAI leaves hooks and gradients behind
    parts: list[Any] = list(network.modules())
    for part in parts:
        if getattr(part, "inplace", False):
            part.inplace = False  # which a hook on gradients does not bear
    device = next(iter(network.parameters())).device
    batch = torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(device)
    if (target := last_map(network, batch[:1])) is None:
        return None
    from monai.visualize.class_activation_maps import GradCAM  # seconds

    batch.requires_grad_(True)  # so that gradients flow through a frozen network as well
    look = GradCAM(network, target, postprocessing=lambda x: x)  # its own would turn the map upside down
    found = np.stack([look(batch[i : i + 1], class_idx=c)[0, 0].detach().cpu().numpy() for i, c in enumerate(called)])
    return found / np.maximum(found.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)


def overlaid(picture: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: the map in viridis' colours, which rise in lightness for every eye, over a picture that shows where it is weak."""
    from matplotlib import colormaps

    colour = colormaps["viridis"](strength)[..., :3] * 255
    weight = (_STRONGEST * strength)[..., None]
    return (picture * (1 - weight) + colour * weight).round().astype(np.uint8)


def linear_on(encoder: nn.Module, mean: np.ndarray, scale: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> nn.Module:
    """images to logits [B, k]: `encoder`, then a linear classifier of features standardised by `mean` and `scale` [d], all in one layer.

    `weight` [k, d], `bias` [k]. Of two classes with one vector w between them: -w/2 and w/2, so that either class has a voice.
    """
    layer = nn.Linear(len(mean), len(bias))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight / scale))
        layer.bias.copy_(torch.from_numpy(bias - weight @ (mean / scale)))
    return nn.Sequential(encoder, layer.to(next(iter(encoder.parameters())).device))
