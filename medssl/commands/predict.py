"""`medssl predict`: a table with the predictions of a classifier for new images, which are prepared like its training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl.config import Data, merge, parse_overrides, resolve_part
from medssl.data.cache import cache_folder, site_key
from medssl.data.detect import detect
from medssl.data.prepare import prepare
from medssl.data.store import SETTINGS, Store, contract, csv_text, first_difference, list_named_images
from medssl.data.volume_slices import source_has_slices, store_has_slices
from medssl.data.workers import end_workers
from medssl.errors import UserError, count_reasons
from medssl.evaluate import FAR, RESULTS, table_cells, table_columns
from medssl.evaluate.models import Classifier, ClassifierCard, FeaturesWithThumbnail, Statistics, classifier_file, extract
from medssl.files import write_atomically
from medssl.runs.resolve_config import list_source, warn_of_table
from medssl.runs.run_dir import CONFIG, RUNS, newest_classifier
from medssl.train.loop import choose_device
from medssl.types import Reporter, Source

_BATCH_SIZE = 1024  # images whose features are in memory at once
_SELECTION_OPTIONS = (
    "frames",
    "slices",
    "volumes",
    "derived",
    "burned_in",
    "masks",
    "folders",
)  # options of a source that apply to new data, too


@dataclass(frozen=True)
class Table:
    """`rows`: with the header first. `abstained`: the number of images without a decision, as the confidence was too low. `left_out`: the
    reasons of the images without a prediction."""

    rows: list[list[str]]
    abstained: int
    left_out: list[str]


def predict(
    reporter: Reporter,
    *,
    data: str,
    model: str | None = None,
    out: Path = Path("predictions.csv"),
    abstain_below: float = 0.0,
    device: str | None = None,
    overwrite: bool = False,
    sets: Sequence[str] = (),
) -> Path:
    """Write the table and return its path. Default model: the newest finished fine-tuning in runs/.

    Raises UserError for wrong input: no classifier, data that is prepared in another way than the training data, or a table that exists.
    """
    origin = Path(model) if model else newest_classifier(RUNS)
    if (origin / CONFIG).is_file() and not (origin / RESULTS).is_file():
        raise UserError(f"The fine-tuning in {origin} is not finished. `medssl finetune` with --out {origin} continues it.")
    classifier, statistics, card = classifier_file.load(origin)
    chosen_device = choose_device(device or "auto")
    _check_out(out, data, overwrite)
    settings = _data_settings(card, data, parse_overrides(sets))
    source = list_source(settings)
    warn_of_table(reporter, source)
    _say_model(reporter, origin, card)
    store = _prepare_store(reporter, card, settings, source)
    prob, far = _predict_images(reporter, classifier, statistics, store, chosen_device)
    table = _make_table(card, store, source, prob, far, abstain_below)
    write_atomically(out, csv_text(table.rows).encode("utf-8", "surrogateescape"))
    reporter.say(f"predicted {len(prob)} images")
    reporter.say(f"          {table.abstained} without a prediction: their confidence is below {abstain_below:g}")
    reporter.say(f"          {int((far > FAR).sum())} out of distribution, farther away than {FAR:.0%} of the training images")
    if table.left_out:
        reporter.warn(
            f"{len(table.left_out)} could not be used and have no prediction ({count_reasons(table.left_out)}); the table names them"
        )
    reporter.say(f"table     {out}")
    reporter.say("          This is research software and not a medical device: do not base a decision about a patient on it.")
    return out


def _check_out(out: Path, data: str, overwrite: bool) -> None:
    if out.exists() and not (overwrite and out.is_file()):
        raise UserError(f"{out} exists. Name another file with --out, or add --overwrite to replace it.")
    if not out.absolute().parent.is_dir():
        raise UserError(f"There is no folder for {out}. Make it, or name another file with --out.")
    if Path(data).is_dir() and out.resolve().is_relative_to(Path(data).resolve()):
        raise UserError(f"{out} is inside the data folder, where it would count as a table of labels. Name a file elsewhere with --out.")


def _data_settings(card: ClassifierCard, path: str, overrides: Mapping[str, Any]) -> Data:
    """The configuration of the training data, with the new path and --set on top, and without label settings. Any number of unusable files
    is left out. Raises UserError if a setting differs from that of the classifier's training."""
    if others := sorted(overrides.keys() - {"data"}):
        raise UserError(f"predict takes settings of the data only, --set data....; {others[0]} belongs to finetune.")
    old = card.config["data"]
    kind = detect(path)
    selection = {key: value for key, value in old["source"].items() if key in _SELECTION_OPTIONS and kind == old["source"]["name"]}
    values = {**old, "path": path, "source": {"name": kind, **selection}, "label": "", "max_bad_fraction": 1}
    settings = resolve_part(Data, merge({"data": values}, overrides)["data"], "data")
    new_settings = settings.model_dump(mode="json")
    if found := first_difference(card.contract, {f"data.{key}": new_settings[key] for key in SETTINGS}):
        name, trained, new = found
        raise UserError(f"{name} is {new}, but the classifier was trained with {trained}. Leave it out of --set.")
    return settings


