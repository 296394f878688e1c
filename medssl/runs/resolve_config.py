"""The configuration for new data: a preset that suits the images, with the user's flags and --set settings on top."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl import plugins
from medssl.config import VOLUMETRIC, Config, Data, Limits, Tracking, merge, parse_overrides, resolve, resolve_part, windows_hu
from medssl.data.detect import detect
from medssl.data.modality import format_counts, keep_modality
from medssl.data.names import readable_source, with_one_spelling
from medssl.data.patients import PatientOrigin, without_shared_ids
from medssl.data.peek import Peek, may_leave_bits_unused, peek
from medssl.data.store import SETTINGS, Store
from medssl.data.volume_records import as_volumes
from medssl.data.volume_spacing import median_spacing
from medssl.data.walk import following_links
from medssl.errors import UserError
from medssl.runs import presets
from medssl.types import Reporter, Source

_GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "kfd", "dxg")
_SIZE_SETTINGS = ("hidden", "width", "support_size")


def list_source(data: Data, stratum: str = "") -> Source:
    """The source, with all of its records, that the configuration names. Notes say where patients are unknown or guessed, where links
    were not followed, and where folders that medssl has written are left out. `data.limits` are those of the listing, too.

    A table's columns that `data.label` and `stratum` name are read as labels; `stratum` is the label column that an earlier run split the
    patients by.
    """
    settings, names = data.source, [*data.label.split(","), data.label, stratum]
    if "labels" in type(settings).model_fields:
        columns = dict.fromkeys([*settings.labels, *(name.strip() for name in names if name.strip())])
        settings = settings.model_copy(update={"labels": tuple(columns)})
    if getattr(settings, "limits", None) == Limits():  # the source has no limits of its own
        settings = settings.model_copy(update={"limits": data.limits})
    with following_links(data.follow_links) as links:
        try:
            source = plugins.find("data.sources", settings.name).build(settings, data.path)
            source = as_volumes(source, data) if data.volumetric else source
        except UserError as error:
            raise UserError("\n".join([str(error), *links.notes()])) from None
    source = without_shared_ids(with_one_spelling(keep_modality(readable_source(source), data.modality)))
    patients = PatientOrigin.of(source.records).sentences("volumes" if source.whole else "images")
    return replace(source, notes=(*source.notes, *links.notes(), *patients))


def absolute_path(data: str) -> str:
    """What `--data` names, so that it is found from any working directory: a path of the drive as an absolute one, any other name as it
    is."""
    path = Path(data).expanduser()
    return str(path.absolute()) if path.exists() else data


def check_place(data: Data, run: Path) -> None:
    """Raises UserError where the images of a run are no longer where the run found them."""
    source = plugins.find("data.sources", data.source.name)
    if not Path(data.path).expanduser().exists() and not source.recognises(data.path):
        raise UserError(
            f"The images of {run} are not at {data.path} (current folder: {Path.cwd()}): the folder was moved, or its drive is not there. "
            "Say where the same images are now: --data PATH"
        )


def warn_of_table(reporter: Reporter, source: Source) -> None:
    """Warn if the table beside the images could not be used, with what that costs and what to do."""
    if source.table_error:
        reporter.warn(
            f"{source.table_error}\nThe images are used without this table: the patients, labels and splits that it may hold are missing. "
            "Correct the table or name its columns, or leave it out without this warning: --set data.source.table=none"
        )


def flags_and_sets(method: str | None, seed: int | None, device: str | None, sets: Sequence[str]) -> dict[str, Any]:
    """The flags and --set settings as one nested mapping."""
    flags = {"method": method, "seed": seed, "device": device}
    return merge({key: value for key, value in flags.items() if value is not None}, parse_overrides(sets))


def resolve_config(reporter: Reporter, data: str | None, preset: str | None, overrides: dict[str, Any]) -> tuple[Config, Source]:
    """The whole configuration and the source. `overrides`: the result of `flags_and_sets`. Raises UserError for a wrong setting."""
    values, source = _merge_values(reporter, data, preset, overrides)
    return resolve(values), source


def resolve_data_config(reporter: Reporter, data: str | None, preset: str | None, overrides: dict[str, Any]) -> tuple[Data, Source]:
    """The `data` part of `resolve_config`. Methods and backbones are not imported, as that takes seconds."""
    if others := sorted(overrides.keys() - {"data"}):
        raise UserError(f"prepare takes settings of the data only, --set data....; {others[0]} belongs to pretrain.")
    values, source = _merge_values(reporter, data, preset, overrides)
    return _resolve_data(values["data"]), source


def settings_of_result(config: Config) -> Config:
    """The configuration with fixed values for all settings that do not change the result: the data's path and whether links are followed,
    the path of the initial weights (whose digest counts), and those that `--resume --set` may change."""
    free = {
        "data": {"path": "", "follow_links": False},
        "device": "auto",
        "tracking": Tracking().model_dump(),
        "train": {"workers": -1, "save_every_steps": 1, "keep_optimiser": False, "compile": False},
        "monitor": {"on_collapse": "stop"},
        **({"backbone": {"init": ""}} if "init" in type(config.backbone).model_fields else {}),
    }
    return resolve(merge(config.model_dump(), free))


def _merge_values(reporter: Reporter, data: str | None, preset: str | None, overrides: dict[str, Any]) -> tuple[dict[str, Any], Source]:
    """The values of the preset that suits the images, with `overrides` on top; and the source."""
    if data is None:
        raise UserError(
            "Which images? Name them with --data, as in --data chestxray/ or --data scans.csv or --data medmnist:pneumoniamnist. "
            "To try medssl without images of your own: --data phantom."
        )
    kind = detect(data)
    origin: dict[str, Any] = {"data": {"path": absolute_path(data), "source": {"name": kind}}}
    preset_values = {} if preset is None else presets.load(preset)
    of_preset = _for_volumes({"data": preset_values.get("data", {})}, overrides)
    data_config = _resolve_data(merge(merge(of_preset, origin), overrides)["data"])
    source = list_source(data_config)
    warn_of_table(reporter, source)
    windows = len(windows_hu(data_config.window))
    look = peek(source, data_config) if preset is None or (data_config.used_bits is None and may_leave_bits_unused(source)) else None
    if look and look.used_bits and data_config.used_bits is None:
        origin["data"]["used_bits"] = look.used_bits
        reporter.say(
            f"bits      the images use {look.used_bits} of {look.bits} bits: scaled by {look.used_bits}; for all bits: "
            f"--set data.used_bits={look.bits}"
        )
    if preset is None:
        assert look is not None
        device, given = _device_type(overrides.get("device", "auto")), "modality" in _plugin_mapping(overrides.get("data"))
        preset, modality = _choose_preset(reporter, source, look, data_config, device, modality_is_given=given)
        if modality != data_config.modality:
            origin["data"]["modality"], source = modality, keep_modality(source, modality)
        preset_values = presets.load(preset)
    if presets.gpu_preset(preset):
        reporter.say(f"          a small version of the GPU preset {presets.gpu_preset(preset)}")
    if windows and not data_config.sequences:
        origin["data"]["channels"] = windows
    prepared = Store.open(source.root).card["settings"] if source.kind == "store" else {}
    origin["data"] |= {name: prepared[name] for name in SETTINGS if name in prepared}
    preset_values = _for_volumes(_fit_length(_drop_network_settings(preset_values, overrides), overrides), overrides)
    values = merge(merge(merge(preset_values, _keep_sizes(preset_values, overrides)), origin), overrides)
    resolved = _resolve_data(values["data"])
    if text := _describe_windows(resolved):
        reporter.say(f"window    {text}" + ("" if windows else "; for another one: --set data.window=lung"))
    if resolved.spacing_mm == "median":
        spacing = prepared["spacing_mm"] if prepared else _median_spacing(reporter, source, resolved)
        values = merge(values, {"data": {"spacing_mm": spacing}})
    return values, source


def _median_spacing(reporter: Reporter, source: Source, data: Data) -> list[float]:
    """The numbers that stand for `data.spacing_mm=median` from here on: in the run folder, the cards, and for new images."""
    spacing, volumes = median_spacing(source, data)
    reporter.say(f"spacing   {' x '.join(f'{mm:g}' for mm in spacing)} mm (slices, rows, columns), the medians of {volumes} volumes")
    return list(spacing)


def _choose_preset(reporter: Reporter, source: Source, look: Peek, data: Data, device: str, *, modality_is_given: bool) -> tuple[str, str]:
    """The preset that suits the images, and the value of `data.modality` that the preset needs. Both are said, with the reason."""
    windows = len(windows_hu(data.window))
    counts = look.modalities
    if windows:  # a window in HU is for CT
        look = replace(look, channels=1, modalities={"CT": 1})
    whole = _of_volumes(source, data)
    preset = presets.choose(look, device, whole)
    kind = f"{windows} windows" if windows > 1 else "grey" if look.channels == 1 or data.sequences else "colour"
    known = "".join(f"{name}, " for name in counts or look.modalities)
    reporter.say(f"preset    {preset} ({known}{kind} {'volumes' if whole else 'pictures'}, about {look.edge} pixels, on {device})")
    kinds = presets.by_kind(counts)
    if look.channels == 3 or len(kinds) < 2 or source.kind == "store":
        return preset, data.modality
    read = "" if sum(counts.values()) >= len(source.records) else " among the images that were looked at"
    reason = "A window in HU is for CT." if windows else "The preset is that of most images."
    text = f"Several modalities: {format_counts(Counter(counts))}{read}. {reason}"
    if not preset.startswith(("ct", "volume_ct")):
        reporter.warn(text)
    elif not modality_is_given and any(record.reader == "dicom" for record in source.records):
        reporter.warn(
            f"{text} Only the CT is used, as a window in HU fits no other image. To use all images, name another preset: "
            f"--preset {'volume_mr' if whole else 'chest_xray'}{'_cpu' if device == 'cpu' else ''}"
        )
        return preset, "CT"
    else:
        reporter.warn(f"{text} All images get the window in HU, which fits CT only. Keep CT and other images in folders of their own.")
    return preset, data.modality


def _of_volumes(source: Source, data: Data) -> bool:
    """Whether a sample has three axes: as the settings say, or the store, whose preparation is done."""
    card = Store.open(source.root).card["settings"] if source.kind == "store" else {}
    return card.get("volumes", data.volumes) in VOLUMETRIC


def _describe_windows(data: Data) -> str:
    """The windows in HU with their numbers; "" where there are none."""
    window, samples = data.window, "volumes" if data.volumetric else "images"
    each = [f"centre {centre:g} HU, width {width:g} HU" for centre, width in windows_hu(window)]
    return f"{window} ({'; '.join(each)}), the same for all {samples}" if each else ""


def _keep_sizes(preset: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """If the user names another method than the preset's: the widths and the support set size of the preset, which depend on the data
    and the machine."""
    of_preset, of_user = _plugin_mapping(preset.get("method")), _plugin_mapping(overrides.get("method"))
    if "name" not in of_preset or of_user.get("name", of_preset["name"]) == of_preset["name"]:
        return {}
    known = plugins.find("methods", str(of_user["name"])).Config.model_fields
    return {
        "method": {"name": of_user["name"], **{size: of_preset[size] for size in _SIZE_SETTINGS if size in of_preset and size in known}}
    }


def _fit_length(preset: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The preset; where the user names a number of epochs, this is the length: without the preset's own length and least number of steps,
    and with its share of warm-up."""
    of_preset, epochs = preset.get("train", {}), _plugin_mapping(overrides.get("train")).get("epochs")
    if not isinstance(epochs, int):
        return preset
    train = {key: value for key, value in of_preset.items() if key not in ("min_steps", "steps", "minutes")}
    if "warmup_epochs" in train and "epochs" in train:
        train["warmup_epochs"] *= epochs / train["epochs"]
    return {**preset, "train": train}


