"""Presets: complete YAML files in `configs/`, chosen by the modality, colour and size of the images and by the device, or by name."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.data.dicom import WITHOUT_HU
from medssl.data.peek import Peek
from medssl.errors import UserError, suggest
from medssl.plain_yaml import read_yaml

_SMALL_EDGE = 64
# The presets of slices. MR, PET and nuclear medicine have no fixed scale of grey values, nor has a CT without HU.
_OF_MODALITY = {"CT": "ct", "MR": "mr", "PT": "mr", "NM": "mr", WITHOUT_HU: "mr"}


def folder() -> Path:
    """`configs/`, inside the installed package or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def choose(look: Peek, device: str, volumes: bool = False) -> str:
    """The name of the preset for images that look so, or for whole `volumes`. CPU presets end in `_cpu`.

    Grey slices get the preset of their modality, by what most images are. The presets for small published sets are for files that know
    of no modality: a brain of 64 pixels is none of them. Of whole volumes, those that are no CT get the preset of MR.
    """
    if volumes:
        groups = by_kind(look.modalities)
        kind = "volume_ct" if groups and max(groups, key=groups.__getitem__) == "ct" else "volume_mr"
        return f"{kind}_cpu" if device == "cpu" else kind
    small = look.edge <= _SMALL_EDGE and not look.modalities
    if look.channels == 3:
        kind = "natural" if small else "colour"
    else:
        groups = by_kind(look.modalities)
        kind = max(groups, key=groups.__getitem__, default="") or ("medmnist" if small else "chest_xray")
    return f"{kind}_cpu" if device == "cpu" else kind


def by_kind(modalities: Mapping[str, int]) -> Counter[str]:
    """The number of images that each kind of preset suits: "ct", "mr", or "" for radiographs and all other modalities."""
    kinds = Counter[str]()
    for name, number in modalities.items():
        kinds[_OF_MODALITY.get(name, "")] += number
    return kinds


def gpu_preset(preset: str) -> str:
    """The GPU preset that belongs to a CPU preset, "" for any other preset."""
    return preset.removesuffix("_cpu") if preset.endswith("_cpu") else ""


def load(preset: str) -> dict[str, Any]:
    """The values of a preset. `preset`: its name, or the path of a YAML file. Raises UserError for an unknown one."""
    own = Path(preset)
    if own.suffix in {".yaml", ".yml"}:
        if not own.is_file():
            raise UserError(f"--preset {preset}: there is no such file.")
        return {**read_yaml(own), "preset": own.stem}
    known = sorted(file.stem for file in folder().glob("*.yaml"))
    if preset not in known:
        raise UserError(f"Unknown preset {preset!r}. {suggest(preset, known)}")
    return {**read_yaml(folder() / f"{preset}.yaml"), "preset": preset}
