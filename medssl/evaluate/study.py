"""A label-fraction study: for each fraction, draw and initialisation one classifier, fitted on the drawn labels and scored once.

The linear mode costs one pass of each encoder over the images that are needed, however many fractions and draws there are. Beside the
encoders stands the raw-pixel logistic regression ("pixels"), the floor without any network.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from medssl.config import Finetune
from medssl.data import split
from medssl.data.loader import MakeView
from medssl.data.split import LabelFraction
from medssl.errors import UserError
from medssl.evaluate.features import Pixels, extract
from medssl.evaluate.finetune import fit_full, predict
from medssl.evaluate.probe import fit_probe, probabilities
from medssl.evaluate.results import Cell, Results, gather
from medssl.evaluate.task import Task

PIXELS = "pixels"
_SMALL, _DRAWS_ABOVE = 0.1, 3  # draws of a larger fraction differ less, and overlap: three will do
_HASH_LETTERS = 16

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What to compare. `inits`: encoders by name, the one in question first ("pretrained", "random"). `settings`: mode, draws,
    bootstraps, and steps, batch size, rates of the full mode, which also needs `make_views`. `facts`: what results.json shall say of
    data, encoder and run, besides the scores."""

    images: np.ndarray
    table: pd.DataFrame
    task: Task
    inits: Mapping[str, nn.Module]
    fractions: Sequence[LabelFraction]
    settings: Finetune
    seed: int
    device: torch.device
    make_views: MakeView | None = None
    precision: torch.dtype | None = None
    workers: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """The store's rows whose labels draw `number` of a fraction gives."""

    wanted: LabelFraction
    fraction: float
    number: int
    rows: np.ndarray


def run_study(request: Request, on_progress: OnProgress | None = None) -> Results:
    """Fit and score every cell. `on_progress(done, total)` counts linear cells as 1 and cells of the full mode by their steps.

    Raises UserError where a fraction cannot be drawn, and where an encoder or a training gives what is not finite.
    """
    draws = plan_draws(request.task, request.fractions, request.settings.draws, request.seed)
    full = request.settings.mode == "full"
    inits = dict(request.inits)
    linear = {PIXELS: Pixels()} if full else {**inits, PIXELS: Pixels()}
    once = [draw for draw in draws if draw.number == 0 or len(draw.rows) < len(request.task.pool)]
    tick = _counter(len(linear) * len(once) + (len(inits) * len(draws) * request.settings.steps if full else 0), on_progress)
    cells: list[Cell] = []
    if full:
        for name, encoder in inits.items():
            cells += _full_cells(request, name, encoder, draws, tick)
    for name, network in linear.items():
        cells += _linear_cells(request, name, network, once, tick)
    cells.sort(key=lambda cell: (cell.fraction, cell.labels))  # stable: initialisations and draws keep their order
    drawn = {str(wanted): [draw.rows for draw in draws if draw.wanted == wanted] for wanted in request.fractions}
    return gather(request.task, request.table, cells, drawn, bootstraps=request.settings.bootstraps, seed=request.seed, facts=request.facts)


def plan_draws(task: Task, fractions: Sequence[LabelFraction], draws: int, seed: int) -> list[Draw]:
    """All draws, asserted: whole patients out of the pool, as many as the fraction says, a smaller fraction inside every larger one.
    `draws` of each fraction up to a tenth of the patients, at most three of a larger one.

    Raises UserError for a fraction that cannot be drawn.
    """
    labels = np.array(task.classes)[task.y[task.pool]]
    patients = task.patients[task.pool]
    everyone = len(np.unique(patients))
    planned = []
    for number in range(draws):
        inner = np.array([], dtype=int)
        for wanted in sorted(set(fractions), key=lambda f: (f.share is None, f.share or f.shots or 0)):
            rows = task.pool[split.draw(patients, labels, wanted, number, seed)]
            chosen = np.unique(task.patients[rows])
            fraction = float(wanted.share or len(chosen) / everyone)
            if fraction > _SMALL and number >= _DRAWS_ABOVE:
                continue
            target = everyone * wanted.share if wanted.share else len(task.classes) * (wanted.shots or 0)
            assert abs(len(chosen) - target) <= len(task.classes), f"{wanted}: {len(chosen)} patients instead of {float(target):.1f}"
            assert np.isin(task.patients[task.pool], chosen).sum() == len(rows), "a patient was cut in two"
            assert wanted.share is None or np.isin(inner, rows).all(), "a smaller fraction lies outside a larger one"
            inner = rows if wanted.share else inner
            planned.append(Draw(wanted, fraction, number, rows))
    return planned


