"""The report of a finished fine-tuning, made from its run folder and the prepared images.

`medssl finetune` and `medssl report` both write the report with this function, so their pages are equal.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from medssl.data.volumes import pooled_volumes
from medssl.errors import UserError
from medssl.evaluate.experiment import PIXELS
from medssl.evaluate.label_draws import headline_fraction
from medssl.evaluate.models import LoudestSlices, classifier_file, extract_pooled
from medssl.evaluate.predictions import Predictions, read_predictions
from medssl.evaluate.schema import PREDICTIONS, SPLITS, ResultsDocument
from medssl.evaluate.task import label_numbers
from medssl.planes import Planes
from medssl.report import CurveInputs, ImageInputs, Pictures, draw_curves, draw_pictures, write_report
from medssl.report.run_files import REPORT, write_figures
from medssl.runs.dataset import evenly_spaced, open_store_of_run

_POOL = 5000  # labelled training images, or slices of volumes, among which neighbours are looked for
_OF_IMAGES = "map of the features, neighbours and Grad-CAM"
_NO_WEIGHTS = f"A nearest-neighbour classifier has no weights to keep, so this page has no {_OF_IMAGES}."
_NOT_READ = f"The classifier or the prepared images could not be used when this page was made, so it has no {_OF_IMAGES}."


def write_run_report(run: Path, document: ResultsDocument, device: torch.device, page: Path | None = None, replace: bool = False) -> str:
    """Write report.html and figures/ of a run, or the `page` alone. Returns what is missing on it and why, "" where nothing is.

    Raises UserError where something is missing and the page exists, unless it may be replaced: it may hold what is missing now.
    """
    pictures, missing = make_pictures(run, document, device)
    path = page or run / REPORT
    if missing and path.exists() and not replace:
        raise UserError(f"{missing}\n{path} may have them, so it is not replaced. Add --overwrite to replace it, or name another --out.")
    write_report(document, path, pictures)
    if page is None:
        write_figures(run, document, pictures)
    return missing


def make_pictures(run: Path, document: ResultsDocument, device: torch.device) -> tuple[Pictures | None, str]:
    """The pictures as far as they can be made, and what is missing and why, "" where nothing is. The curves are of the fraction that the
    report speaks of first, all else is of the exported classifier, which is the first one of the largest fraction.

    Raises UserError for predictions that are damaged, or that do not belong to the results.
    """
    predictions = read_predictions(run, document)
    if predictions is None:
        return None, f"The pictures are missing, for {run} holds no {PREDICTIONS}."
    curves = _curves(document, predictions)
    if document.summary[0].mode == "knn":
        return draw_curves(curves, _NO_WEIGHTS), ""
    try:
        return draw_pictures(curves, _images(run, document, predictions, device), document.run.seed), ""
    except Exception as error:  # whatever MONAI, scikit-learn, matplotlib or a GPU without memory raise
        return draw_curves(curves, _NOT_READ), f"There is no {_OF_IMAGES}: {reason(error)}"


def reason(error: Exception) -> str:
    """What an error says, in a line."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _curves(document: ResultsDocument, predictions: Predictions) -> CurveInputs:
    """Of all initialisations; raw pixels have a linear classifier beside networks that were fine-tuned, too."""
    task, labels = document.task, headline_fraction(list(dict.fromkeys(row.labels for row in document.summary)))
    rows = [row for row in document.summary if row.labels == labels]
    main = rows[0]
    temperatures = [cell.temperature for cell in document.cells if (cell.labels, cell.mode, cell.init) == (labels, main.mode, main.init)]
    return CurveInputs(
        kind=task.kind,
        classes=tuple(c.name for c in task.classes),
        labels=labels,
        y=predictions.y,
        probs={row.init: predictions.draws[labels, row.mode, row.init] for row in rows if row.mode == main.mode or row.init == PIXELS},
        temperature=temperatures[0] if temperatures else None,
    )


def _images(run: Path, document: ResultsDocument, predictions: Predictions, device: torch.device) -> ImageInputs:
    """Raises UserError where the classifier, the splits or the prepared images are not there, or do not belong to the results."""
    classifier, _, card = classifier_file.load(run)
    training, task = card.training, document.task
    store, classifier = open_store_of_run(run, document.data.fingerprint), classifier.to(device)
    volumes = pooled_volumes(store, task.counted)
    table, labels, draw = store.table if volumes is None else volumes.table, training.labels, training.draw
    drawn = json.loads((run / SPLITS).read_text("utf-8"))["draws"][labels][draw]
    searched = _POOL if volumes is None else max(1, _POOL * len(volumes) // len(volumes.rows))
    test, pool = (_rows(table, keys) for keys in (predictions.keys, evenly_spaced(np.array(drawn), searched)))
    loudest = LoudestSlices(classifier, store.inputs, volumes, device) if volumes is not None else None
    return ImageInputs(
        labels=labels,
        images=store.inputs if loudest is None else loudest,
        test=test,
        sites=table["site"].to_numpy(dtype=str)[test],
        pool=pool,
        pool_y=label_numbers(table.iloc[pool], task.column, [c.name for c in task.classes], task.kind),
        encode=lambda rows: extract_pooled(classifier.encoder, store.inputs, volumes, rows, device, classifier.pool),
        classifier=classifier,
        prob=predictions.draws[labels, training.mode, training.init][draw],
        planes=Planes.of(store.card, store.table),
        **({"part": loudest.part, "where": loudest.where} if loudest is not None else {}),
    )


def _rows(table: pd.DataFrame, keys: np.ndarray) -> np.ndarray:
    """The rows of the images, or volumes, with these keys."""
    rows = pd.Index(table["key"]).get_indexer(pd.Index(keys))
    if (rows < 0).any():
        raise UserError("The prepared images have other keys than the predictions: they were prepared with another site key.")
    return rows
