"""The command that follows a command, complete and quoted, so that a person can paste it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from medssl.config import Config, full_names
from medssl.data.split import parse_labels
from medssl.encoder.artefact import CARD
from medssl.errors import UserError
from medssl.evaluate.task import label_columns
from medssl.runs.dataset import PreparedDataset

_FEW_LABELS, _PATIENTS_A_CLASS = "10pct", 5


def command_line(name: str, options: Mapping[str, object], sets: Sequence[str] = ()) -> str:
    """`medssl NAME` with the options that are not None, quoted for a shell: spaces, brackets and quotes may be in all of them."""
    given = [f"--{option} {shlex.quote(str(value))}" for option, value in options.items() if value is not None]
    return " ".join([f"medssl {name}", *given, *(f"--set {shlex.quote(item)}" for item in sets)])


def pretrain_after_prepare(data: str, preset: str | None, out: Path | None, sets: Sequence[str]) -> str:
    """The pretraining on what was prepared. `data`, `preset`, `out`, `sets`: the options of the preparation. A store in `out` no longer
    needs the settings of the source that it was made from."""
    kept = [item for item in full_names(sets) if not (out and item.startswith("data.source"))]
    return command_line("pretrain", {"data": out or data, "preset": preset}, kept)


def advised_labels(config: Config, dataset: PreparedDataset) -> dict[str, str] | None:
    """The options of the fine-tuning that is advised for this data: `labels`, a tenth of the labels where that is enough, and `label` where
    one of several columns must be chosen; None where the data has no labels."""
    table = dataset.store.table
    chosen: dict[str, str] = {}
    known = [str(name).removeprefix("label:") for name in table.columns if str(name).startswith("label:")]
    if not known:
        return None
    try:
        columns = label_columns(table, config.data.label)
    except UserError:  # several columns, and none was chosen
        chosen, columns = {"label": known[0]}, known[:1]
    train = dataset.roles == "train"
    text = table[[f"label:{column}" for column in columns]].to_numpy(str)[train]
    patients = len(set(dataset.patients[train][(text != "").any(axis=1)].tolist()))
    classes = len(columns) if len(columns) > 1 else len(set(text[:, 0].tolist()) - {""})
    (few,) = parse_labels(_FEW_LABELS)
    return chosen | {"labels": _FEW_LABELS if few.of(patients) >= _PATIENTS_A_CLASS * classes else "all"}


def finetune_after_pretrain(folder: Path) -> str:
    """The fine-tuning of the encoder in `folder`, for the terminal and the report alike: the card holds what `advised_labels` found in the
    data. The card of an older version does not say it. All other settings are in the card."""
    advised = json.loads((folder / CARD).read_text("utf-8")).get("advised_labels", {"labels": _FEW_LABELS})
    if advised is None:
        unlabelled = command_line("finetune", {"encoder": folder})
        return f"{unlabelled} --data PATH, where PATH has images with labels: a table beside them, or class folders"
    return command_line("finetune", {**advised, "encoder": folder})


def predict_after_finetune(folder: Path, config: Config, encoder: Path) -> str:
    """The prediction for the images of a fine-tuning, as an example; after a kNN, which is not exported, the fine-tuning of a linear
    probe."""
    if config.finetune.mode == "knn":
        label = config.data.label or None
        return command_line("finetune", {"label": label, "labels": config.finetune.labels, "mode": "linear", "encoder": encoder})
    source, defaults = config.data.source, type(config.data.source)()
    changed = {name: value for name, value in source.model_dump(mode="json").items() if value != defaults.model_dump(mode="json")[name]}
    sets = [f"data.source.{name}={json.dumps(value)}" for name, value in changed.items()]
    return command_line("predict", {"model": folder, "data": config.data.path, "out": folder / "predictions.csv"}, sets)
