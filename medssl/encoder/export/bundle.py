"""A bundle of MONAI: a folder with configs/metadata.json, configs/inference.json, models/model.pt and docs/README.md.

`python -m monai.bundle run` writes the features of a folder of images. Reader and preparation are those of medssl, which must be installed,
since MONAI's own readers give other pixels; and so the network is medssl's, too, with its standardisation.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medssl import plugins
from medssl.encoder import model_card
from medssl.encoder.export.comparison import image_line, largest_difference
from medssl.encoder.export.options import Options
from medssl.errors import ReadError
from medssl.nn import Encoder

SUFFIX, TOLERANCE, PACKAGES = "", 1e-5, ()
_READERS = ("dicom", "nifti", "raster")


def refusal(encoder: Encoder, card: Mapping[str, Any]) -> str | None:  # noqa: ARG001 - the contract of a format
    """Spacing and transforms of the preparation have no place in the bundle's transforms, nor has that of whole volumes."""
    if not isinstance(card["size"], int):
        return "it is for whole volumes, whose preparation a bundle's transforms do not have"
    settings = card.get("config", {}).get("data", {})
    changed = [f"data.{name}" for name in ("spacing_mm", "transforms", "used_bits") if settings.get(name)]
    return f"its images were prepared with {' and '.join(changed)}, which a bundle's readers do not apply" if changed else None


def write(encoder: Encoder, card: Mapping[str, Any], path: Path, options: Options) -> None:  # noqa: ARG001
    """Writes the folder."""
    for name in ("configs", "models", "docs"):
        (path / name).mkdir(parents=True)
    _write_json(path / "configs/metadata.json", _metadata(card))
    _write_json(path / "configs/inference.json", _inference(card))
    torch.save({name: tensor.contiguous().cpu() for name, tensor in encoder.state_dict().items()}, path / "models/model.pt")
    lines = "python -m monai.bundle run --config_file configs/inference.json --meta_file configs/metadata.json --dataset_dir images"
    text = f"Features of all images of the folder `images` are written to features.pt, with:\n\n```\n{lines}\n```\n"
    (path / "docs/README.md").write_text(f"{model_card.render(card)}\n{text}", "utf-8")


def check(path: Path, encoder: Encoder, card: Mapping[str, Any], options: Options) -> float:  # noqa: ARG001
    """Loads as `usage` says."""
    return largest_difference(load(path), encoder, card)


def usage(path: Path, card: Mapping[str, Any], backbone: nn.Module, options: Options) -> str:  # noqa: ARG001
    """The lines."""
    return "\n".join(
        [
            "from monai.bundle import ConfigParser",
            f'bundle = ConfigParser.load_config_file("{path}/configs/inference.json")',
            f'parser = ConfigParser(bundle | {{"bundle_root": "{path}"}})',
            'network = parser.get_parsed_content("network")',
            f"features = network(images)  {image_line(card)}",
        ]
    )


def load(path: Path) -> nn.Module:
    """The network of a bundle, by MONAI."""
    from monai.bundle.config_parser import ConfigParser

    config = ConfigParser.load_config_file(str(path / "configs/inference.json"))
    return ConfigParser(config | {"bundle_root": str(path)}).get_parsed_content("network")


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network with exactly these tensors, in evaluation mode. inference.json calls it, as an expression there has no steps."""
    network.load_state_dict(tensors, strict=True)
    return network.eval()


def _inference(card: Mapping[str, Any]) -> dict[str, Any]:
    settings = card.get("config", {}).get("data", {})
    reading = {name: settings[name] for name in ("window", "non_finite") if name in settings}
    return {
        "imports": ["$import glob", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_file": "$@bundle_root + '/features.pt'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "medssl.encoder.artefact.build_encoder",
            "backbone": dict(card["backbone"]),
            "channels": card["channels"],
            "size": card["size"],
            "mean": f"$torch.tensor({card['mean']})",
            "std": f"$torch.tensor({card['std']})",
            "seed": 0,
        },
        "network": {
            "_target_": "medssl.encoder.export.bundle.load_strictly",
            "network": "@network_def",
            "tensors": "$torch.load(@bundle_root + '/models/model.pt', map_location='cpu', weights_only=True)",
        },
        "images": "$sorted(glob.glob(@dataset_dir + '/*'))",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "medssl.encoder.export.bundle.ImageLoader", "options": reading},
                {"_target_": "medssl.data.preparation.as_compose", "size": card["size"], "channels": card["channels"]},
            ],
        },
        "inferer": {"_target_": "medssl.encoder.export.bundle.features_of", "_mode_": "callable"},
        "run": ["$torch.save(@inferer(@network.to(@device), @preprocessing, @images, @device), @output_file)"],
    }


class ImageLoader:
    """Reads a file with the reader that recognises its content. MONAI's LoadImage would take the last reader of a list for every file.
    `options`: of the readers that have them, such as {"window": "lung"}."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        from medssl.data.monai_readers import FileReader

        known = {name: plugins.find("data.readers", name).Config.model_fields for name in _READERS}
        self._readers = [FileReader(name, **{key: options[key] for key in options if key in known[name]}) for name in _READERS]

    def __call__(self, path: str) -> np.ndarray:
        """The pixels [C, H, W] in [0, 1]. Raises ReadError."""
        for reader in self._readers:
            if reader.verify_suffix(path):
                return reader.get_data(reader.read(path))[0]
        raise ReadError(f"unknown: {Path(path).name} is neither DICOM nor NIfTI nor a picture")


@torch.no_grad()
def features_of(network: nn.Module, prepare: Any, images: list[str], device: torch.device) -> dict[str, Tensor]:
    """{file name: features [D]} of image files, one after the other; inference.json calls it."""
    features = {}
    for image in images:
        features[Path(image).name] = network(torch.as_tensor(prepare(image))[None].to(device))[0].cpu()
    return features


def _metadata(card: Mapping[str, Any]) -> dict[str, Any]:
    from importlib.metadata import version

    made_with = card.get("provenance", {})
    shape = {"is_patch_data": False, "dtype": "float32"}
    channels, size = card["channels"], card["size"]
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": "exported by medssl"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"medssl": made_with.get("medssl", version("medssl")), "timm": version("timm")},
        "name": f"{card['backbone'].get('model', card['backbone']['name'])} features",
        "task": "Features of medical images, learnt without labels",
        "description": card.get("intended_use", "Features for research."),
        "authors": "the owner of the encoder",
        "copyright": f"Licence: {card['licence']}",
        "intended_use": card.get("intended_use", "Features for research."),
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "any",
                    "num_channels": channels,
                    "spatial_shape": [size, size],
                    "value_range": [0, 1],
                    "channel_def": {str(number): f"channel {number}" for number in range(channels)},
                    **shape,
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "labels",
                    "num_channels": card["num_features"],
                    "spatial_shape": [],
                    "value_range": [],
                    "channel_def": {"0": "features"},
                    **shape,
                }
            },
        },
    }


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
