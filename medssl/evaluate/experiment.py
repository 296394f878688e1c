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
from medssl.evaluate.cell import Cell
from medssl.evaluate.label_draws import Draw, plan_draws
from medssl.evaluate.models import CellFit, Pixels, extract
from medssl.evaluate.models.cache import CellCache, digest, weights_digest
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
    """What to compare. `inits`: encoders by name, the one in question first ("pretrained"). `random`: the untrained network of a draw's
    number. `settings`: mode, draws, bootstraps, and steps, batch size, rates of the full mode, which also needs `make_views`, made as
    `views` says. `cells`: where finished cells are kept. `description`: what results.json says besides the scores."""

    images: np.ndarray
    table: pd.DataFrame
    task: Task
    inits: Mapping[str, nn.Module]
    fractions: Sequence[LabelFraction]
    settings: Finetune
    seed: int
    device: torch.device
    random: Callable[[int], nn.Module] | None = None
    make_views: MakeView | None = None
    views: str = ""
    precision: torch.dtype | None = None
    workers: int = 0
    cells: Path | None = None
    description: RunDescription = field(default_factory=RunDescription)

    @cached_property
    def tested(self) -> str:
        """Digest of the question: the images and labels of the whole task."""
        keys = "\n".join(self.table["pixel_hash"].tolist())
        return digest(keys, self.task.kind, self.task.classes, self.task.y, self.task.test)


@dataclass(frozen=True)
class ExperimentResult:
    """`results`, and what a user takes away: of the first initialisation the classifier of the first draw of the largest fraction
    (`taken`) with its tensors (`fit`); and, frozen, `features` of the `rows` that were drawn or tested."""

    results: Results
    cells: Sequence[Cell]
    taken: Draw
    fit: CellFit
    rows: np.ndarray
    features: np.ndarray


def run_experiment(request: Experiment, on_progress: OnProgress | None = None) -> ExperimentResult:
    """Fit and score every cell. `on_progress(done, total)` counts cells as 1, and those of the full mode by their steps.

    Raises UserError where a fraction cannot be drawn, and where an encoder or a training gives what is not finite.
    """
    task, mode = request.task, request.settings.mode
    draws = plan_draws(task, request.fractions, request.settings.draws, request.seed)
    once = [draw for draw in draws if draw.number == 0 or len(draw.rows) < len(task.pool)]
    taken = max((draw for draw in draws if draw.number == 0), key=lambda draw: (draw.fraction, str(draw.wanted)))
    fitted = len(request.inits) * len(draws if mode == "full" else once) + (len(draws) if request.random else 0)
    tick = _counter(fitted * (request.settings.steps if mode == "full" else 1) + len(once), on_progress)
    ours = Features(request, next(iter(request.inits.values())), once)
    cells, kept = [], CellCache(request.cells)
    taken_fit: CellFit | None = None
    for name, of_init, its_draws in _starts(request, ours, draws, once):
        how = "linear" if name == PIXELS and mode == "full" else mode
        for draw in its_draws:
            wanted = of_init is ours and draw is taken
            key = _key(request, of_init, how, draw, name)
            if (fit := kept.find(key, tensors=wanted and how != "knn")) is None:
                fit = _full(request, of_init.network, name, draw, tick) if how == "full" else of_init.fit(how, draw)
                kept.keep(key, fit if wanted else replace(fit, tensors={}))
                tick(1 if how != "full" else 0)
            else:
                tick(request.settings.steps if how == "full" else 1)
            if wanted:
                taken_fit = fit
            cells.append(_cell(request, draw, how, name, fit))
    cells.sort(key=lambda cell: (cell.fraction, cell.labels))  # stable: initialisations and draws keep their order
    drawn = {str(wanted): [draw.rows for draw in draws if draw.wanted == wanted] for wanted in request.fractions}
    results = summarise_cells(
        task, request.table, cells, drawn,
        bootstraps=request.settings.bootstraps, seed=request.seed, description=request.description, site_probe=_site_probe(request, ours),
    )  # fmt: skip
    assert taken_fit is not None
    return ExperimentResult(results, cells, taken, taken_fit, ours.rows, ours.values)


def _starts(
    request: Experiment, ours: "Features", draws: Sequence[Draw], once: Sequence[Draw]
) -> Iterator[tuple[str, "Features", Sequence[Draw]]]:
    """What each classifier starts from and the draws it is fitted on: (name, features, draws). A frozen encoder is fitted `once` on all
    labels, for another draw of all of them is the same; an untrained network is another one in each draw, made when its turn comes."""
    name, *others = request.inits
    fixed = draws if request.settings.mode == "full" else once
    yield name, ours, fixed
    if request.random is not None:
        for number in sorted({draw.number for draw in draws}):
            its = [draw for draw in draws if draw.number == number]
            yield RANDOM, Features(request, request.random(number), its), its
    for name in others:
        yield name, Features(request, request.inits[name], once), fixed
    yield PIXELS, Features(request, Pixels(), once), once