def _prepare_store(reporter: Reporter, card: ClassifierCard, settings: Data, source: Source) -> Store:
    """The source, prepared. Raises UserError if it is prepared in another way than the classifier's training data."""
    store = Store.open(source.root) if source.kind == "store" else None
    if not card.volumes and (store_has_slices(store) if store else source_has_slices(source)):
        raise UserError(
            f"{settings.path} holds slices of volumes (volumes: True), but the classifier was trained on images that are none (volumes: "
            "False). Name images like those, or fine-tune a classifier on slices."
        )
    if store is None:
        store = prepare(source, settings, cache_folder(), lambda done, total: reporter.progress("prepare", done, total))
        end_workers()
    if found := first_difference(card.contract, contract(store.card)):
        name, trained, new = found
        remedy = "Name the images instead of the store, and they are prepared as in the training of the classifier"
        if source.kind != "store":
            remedy = f"Use medssl {card.provenance['medssl']}, which trained it"
        raise UserError(f"{name} is {new} in {settings.path}, but the classifier was trained with {trained}. {remedy}, or fine-tune again.")
    table = store.table
    reporter.say(f"data      {len(table)} images of {table['patient'].nunique()} patients ({source.kind})")
    for note in source.notes:
        reporter.say(f"          {note}")
    return store


def _predict_images(
    reporter: Reporter, classifier: Classifier, statistics: Statistics, store: Store, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities [n, k], and for each image [n] the share of training images that are less unusual."""
    prob, far = [], []
    for rows in np.array_split(np.arange(len(store.images)), -(-len(store.images) // _BATCH_SIZE)):
        features_and_thumbnail = extract(FeaturesWithThumbnail(classifier.encoder), store.images, rows, device)
        features = torch.from_numpy(features_and_thumbnail[:, : classifier.encoder.num_features])
        prob.append(classifier.probabilities(features).numpy())
        far.append(statistics.shares(features_and_thumbnail))
        reporter.progress("predict", int(rows[-1]) + 1, len(store.images))
    return np.concatenate(prob), np.concatenate(far)


def _make_table(card: ClassifierCard, store: Store, source: Source, prob: np.ndarray, far: np.ndarray, abstain_below: float) -> Table:
    names = table_columns(card.kind, card.classes)
    rows, abstained, left_out = [["file", "index", "patient", *names, "left_out"]], 0, []
    for image in list_named_images(store, source, site_key(cache_folder())):
        cells = [""] * len(names)
        if image.row is None:
            left_out.append(image.left_out)
        else:
            cells, is_open = table_cells(card.kind, card.classes, prob[image.row], far[image.row], abstain_below)
            abstained += is_open
        rows.append([image.file, str(image.index), image.patient, *cells, image.left_out])
    return Table(rows, abstained, left_out)


def _say_model(reporter: Reporter, origin: Path, card: ClassifierCard) -> None:
    training, test = card.training, card.training.test
    reporter.say(f"model     {origin}: {', '.join(card.classes)}")
    labels = f"{training.n_labels} labels of {training.n_patients} patients ({training.labels})"
    reporter.say(f"          {training.mode}, trained on {labels}")
    auroc = f"{test.auroc.mean:.3f} [{test.auroc.low:.3f}, {test.auroc.high:.3f}]"
    reporter.say(f"          test AUROC {auroc} on {test.n_labels} images of {test.n_patients} patients")
