"""The configuration for new data: what the user said, over the preset that suits what the pictures look like."""

from collections.abc import Mapping, Sequence
from typing import Any

from medssl import plugins
from medssl.config import Config, Data, Tracking, merge, parse_overrides, resolve, resolve_part, windows_hu
from medssl.data.detect import detect
from medssl.data.peek import peek
from medssl.data.store import SETTINGS, Store
from medssl.errors import UserError
from medssl.runs import presets
from medssl.types import Reporter, Source

_SIZES = ("hidden", "width", "support_size")


def list_source(data: Data) -> Source:
    """The records that the configuration of the data names."""
    return plugins.find("data.sources", data.source.name).build(data.source, data.path)


def flags_and_sets(method: str | None, seed: int | None, device: str | None, sets: Sequence[str]) -> dict[str, Any]:
    """The flags and --set as a nested mapping."""
    flags = {"method": method, "seed": seed, "device": device}
    return merge({key: value for key, value in flags.items() if value is not None}, parse_overrides(sets))


def resolve_config(reporter: Reporter, data: str | None, preset: str | None, said: dict[str, Any]) -> tuple[Config, Source]:
    """The whole configuration and the listed source."""
    values, source = _values(reporter, data, preset, said)
    return resolve(values), source


def resolve_data_config(reporter: Reporter, data: str | None, preset: str | None, said: dict[str, Any]) -> tuple[Data, Source]:
    """The configuration of the data alone, as `resolve_config` has it: methods and backbones, whose imports take seconds, stay out."""
    if others := sorted(said.keys() - {"data"}):
        raise UserError(f"prepare takes settings of the data only, --set data....; {others[0]} belongs to pretrain.")
    values, source = _values(reporter, data, preset, said)
    return _data(values["data"]), source


def settings_of_result(config: Config) -> Config:
    """The part of a configuration that makes the result: without the data's path and all that `--resume --set` may change."""
    free = {
        "data": {"path": ""},
        "device": "auto",
        "tracking": Tracking().model_dump(),
        "train": {"workers": -1, "save_every_steps": 1, "compile": False},
        "monitor": {"on_collapse": "stop"},
    }
    return resolve(merge(config.model_dump(), free))


def _values(reporter: Reporter, data: str | None, preset: str | None, said: dict[str, Any]) -> tuple[dict[str, Any], Source]:
    """What was `said` over the preset that suits what the pictures look like."""
    path = data or "phantom"
    origin: dict[str, Any] = {"data": {"path": path, "source": {"name": detect(path)}}}
    early = _data(merge(origin, said)["data"])
    source = list_source(early)
    windows = len(windows_hu(early.window))
    if preset is None:
        seen, device = peek(source, early), _device(said.get("device", "auto"))
        preset = presets.choose(1 if windows else seen.channels, seen.edge, device)
        kind = f"{windows} windows" if windows else "grey" if seen.channels == 1 else "colour"
        reporter.say(f"preset    {preset} ({kind} pictures, about {seen.edge} pixels, on {device})")
    if presets.stands_for(preset):
        reporter.say(f"          a small stand-in for the GPU preset {presets.stands_for(preset)}")
    if windows:
        origin["data"]["channels"] = windows
    if source.kind == "store":
        prepared = Store.open(source.root).card["settings"]
        origin["data"] |= {name: prepared[name] for name in SETTINGS}
    chosen = _of_that_network(presets.load(preset), said)
    return merge(merge(merge(chosen, _sizes_kept(chosen, said)), origin), said), source


def _sizes_kept(preset: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """The widths and the support set's size of the preset's method, for another method that was named: they belong to data and machine."""
    own, named = _choice(preset.get("method")), _choice(said.get("method"))
    if "name" not in own or named.get("name", own["name"]) == own["name"]:
        return {}
    known = plugins.find("methods", str(named["name"])).Config.model_fields
    return {"method": {"name": named["name"], **{size: own[size] for size in _SIZES if size in own and size in known}}}


def _of_that_network(preset: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """The preset without what it says of its network, where another one was named: stem and arguments are not that one's."""
    own, named = _choice(preset.get("backbone")), _choice(said.get("backbone"))
    if named.get("model", own.get("model")) == own.get("model"):
        return preset
    return {**preset, "backbone": {"name": own["name"]}} if "name" in own else preset


def _choice(value: Any) -> Mapping[str, Any]:
    """A plug-in's choice as a mapping; what is neither that nor a name is left for the model to refuse."""
    return {"name": value} if isinstance(value, str) else value if isinstance(value, Mapping) else {}


def _data(values: dict[str, Any]) -> Data:
    return resolve_part(Data, values, "data")


def _device(name: str) -> str:
    """ "cpu" or "cuda"."""
    from medssl.train.loop import choose_device  # torch takes seconds: `prepare` with a preset does without

    return choose_device(name).type
