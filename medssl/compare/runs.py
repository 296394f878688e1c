"""Groups of comparable fine-tuning runs, and which encoder of a group is better than the others.

Runs are comparable if they were tested on the same images (of the same patients, with the same truth) in the same mode. Only such runs are
drawn in one chart and compared; runs with other test images are in other charts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from medssl.compare.differences import Difference, difference, resampled_auroc
from medssl.evaluate.predictions import Predictions, read_predictions
from medssl.evaluate.schema import ResultsDocument, SummaryRow, TaskFacts
from medssl.evaluate.stats.bootstrap import Resamples
from medssl.evaluate.stats.metrics import Scores
from medssl.report.formatting import data_and_label, init_name, short_amount
from medssl.report.theme import MUTED, SeriesStyle, series_style

OURS = "pretrained"
BASELINES = {"random": SeriesStyle(MUTED, "x"), "pixels": SeriesStyle(MUTED, "+", dotted=True)}  # in the order of the page
_SAME = 1e-9
_TIME_OF_START = re.compile(r"\d{8}-\d{6}-")  # of a run folder that nobody has named


@dataclass(frozen=True, eq=False)
class Run:
    """`name`: of its folder; `parent`: of the folder above. `document`: results.json. `predictions`: None where there are none that can
    be compared: no file, or a task of several labels."""

    name: str
    parent: str
    document: ResultsDocument
    predictions: Predictions | None

    @classmethod
    def read(cls, folder: Path, document: ResultsDocument) -> "Run":
        """The run of a folder. Raises UserError for predictions that are damaged, or that belong to other results."""
        predictions = None if document.task.kind == "multilabel" else read_predictions(folder, document)
        return cls(folder.name, folder.parent.name, document, predictions)

    @property
    def path(self) -> str:
        """The name of the run with the folder above."""
        return f"{self.parent}/{self.name}"

    @property
    def modes(self) -> list[str]:
        """The modes in which the encoder was tested."""
        return list(dict.fromkeys(row.mode for row in self.document.summary if row.init not in BASELINES))

    @property
    def inits(self) -> list[str]:
        """The initialisations of the run, in the order of the document."""
        return list(dict.fromkeys(row.init for row in self.document.summary))

    @property
    def short_name(self) -> str:
        """The name of the run without its mode, if it has only one: linear-pnnclr and full-pnnclr both test the encoder pnnclr. "" for a
        folder that was named by the time of its start, which says nothing of the encoder."""
        if _TIME_OF_START.match(self.name):
            return ""
        return self.name.removeprefix(f"{self.modes[0]}-") or self.name if len(self.modes) == 1 else self.name

    @property
    def title(self) -> str:
        """What the run is: its data, label and method, and its folder where a person has named that."""
        parts = self.data_name, self.method, self.name if self.short_name else ""
        return " · ".join(dict.fromkeys(part for part in parts if part))

    @property
    def data_name(self) -> str:
        return data_and_label(self.document)

    @property
    def weights(self) -> str:
        """Identifies the encoder: equal for all runs with the same weights."""
        return self.document.encoder.weights_sha256 or self.path

    @property
    def method(self) -> str:
        """The name of the method, as in its paper if the encoder's card has it."""
        method = self.document.encoder.method
        return str(method.get("title", method.get("name", "")))

    @property
    def leaked(self) -> int:
        """The number of test images that were in the pretraining data."""
        return self.document.leak_check.leaked if self.document.leak_check else 0

    @property
    def test_set(self) -> tuple[Any, ...]:
        """Identifies the test images: equal for runs on the same test images with the same truth."""
        task = self.document.task
        images = self.predictions.test if self.predictions else f"unknown: {self.path}"
        return images, task.column, tuple(c.name for c in task.classes)


