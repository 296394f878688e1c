"""`medssl predict`: a table with the predictions of a classifier for new images, which are prepared like its training images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medssl.config import parse_overrides
from medssl.data.cache import cache_folder, site_key
from medssl.data.store import Store, csv_text, list_named_images
from medssl.errors import UserError, count_reasons
from medssl.evaluate import FAR, RESULTS, table_cells, table_columns
from medssl.evaluate.models import Classifier, ClassifierCard, FeaturesWithThumbnail, Statistics, classifier_file, extract
from medssl.evaluate.stats import ends
from medssl.files import write_atomically
from medssl.runs.new_images import Trained, check_output, new_data_settings, prepare_new_images, report_new_images
from medssl.runs.resolve_config import list_source, warn_of_table
from medssl.runs.run_dir import CONFIG, RUNS, newest_classifier
from medssl.train.loop import choose_device
from medssl.types import Reporter, Source

_BATCH_SIZE = 1024  # images whose features are in memory at once


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
    check_output(out, data, overwrite)
    trained = Trained.by(card.model_dump(mode="json"))
    settings = new_data_settings(trained, data, parse_overrides(sets), "predict")
    source = list_source(settings)
    warn_of_table(reporter, source)
    _say_model(reporter, origin, card)
    store = prepare_new_images(reporter, trained, settings, source)
    report_new_images(reporter, store, source)
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
    found = ends(test.auroc)
    auroc = f"{test.auroc.mean:.3f}" + (f" [{found[0]:.3f}, {found[1]:.3f}]" if found else "")
    reporter.say(f"          test AUROC {auroc} on {test.n_labels} images of {test.n_patients} patients")
