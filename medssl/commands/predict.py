"""`medssl predict`: a table with the predictions of a classifier for new images or volumes, which are prepared like its training images."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from medssl.config import parse_overrides
from medssl.data.cache import cache_folder, site_key
from medssl.data.store import TO_LPS, NamedImage, Store, Windows, csv_text, list_named_images
from medssl.data.volumes import Volumes, pooled_volumes
from medssl.errors import UserError, count_reasons
from medssl.evaluate import FAR, RESULTS, table_cells, table_columns
from medssl.evaluate.models import (
    Classifier,
    ClassifierCard,
    FeaturesWithThumbnail,
    Statistics,
    classifier_file,
    extract,
    loudest_slices,
    pool,
)
from medssl.evaluate.stats import bracketed
from medssl.files import write_atomically
from medssl.runs.new_images import Trained, check_output, new_data_settings, prepare_new_images, report_new_images
from medssl.runs.resolve_config import list_source, warn_of_table
from medssl.runs.run_dir import CONFIG, RUNS, newest_classifier
from medssl.train.loop import choose_device
from medssl.types import Reporter, Source

_BATCH_SIZE = 1024  # images whose features are in memory at once
_PLACE = ("slice", "row", "column", "x_mm", "y_mm", "z_mm")


@dataclass(frozen=True)
class Table:
    """`rows`: with the header first. `abstained`: the number of images, or volumes, without a decision, as the confidence was too low.
    `left_out`: the reasons of those without a prediction. `slices_left_out`: the number of slices that are missing in predicted volumes."""

    rows: list[list[str]]
    abstained: int = 0
    left_out: list[str] = field(default_factory=list)
    slices_left_out: int = 0


@dataclass(frozen=True)
class Predicted:
    """Of each image, or of each of the `volumes`: calibrated probabilities [n, k], and the share of training images, or volumes, that are
    less unusual [n]. `loudest`: of each volume for each decision the row of the slice, or the number of the window, that spoke loudest."""

    prob: np.ndarray
    far: np.ndarray
    volumes: Volumes | None = None
    loudest: Sequence[np.ndarray] = ()


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
    check_output(out, data, overwrite)
    trained = Trained.by(card.model_dump(mode="json"))
    settings = new_data_settings(trained, data, parse_overrides(sets), "predict")
    source = list_source(settings)
    warn_of_table(reporter, source)
    _say_model(reporter, origin, card)
    store = prepare_new_images(reporter, trained, settings, source)
    report_new_images(reporter, store, source)
    volumes = pooled_volumes(store, card.counted)
    found = _predict(reporter, classifier, statistics, store, volumes, chosen_device)
    table = (_make_volume_table if card.counted == "volumes" else _make_table)(card, store, source, found, abstain_below)
    write_atomically(out, csv_text(table.rows).encode("utf-8", "surrogateescape"))
    reporter.say(
        f"predicted {len(found.prob)} {card.counted}"
        + (f" of {len(volumes.rows)} {'windows' if volumes.windowed else 'slices'}" if volumes is not None else "")
    )
    if table.slices_left_out:
        reporter.say(f"          {table.slices_left_out} slices of these volumes could not be used, such as empty ones at their ends")
    reporter.say(f"          {table.abstained} without a prediction: their confidence is below {abstain_below:g}")
    farther = f"farther away than {FAR:.0%} of the training {card.counted.removeprefix('whole ')}"
    reporter.say(f"          {int((found.far > FAR).sum())} out of distribution, {farther}")
    if table.left_out:
        reporter.warn(
            f"{len(table.left_out)} could not be used and have no prediction ({count_reasons(table.left_out)}); the table names them"
        )
    reporter.say(f"table     {out}")
    reporter.say("          This is research software and not a medical device: do not base a decision about a patient on it.")
    return out


def _predict(
    reporter: Reporter, classifier: Classifier, statistics: Statistics, store: Store, volumes: Volumes | None, device: torch.device
) -> Predicted:
    prob, far, loudest, done = [], [], list[np.ndarray](), 0
    for chosen in _parts(store, volumes):
        rows, starts = (chosen, chosen) if volumes is None else volumes.slices(chosen)
        described = extract(FeaturesWithThumbnail(classifier.encoder), store.inputs, rows, device)
        features = described[:, : classifier.encoder.num_features]
        if volumes is not None:
            each = zip(np.split(rows, starts[1:]), np.split(features, starts[1:]), strict=True)
            loudest += [of_volume[loudest_slices(classifier, own)] for of_volume, own in each]
            features, described = classifier.pool(features, starts), pool(described, starts, "mean")
        prob.append(classifier.probabilities(torch.from_numpy(features)).numpy())
        far.append(statistics.shares(described))
        done += len(rows)
        reporter.progress("predict", done, len(store.inputs))
    return Predicted(np.concatenate(prob), np.concatenate(far), volumes, loudest)


def _parts(store: Store, volumes: Volumes | None) -> Iterator[np.ndarray]:
    """The numbers of all images, or volumes, in parts whose features are in memory at once."""
    if volumes is not None:
        return volumes.blocks(np.arange(len(volumes)))
    return iter(np.array_split(np.arange(len(store.images)), -(-len(store.images) // _BATCH_SIZE)))


def _make_table(card: ClassifierCard, store: Store, source: Source, found: Predicted, abstain_below: float) -> Table:
    """A row for each image; of a volume that is described in windows with the place of the window that spoke loudest."""
    names = table_columns(card.kind, card.classes) + (_loudest_columns(card, _PLACE) if found.loudest else [])
    rows, abstained, left_out = [["file", "index", "patient", *names, "left_out"]], 0, []
    for image in list_named_images(store, source, site_key(cache_folder())):
        cells = [""] * len(names)
        if image.row is None:
            left_out.append(image.left_out)
        else:
            cells, is_open = table_cells(card.kind, card.classes, found.prob[image.row], found.far[image.row], abstain_below)
            windows = found.loudest[image.row].tolist() if found.loudest else []
            cells = cells + [cell for window in windows for cell in _place_cells(store, image.row, window)]
            abstained += is_open
        rows.append([image.file, str(image.index), image.patient, *cells, image.left_out])
    return Table(rows, abstained, left_out)


def _loudest_columns(card: ClassifierCard, what: Sequence[str]) -> list[str]:
    """Of several labels each has its own columns."""
    ends = [f"_{name}" for name in card.classes] if card.kind == "multilabel" else [""]
    return [f"loudest_{name}{end}" for end in ends for name in what]


def _place_cells(store: Store, row: int, window: int) -> list[str]:
    """Where the middle of a window of a row's volume is: the slice, row and column of the prepared volume, and the place in the patient."""
    assert isinstance(store.inputs, Windows)
    centre = store.inputs.centre(window)
    to_lps = store.table[TO_LPS].iat[row] if TO_LPS in store.table else None  # stores of earlier versions have none
    place_mm = [""] * 3 if to_lps is None else [f"{mm:.1f}" for mm in np.reshape(to_lps, (3, 4)) @ (*centre, 1)]
    return [*map(str, centre), *place_mm]


