"""A label-fraction study: for each fraction, draw and initialisation one classifier, fitted on the drawn labels and scored once.

The modes linear and knn cost one pass of each encoder over the images that are needed, however many fractions and draws there are. Beside
the encoders stand the same network at random ("random"), initialised anew for each draw, so that its intervals hold the initialisation,
too: a pass for each number of a draw; and the raw-pixel classifier ("pixels"), the floor without any network.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from medssl.config import Finetune
from medssl.data.loader import MakeView
from medssl.data.split import LabelFraction
from medssl.data.volumes import Volumes
from medssl.evaluate.cell import Cell
from medssl.evaluate.label_draws import Draw, plan_draws
from medssl.evaluate.models import CellFit, Pixels, Pooling, extract, extract_pooled, pool, take_volumes
from medssl.evaluate.models.attention_probe import fit_attention
from medssl.evaluate.models.cache import CellCache, digest, weights_digest
from medssl.evaluate.models.features import Images
from medssl.evaluate.models.full_finetune import FullTraining, fit_full, predict
from medssl.evaluate.models.knn import fit_knn
from medssl.evaluate.models.linear_probe import fit_probe
from medssl.evaluate.results import LEVEL, Results, summarise_cells
from medssl.evaluate.schema import RunDescription, SiteProbe
from medssl.evaluate.stats.subgroups import site_probe
from medssl.evaluate.task import Task

PIXELS, RANDOM = "pixels", "random"
_OF_FULL = ("steps", "batch_size", "lr", "weight_decay", "early_stopping", "balance")  # the settings that a cell of the mode depends on

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Experiment:
    """What to compare. `table`: a row for each of the `images`, or where there are `volumes` for each volume; the rows of the task are its
    rows. `inits`: encoders by name, the one in question first ("pretrained"). `random`: the untrained network of a draw's number.
    `settings`: mode, draws, bootstraps, and steps, batch size, rates of the full mode, which also needs `make_views`, made as `views` says.
    `cells`: where finished cells are kept. `description`: what results.json says besides the scores."""

    images: Images
    table: pd.DataFrame
    task: Task
    inits: Mapping[str, nn.Module]
    fractions: Sequence[LabelFraction]
    settings: Finetune
    seed: int
    device: torch.device
    volumes: Volumes | None = None
    random: Callable[[int], nn.Module] | None = None
    make_views: MakeView | None = None
    views: str = ""
    precision: torch.dtype | None = None
    workers: int = 0
    cells: Path | None = None
    description: RunDescription = field(default_factory=RunDescription)

    @property
    def pooling(self) -> Pooling:
        """How the exported classifier makes the features of a volume. Full fine-tuning trains on slices, each with the label of its volume,
        and a volume gets the mean of their logits."""
        return "none" if self.volumes is None else "mean" if self.settings.mode == "full" else self.settings.pooling

    @cached_property
    def tested(self) -> str:
        """Digest of the question: the images and labels of the whole task."""
        keys = "\n".join(self.table["pixel_hash"].tolist())
        return digest(keys, self.task.kind, self.task.classes, self.task.y, self.task.test)


@dataclass(frozen=True)
class ExperimentResult:
    """`results` and `cells`; the draw and the fit, with tensors, of the classifier that is exported: of the first initialisation, the first
    draw of the largest fraction; and the `features` of the frozen first encoder for the `rows` that were drawn or tested."""

    results: Results
    cells: Sequence[Cell]
    exported_draw: Draw
    exported_fit: CellFit
    rows: np.ndarray
    features: np.ndarray


def run_experiment(experiment: Experiment, on_progress: OnProgress | None = None) -> ExperimentResult:
    """Fit and score every cell. `on_progress(done, total)` counts cells as 1, and those of the full mode by their steps.

    Raises UserError where a fraction cannot be drawn, and where an encoder or a training gives what is not finite.
    """
    task, mode = experiment.task, experiment.settings.mode
    draws = plan_draws(task, experiment.fractions, experiment.settings.draws, experiment.seed)
    distinct_draws = [draw for draw in draws if draw.number == 0 or len(draw.rows) < len(task.pool)]
    exported_draw = max((draw for draw in draws if draw.number == 0), key=lambda draw: (draw.fraction, str(draw.wanted)))
    fitted = len(experiment.inits) * len(draws if mode == "full" else distinct_draws) + (len(draws) if experiment.random else 0)
    tick = _Counter(fitted * (experiment.settings.steps if mode == "full" else 1) + len(distinct_draws), on_progress)
    first_features = Features(experiment, next(iter(experiment.inits.values())), distinct_draws)
    cells, cache = [], CellCache(experiment.cells)
    exported_fit: CellFit | None = None
    for name, features, draws_of_init in _starts(experiment, first_features, draws, distinct_draws):
        cell_mode = "linear" if name == PIXELS and mode == "full" else mode
        for draw in draws_of_init:
            is_exported = features is first_features and draw is exported_draw
            key = _key(experiment, features, cell_mode, draw, name)
            if (fit := cache.find(key, tensors=is_exported and cell_mode != "knn")) is None:
                fit = _full(experiment, features.network, name, draw, tick) if cell_mode == "full" else features.fit(cell_mode, draw)
                cache.keep(key, fit if is_exported else replace(fit, tensors={}))
                tick(1 if cell_mode != "full" else 0)
            else:
                tick.leave_out(experiment.settings.steps if cell_mode == "full" else 1)
            if is_exported:
                exported_fit = fit
            cells.append(_cell(experiment, draw, cell_mode, name, fit))
    cells.sort(key=lambda cell: (cell.fraction, cell.labels))  # stable: initialisations and draws keep their order
    drawn = {str(wanted): [draw.rows for draw in draws if draw.wanted == wanted] for wanted in experiment.fractions}
    results = summarise_cells(
        task, experiment.table, cells, drawn,
        bootstraps=experiment.settings.bootstraps, seed=experiment.seed, description=experiment.description,
        site_probe=_site_probe(experiment, first_features),
    )  # fmt: skip
    assert exported_fit is not None
    return ExperimentResult(results, cells, exported_draw, exported_fit, first_features.rows, first_features.values)


def _starts(
    experiment: Experiment, first_features: "Features", draws: Sequence[Draw], distinct_draws: Sequence[Draw]
) -> Iterator[tuple[str, "Features", Sequence[Draw]]]:
    """What each classifier starts from and the draws it is fitted on: (name, features, draws). With a frozen encoder, all
    draws of all labels give the same classifier, so it is fitted on `distinct_draws`; an untrained network is another one in each draw,
    and is made when its turn comes."""
    name, *others = experiment.inits
    draws_of_encoder = draws if experiment.settings.mode == "full" else distinct_draws
    yield name, first_features, draws_of_encoder
    if experiment.random is not None:
        for number in sorted({draw.number for draw in draws}):
            draws_of_number = [draw for draw in draws if draw.number == number]
            yield RANDOM, Features(experiment, experiment.random(number), draws_of_number), draws_of_number
    for name in others:
        yield name, Features(experiment, experiment.inits[name], distinct_draws), draws_of_encoder
    yield PIXELS, Features(experiment, Pixels(), distinct_draws), distinct_draws


def _site_probe(experiment: Experiment, first_features: "Features") -> SiteProbe | None:
    """On the training images that were drawn: the test images are asked one question, once."""
    if "site" not in experiment.table:
        return None
    drawn = ~np.isin(first_features.rows, experiment.task.test)
    rows = first_features.rows[drawn]
    sites = experiment.table["site"].to_numpy(dtype=str)[rows]
    return site_probe(first_features.values[drawn], sites, experiment.task.patients[rows], experiment.seed, LEVEL)


class Features:
    """Of one frozen network, for the images or volumes that are drawn or tested: computed in one pass, when they are first needed. Those of
    a volume are the mean and the maximum over its slices; for attention there are those of the slices, too."""

    def __init__(self, experiment: Experiment, network: nn.Module, draws: Sequence[Draw]) -> None:
        self._experiment, self.network = experiment, network
        self.rows = np.unique(np.concatenate([experiment.task.test, *(draw.rows for draw in draws)]))

    @cached_property
    def values(self) -> np.ndarray:
        experiment = self._experiment
        if experiment.pooling == "attention":
            return pool(*self.slices, "mean_max")
        return extract_pooled(self.network, experiment.images, experiment.volumes, self.rows, experiment.device, "mean_max")

    @cached_property
    def weights(self) -> str:
        return weights_digest(self.network)

    def of(self, rows: np.ndarray) -> np.ndarray:
        return self.values[np.searchsorted(self.rows, rows)]

    @cached_property
    def slices(self) -> tuple[np.ndarray, np.ndarray]:
        """The features of the slices of the volumes `rows`, volume by volume, and where each volume begins among them."""
        experiment = self._experiment
        assert experiment.volumes is not None
        rows, starts = experiment.volumes.slices(self.rows)
        return extract(self.network, experiment.images, rows, experiment.device), starts

    def slices_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `slices`, of the volumes with the numbers `rows`."""
        return take_volumes(*self.slices, np.searchsorted(self.rows, rows))

    def fit(self, mode: str, draw: Draw) -> CellFit:
        task, settings = self._experiment.task, self._experiment.settings
        y, patients = task.y[draw.rows], task.patients[draw.rows]
        if mode == "linear" and self._experiment.pooling == "attention":
            learned = fit_attention(*self.slices_of(draw.rows), y, patients, len(task.classes), self._experiment.seed, settings.balance)
            return CellFit(learned.probabilities(*self.slices_of(task.test)), learned.temperature, len(y), learned.tensors())
        given = self.of(draw.rows)
        if mode == "knn":
            return fit_knn(given, y, patients, self.of(task.test), len(task.classes), settings.neighbours)
        balance = "balanced" if settings.balance else None
        probe = fit_probe(given, y, patients, len(task.classes), self._experiment.seed, balance)
        tensors = {"weight": torch.from_numpy(probe.weight), "bias": torch.from_numpy(probe.bias)}
        return CellFit(probe.probabilities(self.of(task.test)), probe.temperature, len(given), tensors)