def _linear_cells(request: Request, name: str, network: nn.Module, draws: Sequence[Draw], tick: Callable[[int], None]) -> Iterator[Cell]:
    task = request.task
    needed = np.unique(np.concatenate([task.test, *(draw.rows for draw in draws)]))
    features = extract(network, request.images, needed, request.device)
    on_test = features[np.searchsorted(needed, task.test)]
    for draw in draws:
        given = features[np.searchsorted(needed, draw.rows)]
        probe = fit_probe(given, task.y[draw.rows], task.patients[draw.rows], request.seed)
        yield _cell(request, draw, "linear", name, len(given), probabilities(probe, on_test, len(task.classes)))
        tick(1)


def _full_cells(request: Request, name: str, encoder: nn.Module, draws: Sequence[Draw], tick: Callable[[int], None]) -> Iterator[Cell]:
    """The seed of a cell depends on its draw alone: all initialisations see the same batches and views."""
    task = request.task
    assert request.make_views is not None, "the full mode needs views"
    for draw in draws:
        classifier = fit_full(
            encoder,
            request.images,
            draw.rows,
            task.y,
            len(task.classes),
            request.settings,
            request.make_views,
            device=request.device,
            precision=request.precision,
            seed=int(np.random.SeedSequence((request.seed, draw.number)).generate_state(1)[0]),
            workers=request.workers,
            on_step=lambda: tick(1),
        )
        prob = predict(classifier, request.images, task.test, request.device).astype(np.float64)
        yield _cell(request, draw, "full", name, len(draw.rows), prob)


def _cell(request: Request, draw: Draw, mode: str, init: str, fitted: int, prob: np.ndarray) -> Cell:
    assert fitted == len(draw.rows), f"{fitted} labels were used where {len(draw.rows)} were drawn"
    patients = len(np.unique(request.task.patients[draw.rows]))
    return Cell(draw.fraction, str(draw.wanted), draw.number, mode, init, fitted, patients, prob)


def _counter(total: int, on_progress: OnProgress | None) -> Callable[[int], None]:
    done = 0

    def tick(units: int) -> None:
        nonlocal done
        done += units
        if on_progress is not None:
            on_progress(done, total)

    return tick


def refuse_leak(card: Mapping[str, Any], test_table: pd.DataFrame, allowed: bool = False) -> dict[str, int]:
    """Refuse to test an encoder on what it was pretrained on; returns how many patients and images were compared, and how many images
    leaked: 0, unless leaks are `allowed`.

    `card["pretraining"]` lists the first 16 hex letters of the patient keys and pixel hashes that pretraining saw. Raises UserError with
    the number of test images found among them.
    """
    seen = card["pretraining"]
    patients, pixels = (test_table[column].str[:_HASH_LETTERS].to_numpy(str) for column in ("patient", "pixel_hash"))
    same_patient, same_pixels = np.isin(patients, seen["patients"]), np.isin(pixels, seen["pixels"])
    leaked = int((same_patient | same_pixels).sum())
    if leaked and not allowed:
        raise UserError(
            f"{leaked} of {len(test_table)} test images were seen in pretraining: {len(set(patients[same_patient]))} patients are the "
            f"same, {int(same_pixels.sum())} images have the same pixels. The score would be too good. Fine-tune with the data, the seed "
            "and the data.test_fraction of the pretraining run, or pretrain again without these patients."
        )
    return {"patients": len(set(patients)), "images": len(test_table), "leaked": leaked}
