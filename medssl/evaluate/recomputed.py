"""The numbers of results.json, computed again from the predictions of the same run.

Means, gains, p-values and the scores of each classifier are all computed again. So are intervals, from the run's seed and number of
resamples; where that takes more than about a second, a part of them, which the content of the document chooses. What needs more than
predictions (subgroups, the site probe, numbers of labels) is not computed again.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from medssl.evaluate.results import metrics_of, non_inferior
from medssl.evaluate.schema import Gain, PairedRow, ResultsDocument, Score
from medssl.evaluate.stats import Resamples, apply_temperature, interval_or_none, p_value
from medssl.evaluate.stats.bootstrap import resample_scores
from medssl.evaluate.stats.metrics import Metric, Prob, Scores, auprc, auroc, score

Group = tuple[str, str, str]  # the fraction's name, mode, init

_ROUNDING = 1e-6
_WEIGHTS = 25_000_000  # of images in resamples, a second or two
_OF_CLASS: dict[str, Metric] = {"auroc": auroc, "auprc": auprc}


class _Number(NamedTuple):
    """A number of the document, or none, and what it should be. `where`: in words."""

    where: str
    stated: float | None
    expected: float | None


class _Interval(NamedTuple):
    """An interval of the document, how its resamples are computed, and how many passes over the test images that takes."""

    where: str
    stated: Score | Gain | PairedRow
    resample: Callable[[], Scores]
    passes: int


def find_contradiction(document: ResultsDocument, y: np.ndarray, patients: np.ndarray, draws: Mapping[Group, Sequence[Prob]]) -> str:
    """The first number of the document that is not what the predictions give, in words; "" where there is none.

    `y`: the truth of the tested images, as Task.y; `patients`: one key for each; `draws`: of each group the probabilities of each draw.
    """
    tested = (y == 1).sum(axis=0) if y.ndim > 1 else np.bincount(y, minlength=len(document.task.classes))
    if tested.tolist() != [one.test for one in document.task.classes]:
        return "the number of tested images of a class"
    again = _Recomputed(document, y, patients, draws)
    try:
        for where, stated, expected in again.numbers():
            if not _same(stated, expected):
                return where
        for interval in again.affordable_intervals():
            found = interval_or_none(interval.resample(), document.interval.level)
            if not (_same(interval.stated.low, found["low"]) and _same(interval.stated.high, found["high"])):
                return f"the interval of {interval.where}"
    except _Unknown as error:
        return str(error)
    return ""


class _Unknown(Exception):
    """Something is named of which there are no predictions."""


class _Recomputed:
    """What `find_contradiction` compares."""

    def __init__(self, document: ResultsDocument, y: np.ndarray, patients: np.ndarray, draws: Mapping[Group, Sequence[Prob]]) -> None:
        self._document, self._y, self._patients, self._draws = document, y, patients, draws
        self._metrics = metrics_of(document.task.kind)
        self._resamples = Resamples(patients, document.interval.bootstraps, document.run.seed)
        self._values = cache(self._resample)
        self._mean = cache(self._compute_mean)
        self._first = document.summary[0].init

    def numbers(self) -> Iterator[_Number]:
        """All but ends of intervals, in the order of the document."""
        for cell in self._document.cells:
            group, where = (cell.labels, cell.mode, cell.init), f"{cell.init} at {cell.labels} in draw {cell.draw}"
            probs, temperatures = self._of(group), self._temperatures(group)
            if not 0 <= cell.draw < len(probs):
                raise _Unknown(where)
            for name, stated in cell.test.items():
                prob = self._scaled(probs[cell.draw], temperatures[cell.draw]) if name == "ece_scaled" else probs[cell.draw]
                yield _Number(f"{name} of {where}", stated, score(self._y, prob, {name: self._metric(name)})[name])
        for where, stated, group, name, one_class in self._scores():
            yield _Number(where, stated.mean, self._mean(group, name, one_class))
        for where, stated, ours, theirs in self._gains():
            yield _Number(where, stated.auroc_gain, self._mean(ours, "auroc") - self._mean(theirs, "auroc"))
            if isinstance(stated, PairedRow):
                yield _Number(f"the p-value of {where}", stated.p_delong, self._p(ours, theirs))
        if saved := self._document.labels_saved:
            at_chance, reached = non_inferior(saved.auroc, saved.by_fraction)
            if (at_chance, reached) != (saved.at_chance, saved.reached):
                raise _Unknown("the labels that are saved")

    def affordable_intervals(self) -> Iterator[_Interval]:
        """Those that are computed again: at least one, and all where the test has few images and resamples."""
        passes = _WEIGHTS // (len(self._y) * self._document.interval.bootstraps)
        content = self._document.model_dump_json().encode()
        intervals = sorted(self._intervals(), key=lambda one: hashlib.sha256(content + one.where.encode()).digest())
        for number, interval in enumerate(intervals):
            passes -= interval.passes
            if number and passes < 0:
                return
            yield interval

    def _intervals(self) -> Iterator[_Interval]:
        classes = len(self._document.task.classes)
        for where, stated, group, name, one_class in self._scores():
            passes = len(self._of(group)) * (classes if classes > 2 and one_class is None else 1)
            yield _Interval(where, stated, lambda which=(group, name, one_class): self._values(*which), passes)
        for where, stated, ours, theirs in self._gains():
            passes = len(self._of(ours)) + len(self._of(theirs))
            yield _Interval(where, stated, lambda a=ours, b=theirs: self._values(a, "auroc") - self._values(b, "auroc"), passes)

    def _scores(self) -> Iterator[tuple[str, Score, Group, str, int | None]]:
        """Every score with an interval: in words, as stated, its group and metric, and its class where it is one class's."""
        names = [one.name for one in self._document.task.classes]
        for row in self._document.summary:
            group, where = (row.labels, row.mode, row.init), f"{row.init} at {row.labels}"
            for name in ("auroc", *row.__pydantic_extra__):
                yield f"{name} of {where}", row.score(name), group, name, None
            for one in row.per_class:
                if one.name not in names:
                    raise _Unknown(f"the class {one.name!r} of {where}")
                for name in _OF_CLASS:
                    yield f"{name} of the class {one.name!r} of {where}", getattr(one, name), group, name, names.index(one.name)
        if saved := self._document.labels_saved:
            yield f"auroc of {saved.versus} at {saved.at}", saved.auroc, (saved.at, saved.mode, saved.versus), "auroc", None

    def _gains(self) -> Iterator[tuple[str, PairedRow | Gain, Group, Group]]:
        """Every gain: in words, as stated, whose gain, and over whom. Raw pixels have a mode of their own."""
        for row in self._document.paired:
            theirs = [group for group in self._draws if (group[0], group[2]) == (row.labels, row.versus)]
            where = f"the gain over {row.versus} at {row.labels}"
            if not theirs:
                raise _Unknown(where)
            yield where, row, (row.labels, row.mode, self._first), theirs[0]
        if saved := self._document.labels_saved:
            for gain in saved.by_fraction:
                where = f"the gain at {gain.labels} over {saved.versus} at {saved.at}"
                yield where, gain, (gain.labels, saved.mode, self._first), (saved.at, saved.mode, saved.versus)

    def _of(self, group: Group) -> Sequence[Prob]:
        if group not in self._draws:
            raise _Unknown(f"{group[2]} at {group[0]}")
        return self._draws[group]

    def _metric(self, name: str) -> Metric:
        if name not in self._metrics:
            raise _Unknown(f"the score {name!r}")
        return self._metrics[name]

    def _temperatures(self, group: Group) -> list[float]:
        found = [cell.temperature for cell in self._document.cells if (cell.labels, cell.mode, cell.init) == group]
        if len(found) != len(self._of(group)):
            raise _Unknown(f"the number of draws of {group[2]} at {group[0]}")
        return found

    def _scaled(self, prob: Prob, temperature: float) -> Prob:
        return apply_temperature(prob, temperature, self._document.task.kind == "multilabel")

    def _asked(self, group: Group, name: str, one_class: int | None) -> tuple[np.ndarray, list[Prob], dict[str, Metric]]:
        """The truth, the probabilities of each draw and the metric of a score."""
        draws, metric = list(self._of(group)), {name: self._metric(name)}
        if one_class is not None:
            truth = self._y[:, [one_class]] if self._y.ndim > 1 else (self._y == one_class).astype(int)[:, None]
            return truth, [prob[:, [one_class]] for prob in draws], metric
        if name == "ece_scaled":
            draws = [self._scaled(*one) for one in zip(draws, self._temperatures(group), strict=True)]
        return self._y, draws, metric

    def _compute_mean(self, group: Group, name: str, one_class: int | None = None) -> float:
        truth, draws, metric = self._asked(group, name, one_class)
        return float(np.mean([score(truth, prob, metric)[name] for prob in draws]))

    def _resample(self, group: Group, name: str, one_class: int | None = None) -> Scores:
        truth, draws, metric = self._asked(group, name, one_class)
        return resample_scores(truth, draws, self._resamples, metric)[name]

    def _p(self, ours: Group, theirs: Group) -> float | None:
        """Of two classes, as results have it."""
        if len(self._document.task.classes) != 2 or self._y.ndim > 1:
            return None
        scores = [[prob[:, 1] for prob in self._of(group)] for group in (ours, theirs)]
        p = p_value(self._y == 1, scores[0], scores[1], self._patients)
        return None if math.isnan(p) else p


def _same(stated: float | None, expected: float | None) -> bool:
    return stated is expected if stated is None or expected is None else abs(stated - expected) < _ROUNDING