def _make_volume_table(card: ClassifierCard, store: Store, source: Source, found: Predicted, abstain_below: float) -> Table:
    """A row for each volume, with the place of its first slice and of the slice that spoke loudest."""
    assert found.volumes is not None
    names = table_columns(card.kind, card.classes) + _loudest_columns(card, ("file", "index"))
    header = ["volume", "file", "index", "patient", "slices", "slices_left_out", *names, "left_out"]
    rows, abstained, left_out, slices_left_out = [header], 0, [], 0
    for images in _by_volume(store, source, found.volumes):
        used = {image.row: image for image in images if image.row is not None}
        first, missing, key, reason, cells = images[0], len(images) - len(used), images[0].series, "", [""] * len(names)
        if used:
            volume = int(found.volumes.of_rows[next(iter(used))])
            key = str(found.volumes.keys[volume])
            cells, is_open = table_cells(card.kind, card.classes, found.prob[volume], found.far[volume], abstain_below)
            cells = cells + [cell for row in found.loudest[volume].tolist() for cell in (used[row].file, str(used[row].index))]
            abstained += is_open
            slices_left_out += missing
        else:
            reason = Counter(image.left_out for image in images).most_common(1)[0][0]
            left_out.append(reason)
        rows.append([key, first.file, str(first.index), first.patient, str(len(used)), str(missing), *cells, reason])
    return Table(rows, abstained, left_out, slices_left_out)


def _by_volume(store: Store, source: Source, volumes: Volumes) -> list[list[NamedImage]]:
    """The images of each volume, and each image that was left out and of whose series nothing is used, in the order of the source."""
    found: dict[str, list[NamedImage]] = {}
    keys = volumes.keys[volumes.of_rows]
    for number, image in enumerate(list_named_images(store, source, site_key(cache_folder()))):
        key = str(keys[image.row]) if image.row is not None else image.series or f"left out {number}"
        found.setdefault(key, []).append(image)
    return list(found.values())


def _say_model(reporter: Reporter, origin: Path, card: ClassifierCard) -> None:
    training, test = card.training, card.training.test
    reporter.say(f"model     {origin}: {', '.join(card.classes)}")
    labels = f"{training.n_labels} labels of {training.n_patients} patients ({training.labels})"
    reporter.say(f"          {training.mode}, trained on {labels}")
    auroc = f"{test.auroc.mean:.3f}{bracketed(test.auroc)}"
    reporter.say(f"          test AUROC {auroc} on {test.n_labels} {card.counted} of {test.n_patients} patients")
