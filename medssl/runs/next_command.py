"""The command that follows a training, complete and quoted, so that a person can paste it."""

import json
from pathlib import Path

from medssl.config import Config
from medssl.data.split import parse_labels
from medssl.encoder.artefact import CARD
from medssl.errors import UserError
from medssl.evaluate.task import label_columns
from medssl.runs.command_line import command_line
from medssl.runs.dataset import PreparedDataset

_FEW_LABELS, _PATIENTS_A_CLASS = "10pct", 5


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
