"""Presets: complete YAML files in `configs/`, chosen by the kind of data and the device, or by name."""

from pathlib import Path
from typing import Any

from medssl.errors import UserError, suggest
from medssl.plain_yaml import read_yaml

_SMALL_EDGE = 64


def folder() -> Path:
    """`configs/`, inside the installed package or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def choose(channels: int, edge: int, device: str) -> str:
    """The name of the preset for images with `channels` channels and an edge of `edge` pixels. CPU presets end in `_cpu`."""
    small = edge <= _SMALL_EDGE
    kind = ("medmnist" if small else "chest_xray") if channels == 1 else ("natural" if small else "colour")
    return f"{kind}_cpu" if device == "cpu" else kind


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