def _site_probe(request: Experiment, ours: "Features") -> SiteProbe | None:
    """On the training images that were drawn: the test images are asked one question, once."""
    if "site" not in request.table:
        return None
    drawn = ~np.isin(ours.rows, request.task.test)
    rows = ours.rows[drawn]
    sites = request.table["site"].to_numpy(dtype=str)[rows]
    return site_probe(ours.values[drawn], sites, request.task.patients[rows], request.seed, LEVEL)


class Features:
    """Of one frozen network, for the images that are drawn or tested: computed in one pass, when they are first needed."""

    def __init__(self, request: Experiment, network: nn.Module, draws: Sequence[Draw]) -> None:
        self._request, self.network = request, network
        self.rows = np.unique(np.concatenate([request.task.test, *(draw.rows for draw in draws)]))

    @cached_property
    def values(self) -> np.ndarray:
        return extract(self.network, self._request.images, self.rows, self._request.device)

    @cached_property
    def weights(self) -> str:
        return weights_digest(self.network)

    def of(self, rows: np.ndarray) -> np.ndarray:
        return self.values[np.searchsorted(self.rows, rows)]

    def fit(self, mode: str, draw: Draw) -> CellFit:
        task, settings = self._request.task, self._request.settings
        given, y, patients = self.of(draw.rows), task.y[draw.rows], task.patients[draw.rows]
        if mode == "knn":
            return fit_knn(given, y, patients, self.of(task.test), len(task.classes), settings.neighbours)
        balance = "balanced" if settings.balance else None
        probe = fit_probe(given, y, patients, len(task.classes), self._request.seed, balance)
        tensors = {"weight": torch.from_numpy(probe.weight), "bias": torch.from_numpy(probe.bias)}
        return CellFit(probe.probabilities(self.of(task.test)), probe.temperature, len(given), tensors)


def _full(request: Experiment, network: nn.Module, name: str, draw: Draw, tick: Callable[[int], None]) -> CellFit:
    """A randomly initialised network has no layers worth keeping: all of them learn at the full rate."""
    task = request.task
    assert request.make_views is not None, "the full mode needs views"
    training = FullTraining(
        request.images,
        task.y,
        task.patients,
        len(task.classes),
        request.settings,
        request.make_views,
        request.device,
        layer_decay=1 if name == RANDOM else request.settings.layer_decay,
        precision=request.precision,
        seed=cell_seed(request, draw),
        workers=request.workers,
    )
    fitted = fit_full(network, draw.rows, training, on_step=lambda: tick(1))
    prob = predict(fitted.classifier, request.images, task.test, request.device).astype(np.float64)
    return CellFit(prob, fitted.temperature, fitted.labels, fitted.classifier.tensors())


def cell_seed(request: Experiment, draw: Draw) -> int:
    """It depends on the draw alone: all initialisations see the same batches and views, and hold back the same patients."""
    return int(np.random.SeedSequence((request.seed, draw.number)).generate_state(1)[0])


def _key(request: Experiment, of_init: Features, mode: str, draw: Draw, name: str) -> dict[str, Any]:
    """All that a cell depends on."""
    settings = request.settings
    own: dict[str, Any] = {"balance": settings.balance} if mode == "linear" else {"neighbours": settings.neighbours}
    if mode == "full":
        decay = 1 if name == RANDOM else settings.layer_decay
        own = {"decay": decay, "views": request.views, "precision": str(request.precision), "draw": draw.number}
        own |= {key: getattr(settings, key) for key in _OF_FULL}
    if request.cells is None:
        return {}
    drawn = digest(draw.rows, request.task.patients[draw.rows].tolist())
    return {"task": request.tested, "drawn": drawn, "mode": mode, "weights": of_init.weights, "seed": request.seed, **own}


def _cell(request: Experiment, draw: Draw, mode: str, init: str, fit: CellFit) -> Cell:
    assert fit.labels == len(draw.rows), f"{fit.labels} labels were used where {len(draw.rows)} were drawn"
    patients = len(np.unique(request.task.patients[draw.rows]))
    return Cell(draw.fraction, str(draw.wanted), draw.number, mode, init, fit.labels, patients, fit.prob, fit.temperature)


def _counter(total: int, on_progress: OnProgress | None) -> Callable[[int], None]:
    done = 0

    def tick(units: int) -> None:
        nonlocal done
        if units:
            done += units
            if on_progress is not None:
                on_progress(done, total)

    return tick