def _full(experiment: Experiment, network: nn.Module, name: str, draw: Draw, tick: Callable[[int], None]) -> CellFit:
    """A randomly initialised network has no layers worth keeping: all of them learn at the full rate."""
    task = experiment.task
    assert experiment.make_views is not None, "the full mode needs views"
    training = FullTraining(
        experiment.images,
        task.y,
        task.patients,
        len(task.classes),
        experiment.settings,
        experiment.make_views,
        experiment.device,
        layer_decay=1 if name == RANDOM else experiment.settings.layer_decay,
        precision=experiment.precision,
        seed=cell_seed(experiment, draw),
        workers=experiment.workers,
        volumes=experiment.volumes,
    )
    fitted = fit_full(network, draw.rows, training, on_step=lambda: tick(1))
    prob = predict(fitted.classifier, experiment.images, task.test, experiment.device, experiment.volumes).astype(np.float64)
    return CellFit(prob, fitted.temperature, fitted.labels, fitted.classifier.tensors())


def cell_seed(experiment: Experiment, draw: Draw) -> int:
    """It depends on the draw alone: all initialisations see the same batches and views, and hold back the same patients."""
    return int(np.random.SeedSequence((experiment.seed, draw.number)).generate_state(1)[0])


def _key(experiment: Experiment, features: Features, mode: str, draw: Draw, name: str) -> dict[str, Any]:
    """All that a cell depends on."""
    settings = experiment.settings
    own: dict[str, Any] = (
        {"balance": settings.balance, "pooling": experiment.pooling} if mode == "linear" else {"neighbours": settings.neighbours}
    )
    if mode == "full":
        decay = 1 if name == RANDOM else settings.layer_decay
        own = {"decay": decay, "views": experiment.views, "precision": str(experiment.precision), "draw": draw.number}
        own |= {key: getattr(settings, key) for key in _OF_FULL}
    if experiment.cells is None:
        return {}
    drawn = digest(draw.rows, experiment.task.patients[draw.rows].tolist())
    return {"task": experiment.tested, "drawn": drawn, "mode": mode, "weights": features.weights, "seed": experiment.seed, **own}


def _cell(experiment: Experiment, draw: Draw, mode: str, init: str, fit: CellFit) -> Cell:
    assert fit.labels == len(draw.rows), f"{fit.labels} labels were used where {len(draw.rows)} were drawn"
    patients = len(np.unique(experiment.task.patients[draw.rows]))
    return Cell(draw.fraction, str(draw.wanted), draw.number, mode, init, fit.labels, patients, fit.prob, fit.temperature)


class _Counter:
    """Reports the progress. What an earlier run has done is left out of the total, so that the time left is that of the rest."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._done, self._total, self._report = 0, total, on_progress or (lambda _done, _total: None)

    def __call__(self, units: int) -> None:
        self._done += units
        if units:
            self._report(self._done, self._total)

    def leave_out(self, units: int) -> None:
        self._total -= units
        self._report(self._done, self._total)
