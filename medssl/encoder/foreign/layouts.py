"""How programs name the tensors of a backbone in their files, and how to get the names of the backbone alone.

A file is understood in three steps: the mapping with the tensors (a checkpoint holds more), the names without what wrappers add
(DistributedDataParallel, torch.compile), and the beginning that the names of the backbone have beside heads, target networks and queues.
What stands beside the backbone has a name of the list below, or the file is refused.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from medssl.errors import UserError

_AVERAGED, _USUAL = ("state_dict_ema", "model_ema"), ("state_dict", "model")
_LAYOUTS = {  # the beginning of the backbone's names, and who writes it, in the order in which they are looked for
    "backbone.": "a backbone beside heads, as in solo-learn, stable-pretraining, mmselfsup and lightly",
    "teacher_backbone.": "the teacher of lightly's DINO",
    "encoder_q.": "MoCo v1 or v2",
    "base_encoder.": "MoCo v3",
    "momentum_encoder.": "the momentum encoder of MoCo v3",
    "_feature_blocks.": "VISSL",
}
SWIN = "SwinUNETR's self-supervised pretraining"
_LAYOUTS_OF_VOLUMES = {
    "swin_vit.": SWIN,
    "swinViT.": "a SwinUNETR",
    "vit.": "a UNETR",
}
_WRAPPERS = ("encoder.", "model.", "network.", "net.")  # where all names begin so
_SIMSIAM = "SimSiam"
_SWIN_LAYER = re.compile(r"^(layers[1-4]\.0\.blocks\.\d+\.mlp\.)fc(?=[12]\.)")  # in the published file; MONAI calls it linear today
_BESIDE = frozenset(  # first parts of names
    (
        *("projector", "predictor", "classifier", "prototypes", "queue", "queue_ptr", "queue_y"),  # solo-learn, MoCo
        *("momentum_backbone", "momentum_projector", "momentum_predictor", "momentum_classifier"),  # solo-learn
        *("base_encoder", "momentum_encoder", "encoder_q", "encoder_k"),  # MoCo
        *("callbacks_modules", "callbacks_metrics"),  # stable-pretraining
        *("neck", "head", "heads", "online_net", "target_net"),  # mmselfsup, VISSL
        *("projection_head", "prediction_head", "backbone_momentum", "projection_head_momentum", "prediction_head_momentum"),  # lightly
        *("student_backbone", "student_head", "teacher_head", "memory_bank", "criterion", "online_classifier"),  # lightly
        *("dino_head", "ibot_head"),  # DINOv2
    )
)
_BESIDE_IN_VOLUMES = frozenset(
    (
        *("rotation_head", "contrastive_head", "conv"),  # SwinUNETR's self-supervised pretraining
        *("encoder1", "encoder2", "encoder3", "encoder4", "encoder10", "out"),  # SwinUNETR, UNETR
        *("decoder1", "decoder2", "decoder3", "decoder4", "decoder5"),
    )
)


@dataclass(frozen=True)
class Backbone:
    """The tensors of a backbone by their names in it. `layout`: who names them so; "" where the names are those of the network itself.
    `left_out`: how many tensors of the file are not taken, by the beginning of their names."""

    layout: str
    tensors: dict[str, Tensor]
    left_out: dict[str, int]


def find_backbone(content: Mapping[str, Any], volumes: bool = False) -> Backbone:
    """The backbone in what a file holds. Raises UserError for a network of volumes where one of images is needed and the other way round
    (`volumes`), and for tensors that no layout names."""
    layout, values, left_out = _open(content)
    tensors = _unwrap({str(name): value for name, value in values.items() if isinstance(value, Tensor)}, left_out)
    of_volumes = "nnssl_adaptation_plan" in content or any(tensor.ndim == 5 for tensor in tensors.values())
    if of_volumes and not volumes:
        raise UserError(
            "The weights are of a network of volumes (3-D convolutions), and the samples are images. Name weights of a 2-D network, or "
            "train on whole volumes: --set data.volumes=whole"
        )
    if volumes and not of_volumes:
        raise UserError("The weights are of a network of images, and the samples are whole volumes. Name weights with 3-D convolutions.")
    layouts, known = _LAYOUTS | (_LAYOUTS_OF_VOLUMES if volumes else {}), _BESIDE | (_BESIDE_IN_VOLUMES if volumes else set())
    while prefix := _prefix_of(tensors, layouts):
        layout = layout or layouts.get(prefix, "" if prefix != "encoder." else _SIMSIAM)
        beside = [name for name in tensors if not name.startswith(prefix)]
        if unknown := [name for name in beside if name.partition(".")[0] not in known]:
            raise UserError(
                f"The file has a backbone ({prefix}...) and beside it {len(unknown)} tensors that no known layout has, as {unknown[0]!r}. "
                "Save the backbone alone: torch.save(model.backbone.state_dict(), 'weights.pth')."
            )
        _count(beside, left_out)
        tensors = _unwrap({name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}, left_out)
    renamed = {_SWIN_LAYER.sub(r"\1linear", name): value for name, value in tensors.items()}
    if renamed.keys() != tensors.keys():
        layout = layout or SWIN
    return Backbone(layout, renamed, left_out)


def _open(content: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], dict[str, int]]:
    """Who wrote the file, if that is certain by now; the mapping with the tensors; and what is left out with the others."""
    left_out: dict[str, int] = {}
    if "classy_state_dict" in content:
        try:
            model = content["classy_state_dict"]["base_model"]["model"]
            values, heads = model["trunk"], model.get("heads", {})
        except (KeyError, TypeError, AttributeError):
            raise UserError("A checkpoint of VISSL has classy_state_dict.base_model.model.trunk; this file has none.") from None
        _count([f"heads.{name}" for name in heads], left_out)
        return "VISSL", values, left_out
    if isinstance(content.get("teacher"), Mapping):
        student = content.get("student")
        _count([f"student.{name}" for name in student] if isinstance(student, Mapping) else [], left_out)
        return "the teacher of DINO or iBOT", content["teacher"], left_out
    averaged = next((name for name in _AVERAGED if isinstance(content.get(name), Mapping)), "")
    for name in _USUAL if not averaged else ():
        content = content[name] if isinstance(content.get(name), Mapping) else content
    if averaged:
        _count([f"{name}.{key}" for name in _USUAL if isinstance(content.get(name), Mapping) for key in content[name]], left_out)
        return f"the moving average of a training ({averaged})", content[averaged], left_out
    return "", content, left_out


def _unwrap(tensors: dict[str, Tensor], left_out: dict[str, int]) -> dict[str, Tensor]:
    """The names without those of DistributedDataParallel, torch.compile and torch's AveragedModel."""
    if "n_averaged" in tensors:
        _count(["n_averaged"], left_out)
    tensors = {name.replace("_orig_mod.", ""): value for name, value in tensors.items() if name != "n_averaged"}
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _prefix_of(tensors: Iterable[str], layouts: Iterable[str]) -> str:
    """The beginning of the backbone's names, one of `layouts` or a wrapper's; "" where they have none."""
    names = list(tensors)
    for prefix in layouts:
        if any(name.startswith(prefix) for name in names):
            return prefix
    if any(name.startswith("encoder.") for name in names) and any(name.startswith("predictor.") for name in names):
        return "encoder."
    return next((prefix for prefix in _WRAPPERS if names and all(name.startswith(prefix) for name in names)), "")


def _count(names: Iterable[str], into: dict[str, int]) -> None:
    for beginning, number in Counter(name.partition(".")[0] for name in names).items():
        into[beginning] = into.get(beginning, 0) + number