def _for_volumes(preset: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The preset; without the size of its images if the user asks for whole volumes and the preset is one of images."""
    of_preset, of_user = preset.get("data", {}), _plugin_mapping(overrides.get("data"))
    if of_user.get("volumes") not in VOLUMETRIC or of_preset.get("volumes") in VOLUMETRIC:
        return preset
    return {**preset, "data": {name: value for name, value in of_preset.items() if name not in ("size", "spacing_mm")}}


def _drop_network_settings(preset: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The preset; without its stem and network arguments if the user names another network."""
    of_preset, of_user = _plugin_mapping(preset.get("backbone")), _plugin_mapping(overrides.get("backbone"))
    if of_user.get("model", of_preset.get("model")) == of_preset.get("model"):
        return preset
    return {**preset, "backbone": {"name": of_preset["name"]}} if "name" in of_preset else preset


def _plugin_mapping(value: Any) -> Mapping[str, Any]:
    """The choice of a plug-in, a name or a mapping, as a mapping. Anything else gives {}, as `resolve` refuses it later."""
    return {"name": value} if isinstance(value, str) else value if isinstance(value, Mapping) else {}


def _resolve_data(values: dict[str, Any]) -> Data:
    return resolve_part(Data, values, "data")


def _device_type(name: str) -> str:
    """ "cpu" or "cuda". torch is asked only where there may be a GPU, as its import takes seconds."""
    if name == "auto" and not may_have_gpu():
        return "cpu"
    from medssl.train.loop import choose_device

    return choose_device(name).type


def may_have_gpu() -> bool:
    """Whether a driver has put the file of a GPU into /dev (NVIDIA, a Jetson, AMD, WSL); True where the system is not Linux."""
    return sys.platform != "linux" or any(any(Path("/dev").glob(name)) for name in _GPU_FILES)
