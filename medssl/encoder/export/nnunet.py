"""A checkpoint as nnssl writes it: the weights of the encoder, and the plan by which nnU-Net builds its network for segmentation around
them (`nnUNetv2_preprocess_like_nnssl` and `nnUNetv2_train_pretrained`).

The card is in it under "card". nnU-Net gives each image mean 0 and standard deviation 1, where the encoder has mean and standard deviation
of the training images: the plan has no place for these.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from torch import Tensor, nn

from medssl.backbones._resenc import CLASSES, architecture, nnunet_tensors
from medssl.encoder.export.comparison import features_lines, largest_difference, standardised
from medssl.encoder.export.options import Options
from medssl.nn import Encoder

SUFFIX, TOLERANCE, PACKAGES = ".pth", 1e-4, ()  # normalisations over eight voxels enlarge what another order of sums changes
_UNET = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:  # noqa: ARG001
    """Only nnU-Net's own encoder fits."""
    model = card["backbone"].get("model", card["backbone"]["name"])
    return None if model == "resenc" else f"{model} is no encoder of nnU-Net; only resenc is"


def write(encoder: Encoder, card: Mapping[str, Any], path: Path, options: Options) -> None:  # noqa: ARG001
    """Writes the checkpoint, which holds tensors, numbers and text."""
    weights, plan = nnunet_tensors(encoder.backbone), _plan(card)
    with path.open("wb") as file:
        torch.save({"network_weights": weights, "nnssl_adaptation_plan": plan, "citations": [], "card": json.dumps(card)}, file)


def check(path: Path, encoder: Encoder, card: Mapping[str, Any], options: Options) -> float:  # noqa: ARG001
    """Loads as `usage` says."""
    file = torch.load(path, weights_only=True)
    plan = file["nnssl_adaptation_plan"]
    arguments = dict(plan["architecture_plans"]["arch_kwargs"])
    arguments |= {name: locate(arguments[name]) for name in CLASSES if arguments[name]}
    unet: Any = locate(plan["architecture_plans"]["arch_class_name"])
    part: nn.Module = unet(plan["pretrain_num_input_channels"], num_classes=2, **arguments).encoder
    part.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in file["network_weights"].items()}, strict=True)
    part.eval()

    def network(images: Tensor) -> Tensor:
        return part(images)[-1].mean((2, 3, 4))

    return largest_difference(standardised(network, card), encoder, card)


def usage(path: Path, card: Mapping[str, Any], backbone: nn.Module, options: Options) -> str:  # noqa: ARG001
    """The lines: those of nnU-Net as comments, and those of the encoder alone."""
    return "\n".join(
        [
            f'# nnUNetv2_preprocess_like_nnssl -d DATASET -n NAME -pc "{path}" -am like_pretrained',
            "# nnUNetv2_train_pretrained DATASET 3d_fullres FOLD -p ptPlans__NAME... -tr PretrainedTrainer",
            "import pydoc, torch",
            f'file = torch.load("{path}", weights_only=True)',
            'plan = file["nnssl_adaptation_plan"]["architecture_plans"]',
            'arguments, classes = dict(plan["arch_kwargs"]), plan["arch_kwargs_requiring_import"]',
            "arguments.update({name: pydoc.locate(arguments[name]) for name in classes if arguments[name]})",
            f'network = pydoc.locate(plan["arch_class_name"])({card["channels"]}, num_classes=2, **arguments).encoder',
            'weights = {name.removeprefix("encoder."): value for name, value in file["network_weights"].items()}',
            "network.load_state_dict(weights, strict=True)",
            *features_lines(card),
            "features = features[-1].mean((2, 3, 4))",
        ]
    )


def _plan(card: Mapping[str, Any]) -> dict[str, Any]:
    """nnssl's adaptation plan. `spacing` is None where volumes have no fixed one: nnU-Net then takes its own."""
    spacing = card["config"]["data"].get("spacing_mm")
    size = list(card["size"])
    return {
        "architecture_plans": {
            "arch_class_name": _UNET,
            "arch_kwargs": architecture(card["backbone"]["width"]),
            "arch_kwargs_requiring_import": list(CLASSES),
        },
        "pretrain_plan": {
            "configurations": {"medssl": {"spacing": list(spacing) if isinstance(spacing, list | tuple) else None, "patch_size": size}}
        },
        "pretrain_num_input_channels": card["channels"],
        "recommended_downstream_patchsize": size,
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
        "key_to_lpe": None,
    }
