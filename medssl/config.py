"""The configuration: typed, frozen, and closed, the same model for the YAML presets and for `--set a.b=value`.

A plug-in's own options stand in its own file (`Config` there); the tree here holds them by name: `method: {name: pnnclr, alpha: 0.9}`
or, for the defaults, `method: pnnclr`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, cast

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from medssl import plugins
from medssl.errors import UserError, suggest
from medssl.plain_yaml import parse_yaml


class Frozen(BaseModel):
    """The base of every configuration: immutable, no unknown keys, defaults validated too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


Part = TypeVar("Part", bound=Frozen)


class PluginConfig(Frozen):
    """The base of every plug-in's `Config`; `name` is the file's name."""

    name: str


def _choose_plugin(kind: str, value: Any) -> PluginConfig:
    """The `Config` of one plug-in of `kind`, from its name or from a mapping with `name`."""
    if isinstance(value, PluginConfig):
        return value
    options = {"name": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    if "name" not in options:
        raise ValueError(f"needs a name; known: {', '.join(plugins.names(kind))}")
    model = plugins.find(kind, str(options["name"])).Config
    try:
        return model(**options)
    except ValidationError as error:
        raise ValueError("; ".join(_sentence(model, e) for e in error.errors())) from None


SourceChoice = Annotated[Any, BeforeValidator(partial(_choose_plugin, "data.sources"))]
RecipeChoice = Annotated[Any, BeforeValidator(partial(_choose_plugin, "views.recipes"))]
BackboneChoice = Annotated[Any, BeforeValidator(partial(_choose_plugin, "backbones"))]
MethodChoice = Annotated[Any, BeforeValidator(partial(_choose_plugin, "methods"))]


class Limits(Frozen):
    """Limits above which a file is refused, as it may be hostile or broken. `max_array_bytes`: the unpacked size of an array in an .npz
    archive (arrays are read row by row). `seconds`, `memory_bytes`: to decode one image, in the process that decodes it."""

    max_pixels: int = Field(default=64_000_000, gt=0)
    max_array_bytes: int = Field(default=32 * 2**30, gt=0)
    memory_bytes: int = Field(default=4 * 2**30, gt=0)
    seconds: float = Field(default=30, gt=0)


class Transform(Frozen):
    """A step of the preparation by its dotted name and its arguments: `{name: monai.transforms.AdjustContrast, gamma: 0.8}`.
    `medssl.data.preparation` has the list of allowed names."""

    model_config = ConfigDict(frozen=True, extra="allow", validate_default=True)

    name: str


# Named windows for CT, as (centre, width) in HU; the usual presets of a reading workstation
WINDOWS_HU = {"lung": (-600.0, 1500.0), "soft_tissue": (40.0, 400.0), "bone": (400.0, 1800.0), "brain": (40.0, 80.0)}
_POLICIES = ("header", "percentile", "none")
_PAIR = re.compile(r"(-?\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")


def windows_hu(window: str) -> tuple[tuple[float, float], ...]:
    """The (centre, width) in HU that `data.window` names, one a channel; empty for a policy. Raises ValueError for an unknown name."""
    if window in _POLICIES:
        return ()
    return tuple(_window_hu(part.strip()) for part in window.split(","))


def _window_hu(name: str) -> tuple[float, float]:
    if (pair := _PAIR.fullmatch(name)) and float(pair[2]) > 0:
        return float(pair[1]), float(pair[2])
    if name not in WINDOWS_HU:
        raise ValueError(f"unknown window {name!r}. {suggest(name, [*_POLICIES, *WINDOWS_HU])} Or write centre/width in HU, as -600/1500")
    return WINDOWS_HU[name]


def _join_windows(window: Any) -> Any:
    """[lung, bone] as "lung,bone"."""
    text = ",".join(map(str, window)) if isinstance(window, list | tuple) else str(window)
    if len(windows_hu(text)) > 4:
        raise ValueError("at most 4 windows, one a channel")
    return text


Window = Annotated[str, BeforeValidator(_join_windows)]


class Data(Frozen):
    """`path`: what --data named. `size`: edge of the prepared square image in pixels. `spacing_mm`: edge of its pixels, where images are
    to be brought to one scale; else each is fitted. `window`: how grey values are scaled: header (the file's own window), percentile,
    none (the stored range), or windows in HU for CT, by name (lung, soft_tissue, bone, brain) or as centre/width; several, as in
    lung,bone, become channels. `non_finite`: what to do with an image that holds NaN; `missing_decoder`: with files that no installed
    decoder reads. `transforms`: MONAI's, in place of the preparation. `label`: the column that fine-tuning and the monitor use ("" for
    the only one). `split_seed` belongs to the data, not to the run: an encoder and its fine-tuning share one split. `leaks`: what to do
    with training images of a test patient or with a test image's pixels, in the data's own splits: refuse, drop (from training), allow."""

    path: str = ""
    source: SourceChoice = "folder"
    size: int = Field(default=224, ge=16, le=1024)
    channels: int = Field(default=1, ge=1, le=4)
    spacing_mm: float | None = Field(default=None, gt=0)
    window: Window = "header"
    non_finite: Literal["skip", "zero"] = "skip"
    missing_decoder: Literal["stop", "skip"] = "stop"
    transforms: tuple[Transform, ...] = ()
    label: str = ""
    leaks: Literal["refuse", "drop", "allow"] = "refuse"
    split_seed: int = Field(default=0, ge=0)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    holdout_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    max_bad_fraction: float = Field(default=0.01, ge=0, le=1)
    limits: Limits = Limits()


class Views(Frozen):
    """`recipe`: the random changes of a view. `executor`: the library that makes the views: albumentations in the loader's processes, or
    torch on the device; auto is torch on a GPU."""

    recipe: RecipeChoice = "chest_xray"
    executor: Literal["auto", "albumentations", "torch"] = "auto"


class Train(Frozen):
    """`batch_size`: of all devices together. `lr`: is used as it is, not scaled with the batch size. `micro_batch`: the number of images
    that pass through the encoder at once, to save memory; the loss is still that of the whole batch. `workers`: -1 chooses by the cores.

    The length of a training: `steps` if there is a number; otherwise the steps that `minutes` hold on this machine; otherwise `epochs`,
    but at least `min_steps`. `warmup_epochs` counts as a share of `epochs`."""

    epochs: int = Field(default=100, ge=1)
    min_steps: int = Field(default=0, ge=0)
    minutes: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=256, ge=2)
    micro_batch: int | None = Field(default=None, ge=2)
    compile: bool = False
    lr: float = Field(default=1e-3, gt=0)
    optimiser: Literal["adamw", "sgd", "lars"] = "adamw"
    warmup_epochs: float = Field(default=10, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    save_every_steps: int = Field(default=200, ge=1)
    workers: int = Field(default=-1, ge=-1)
    max_bad_steps: int = Field(default=10, ge=1)


class Monitor(Frozen):
    """Metrics besides the loss. `knn_every_epochs`: how often kNN, linear probe, RankMe and neighbours.png are made. `collapse_std`: a
    smaller spread of the embeddings is a collapse; 1 is a sphere, 0 a point. `on_collapse`: the action after `collapse_steps` in alarm."""

    knn_every_epochs: int = Field(default=10, ge=1)
    knn_neighbours: int = Field(default=20, ge=1)
    log_every_steps: int = Field(default=10, ge=1)
    collapse_std: float = Field(default=0.1, ge=0)
    collapse_steps: int = Field(default=100, ge=1)
    on_collapse: Literal["stop", "warn"] = "stop"


def _join_labels(labels: Any) -> Any:
    """[1pct, 10pct] as "1pct,10pct", and the number 0.1 as text: YAML reads both so."""
    parts = labels if isinstance(labels, list | tuple) else [labels]
    return ",".join(str(part) for part in parts) if all(isinstance(part, str | int | float) for part in parts) else labels


Labels = Annotated[str, BeforeValidator(_join_labels)]


class Finetune(Frozen):
    """`versus`: encoders to compare with: a run folder, an encoder file, or a file with weights of a timm network. `ordered`: the classes
    have an order. `balance`: all classes have the same weight. `neighbours`: of the kNN. `steps` (equal at every fraction), `batch_size`,
    `lr`, `weight_decay`, `layer_decay` (the factor of the learning rate from each layer of a pretrained network to the layer before) and
    `early_stopping` (on a fifth of the drawn patients) are for --mode full."""

    labels: Labels = "10pct"
    mode: Literal["linear", "knn", "full"] = "linear"
    draws: int = Field(default=5, ge=1)
    versus: tuple[str, ...] = ()
    ordered: bool = False
    balance: bool = False
    neighbours: int = Field(default=20, ge=1)
    steps: int = Field(default=300, ge=1)
    batch_size: int = Field(default=32, ge=2)
    lr: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    layer_decay: float = Field(default=0.8, gt=0, le=1)
    early_stopping: bool = True
    bootstraps: int = Field(default=1000, ge=100)


class Tracking(Frozen):
    """`mlflow`: whether a run is sent to MLflow, under the name `experiment`. metrics.jsonl is always written."""

    mlflow: bool = True
    experiment: str = "medssl"


class Config(Frozen):
    """The whole configuration of a run. `device`: "auto" is CUDA if there is a CUDA device, else the CPU."""

    data: Data = Field(default_factory=Data)
    views: Views = Field(default_factory=Views)
    backbone: BackboneChoice = "timm"
    method: MethodChoice = "pnnclr"
    train: Train = Train()
    monitor: Monitor = Monitor()
    finetune: Finetune = Finetune()
    tracking: Tracking = Tracking()
    preset: str = ""
    seed: int = Field(default=0, ge=0)
    device: str = "auto"


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` on top; mappings are merged key by key. If the name of a plug-in changes, its old options are dropped."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, str) and isinstance(value, Mapping) and "name" not in value:
            old = {"name": old}
        if isinstance(old, Mapping) and isinstance(value, str) and "name" in old:
            value = {"name": value}
        switches = isinstance(value, Mapping) and isinstance(old, Mapping) and "name" in value and value["name"] != old.get("name")
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) and not switches else value
    return result


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """`["train.lr=1e-3"]` as the nested mapping {"train": {"lr": 0.001}}; values are read as YAML."""
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(f"--set {assignment!r} is not of the form a.b=value, as in --set train.lr=0.001.")
        value: Any = parse_yaml(text, f"--set {key}")
        for part in reversed(key.split(".")):
            value = {part: value}
        result = merge(result, value)
    return result


def resolve(values: Mapping[str, Any]) -> Config:
    """The validated configuration. Raises UserError that lists every wrong key, and for a misspelt key the most similar one."""
    return resolve_part(Config, values)


def resolve_part(model: type[Part], values: Mapping[str, Any], name: str = "") -> Part:
    """One part of the configuration, with the model `model`; `name` is its key, for messages. Raises UserError as `resolve`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        sentences = "\n".join(f"  {name}{'.' if name else ''}{_sentence(model, e)}" for e in error.errors())
        raise UserError(f"The configuration is wrong:\n{sentences}") from None


def _sentence(model: type[BaseModel], error: Any) -> str:
    where = [str(part) for part in error["loc"]]
    key = ".".join(where)
    if error["type"] == "extra_forbidden":
        for part in where[:-1]:
            model = cast(type[BaseModel], model.model_fields[part].annotation)
        return f"{key}: unknown key. {suggest(where[-1], model.model_fields)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" if error["type"] == "value_error" else f"{key}: {message} (given: {error['input']!r})"


def to_yaml(config: Frozen) -> str:
    """The configuration as YAML, complete and in the tree's order."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