@dataclass(frozen=True, eq=False)
class Curve:
    """One encoder, or one baseline, in one comparison: its row of the summary at each fraction. `number`: that of the encoder, None for a
    baseline."""

    name: str
    run: Run
    init: str
    number: int | None
    rows: Mapping[str, SummaryRow]

    @property
    def style(self) -> SeriesStyle:
        return BASELINES[self.init] if self.number is None else series_style(self.number)

    def scores(self, labels: str, resamples: Resamples) -> tuple[Predictions, tuple[str, str, str], Scores]:
        """The arguments of `difference` for this curve."""
        assert self.run.predictions is not None
        group = labels, self.rows[labels].mode, self.init
        return self.run.predictions, group, resampled_auroc(self.run.predictions, group, resamples)


@dataclass(frozen=True)
class Ranking:
    """At one fraction: the curve with the highest AUROC, and its difference from each other curve."""

    labels: str
    highest: Curve
    differences: Sequence[tuple[Curve, Difference]]

    @property
    def conclusive(self) -> bool:
        """Whether the highest is better than all others: the intervals of all differences exclude zero. Never after a leak."""
        return not self.highest.run.leaked and all(difference.low is not None and difference.low > 0 for _, difference in self.differences)


@dataclass(frozen=True)
class Comparison:
    """All curves on the same test images in the same mode. `data`: the title of the data. `fractions`: the names in increasing order."""

    data: str
    mode: str
    curves: Sequence[Curve]
    fractions: Sequence[str] = field(default_factory=list)

    @property
    def task(self) -> TaskFacts:
        return self.curves[0].run.document.task

    @property
    def comparable(self) -> bool:
        return len(self.curves) > 1 and all(curve.run.predictions is not None for curve in self.curves)

    def shares(self) -> dict[str, float]:
        """The share of all labels, for each fraction."""
        return {labels: row.fraction for curve in self.curves for labels, row in curve.rows.items()}

    @cached_property
    def rankings(self) -> Mapping[str, list[Ranking]]:
        """For each fraction with at least two curves: the ranking of all curves, and if a baseline is highest, that of the encoders."""
        return {labels: rankings for labels in self.fractions if (rankings := self._rankings(labels))} if self.comparable else {}

    def best(self, labels: str) -> Curve | None:
        """The curve that is better than all others at a fraction; None if the intervals do not show one."""
        ranking = self.rankings.get(labels, [None])[0]
        return ranking.highest if ranking and ranking.conclusive else None

    def _rankings(self, labels: str) -> list[Ranking]:
        curves = [curve for curve in self.curves if labels in curve.rows]
        document = curves[0].run.document
        predictions, interval = curves[0].run.predictions, document.interval
        assert predictions is not None
        resamples = Resamples(predictions.patients, interval.bootstraps, document.run.seed)
        rankings: dict[Curve, Ranking] = {}
        for group in (curves, [curve for curve in curves if curve.number is not None]):
            if len(group) > 1:
                highest = max(group, key=lambda curve: curve.rows[labels].auroc.mean)
                ours = highest.scores(labels, resamples)
                others = [other for other in group if other is not highest]
                found = [(other, difference(ours, other.scores(labels, resamples), interval.level)) for other in others]
                rankings.setdefault(highest, Ranking(labels, highest, found))
        return list(rankings.values())


def build_comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """The comparisons of these runs, in the order of the runs; comparisons of one data set follow each other."""
    names = _encoder_names(runs)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names.values()))}
    test_sets: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        test_sets.setdefault(run.test_set, []).append(run)
    titles = _data_titles(test_sets)
    comparisons = []
    for test_set, members in test_sets.items():
        for mode in dict.fromkeys(mode for run in members for mode in run.modes):
            curves = list(_curves([run for run in members if mode in run.modes], mode, names, numbers))
            comparison = Comparison(titles[test_set], mode, curves)
            shares = comparison.shares()
            comparisons.append(replace(comparison, fractions=sorted(shares, key=lambda labels: shares[labels])))
    return comparisons


def _encoder_names(runs: Sequence[Run]) -> dict[tuple[str, str], str]:
    """The name of each encoder, by (weights, init). Runs with the same method and short name have the same name on all data sets. If they
    hold different encoders for the same test images, the name is the path of the run, or a number where nobody has named the run."""
    weights: dict[tuple[Any, ...], set[str]] = {}
    for run in runs:
        for mode in run.modes:
            weights.setdefault((run.method, run.short_name, mode, run.test_set), set()).add(run.weights)
    ambiguous = any(len(different) > 1 for different in weights.values())
    of_method: dict[str, list[str]] = {}  # its encoders without a name of their own
    names: dict[tuple[str, str], str] = {}
    for run in runs:
        own = run.path if ambiguous and run.short_name else run.short_name
        if not own:
            unnamed = of_method.setdefault(run.method, [])
            unnamed += [] if run.weights in unnamed else [run.weights]
            own = f"encoder {unnamed.index(run.weights) + 1}" if ambiguous or not run.method else ""
        names.setdefault((run.weights, OURS), " · ".join(part for part in (run.method, own) if part and part != run.method.lower()))
        names |= {(run.weights, init): init_name(init) for init in run.inits if init not in {OURS, *BASELINES}}
    return names


def _data_titles(test_sets: Mapping[tuple[Any, ...], Sequence[Run]]) -> dict[tuple[Any, ...], str]:
    """The title of each test set: the name of its data, with a number if runs on one data set have different test images or columns."""
    titles: dict[tuple[Any, ...], str] = {}
    for test_set, members in test_sets.items():
        name = members[0].data_name
        same = [other for other, runs in test_sets.items() if runs[0].data_name == name]
        titles[test_set] = name if len(same) == 1 else f"{name}, test set {same.index(test_set) + 1}"
    return titles


def _curves(runs: Sequence[Run], mode: str, names: Mapping[tuple[str, str], str], numbers: Mapping[str, int]) -> Iterator[Curve]:
    """The curves of the encoders in their order, then the baselines. If several runs have equal numbers for a baseline, it comes once."""
    baselines: list[Curve] = []
    used: set[str] = set()
    for run in runs:
        for init in run.inits:
            # in a run of the mode "full", the rows of "pixels" have the mode "linear"
            rows = [row for row in run.document.summary if row.init == init and (row.mode == mode or init == "pixels")]
            by_labels = {row.labels: row for row in sorted(rows, key=lambda row: row.mode == mode)}
            if init in BASELINES:
                baselines = _add_baseline(baselines, Curve(init_name(init), run, init, None, by_labels))
            elif rows:
                name = names[run.weights, init]
                again = f"{name} ({run.name if run.short_name else ', '.join(map(short_amount, by_labels))})"
                yield Curve(again if name in used else name, run, init, numbers[name], by_labels)
                used.add(name)
    for init in BASELINES:
        own = [curve for curve in baselines if curve.init == init]
        yield from (
            own
            if len(own) == 1
            else (replace(curve, name=f"{curve.name} ({curve.run.short_name or names[curve.run.weights, OURS]})") for curve in own)
        )


def _add_baseline(baselines: list[Curve], curve: Curve) -> list[Curve]:
    """`baselines` with `curve` added. Of two baselines with the same numbers, the one with more fractions is kept."""
    for i, other in enumerate(baselines):
        shared = curve.rows.keys() & other.rows.keys()
        if other.init == curve.init and shared and all(_same_scores(curve.rows[labels], other.rows[labels]) for labels in shared):
            return [*baselines[:i], max(other, curve, key=lambda one: len(one.rows)), *baselines[i + 1 :]]
    return [*baselines, curve] if curve.rows else baselines


def _same_scores(ours: SummaryRow, theirs: SummaryRow) -> bool:
    return abs(ours.auroc.mean - theirs.auroc.mean) <= _SAME and ours.draws == theirs.draws
