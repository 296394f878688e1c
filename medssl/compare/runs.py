"""Several fine-tuning runs joined: which of their encoders were asked the same question, and which one is ahead in what.

Runs ask the same question where they were tested on the same images (of the same patients, with the same truth) in the same mode. Only
then are they drawn in one chart and compared; runs on other test patients stand apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from medssl.compare.differences import Difference, Predictions, difference, resampled_auroc
from medssl.evaluate.stats.bootstrap import Resamples
from medssl.evaluate.stats.metrics import Scores

OURS = "pretrained"
BASELINES = {"random": "random start", "pixels": "raw pixels"}
_PAPER_NAMES = {
    "pnnclr": "pNNCLR",
    "nnclr": "NNCLR",
    "simclr": "SimCLR",
    "dcl": "DCL",
    "moco": "MoCo",
    "byol": "BYOL",
    "simsiam": "SimSiam",
}
_PAPER_NAMES |= {"barlow": "Barlow Twins", "vicreg": "VICReg", "dino": "DINO", "pnnclr_paper": "pNNCLR (paper)"}
_SAME = 1e-9


@dataclass(frozen=True, eq=False)
class Run:
    """`name`: of its folder; `place`: the folder above. `document`: results.json. `predictions`: None where it holds none that can be
    compared."""

    name: str
    place: str
    document: dict[str, Any]
    predictions: Predictions | None

    @property
    def modes(self) -> list[str]:
        """In which its encoder was tested."""
        return list(dict.fromkeys(row["mode"] for row in self.document["summary"] if row["init"] not in BASELINES))

    @property
    def stem(self) -> str:
        """Its name without that of its only mode: linear-pnnclr and full-pnnclr are two tests of one encoder, pnnclr."""
        return self.name.removeprefix(f"{self.modes[0]}-") or self.name if len(self.modes) == 1 else self.name

    @property
    def weights(self) -> str:
        return str(self.document.get("encoder", {}).get("weights_sha256", f"{self.place}/{self.name}"))

    @property
    def method(self) -> str:
        name = str(self.document.get("encoder", {}).get("method", {}).get("name", ""))
        return _PAPER_NAMES.get(name, name)

    @property
    def leaked(self) -> int:
        """Test images that its pretraining had seen."""
        return int((self.document.get("leak_check") or {}).get("leaked", 0))

    @property
    def question(self) -> tuple[Any, ...]:
        """The same for runs on the same test images."""
        task = self.document["task"]
        test = self.predictions.test if self.predictions else f"unknown: {self.place}/{self.name}"
        return test, task["column"], tuple(c["name"] for c in task["classes"])


@dataclass(frozen=True, eq=False)
class Line:
    """One encoder, or one baseline, in one chart: its row of the summary at each fraction. `slot`: the encoder's number, None for a
    baseline."""

    name: str
    run: Run
    init: str
    slot: int | None
    rows: Mapping[str, Mapping[str, Any]]

    def scores(self, labels: str, resamples: Resamples) -> tuple[Predictions, tuple[str, str, str], Scores]:
        """What `difference` compares."""
        assert self.run.predictions is not None
        group = labels, str(self.rows[labels]["mode"]), self.init
        return self.run.predictions, group, resampled_auroc(self.run.predictions, group, resamples)


@dataclass(frozen=True)
class Order:
    """Of one fraction: the line with the highest AUROC, what it gains over each other line, and whether it is ahead of all of them, that
    is, whether the intervals of all these differences leave out zero."""

    labels: str
    first: Line
    gains: Sequence[tuple[Line, Difference]]

    @property
    def ahead(self) -> bool:
        return not self.first.run.leaked and all(gain.low > 0 for _, gain in self.gains)


@dataclass(frozen=True)
class Panel:
    """One question: a data set's test images and a mode, with all that was tried on them."""

    data: str
    mode: str
    lines: Sequence[Line]
    fractions: Sequence[str] = field(default_factory=list)

    @property
    def task(self) -> Mapping[str, Any]:
        return self.lines[0].run.document["task"]

    @property
    def comparable(self) -> bool:
        return len(self.lines) > 1 and all(line.run.predictions is not None for line in self.lines)

    @cached_property
    def orders(self) -> Mapping[str, Sequence[Order]]:
        """By fraction, where two lines or more can be compared: the order of all, and that of the encoders alone where a baseline leads."""
        return {labels: orders for labels in self.fractions if (orders := self._orders(labels))} if self.comparable else {}

    def ahead(self, labels: str) -> Line | None:
        """Which line is ahead of all others at a fraction."""
        order = self.orders.get(labels, [None])[0]
        return order.first if order and order.ahead else None

    def _orders(self, labels: str) -> list[Order]:
        lines = [line for line in self.lines if labels in line.rows]
        document = lines[0].run.document
        predictions, interval = lines[0].run.predictions, document["interval"]
        assert predictions is not None
        resamples = Resamples(predictions.patients, interval["bootstraps"], int(document.get("run", {}).get("seed", 0)))
        orders: dict[Line, Order] = {}
        for among in (lines, [line for line in lines if line.slot is not None]):
            if len(among) > 1:
                first = max(among, key=lambda line: line.rows[labels]["auroc"]["mean"])
                ours = first.scores(labels, resamples)
                gains = [(o, difference(ours, o.scores(labels, resamples), interval["level"])) for o in among if o is not first]
                orders.setdefault(first, Order(labels, first, gains))
        return list(orders.values())


def joined(runs: Sequence[Run]) -> list[Panel]:
    """The panels of these runs, those of one data set side by side, in the order of the runs."""
    names = _named(runs)
    slots = {name: slot for slot, name in enumerate(dict.fromkeys(names.values()))}
    questions: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        questions.setdefault(run.question, []).append(run)
    titles = _titles(questions)
    panels = []
    for question, members in questions.items():
        for mode in dict.fromkeys(mode for run in members for mode in run.modes):
            lines = list(_lines([run for run in members if mode in run.modes], mode, names, slots))
            fractions = {labels: row["fraction"] for line in lines for labels, row in line.rows.items()}
            panels.append(Panel(titles[question], mode, lines, sorted(fractions, key=lambda labels: fractions[labels])))
    return panels


def _named(runs: Sequence[Run]) -> dict[tuple[str, str], str]:
    """A name for each encoder, by its weights and the run's init: the same on all data sets where the runs are called alike."""
    asked: dict[tuple[Any, ...], set[str]] = {}
    for run in runs:
        for mode in run.modes:
            asked.setdefault((run.method, run.stem, mode, run.question), set()).add(run.weights)
    alike = any(len(weights) > 1 for weights in asked.values())
    names: dict[tuple[str, str], str] = {}
    for run in runs:
        own = f"{run.place}/{run.name}" if alike else run.stem
        names.setdefault((run.weights, OURS), f"{run.method} · {own}" if run.method and run.method.lower() != own else run.method)
        for init in (row["init"] for row in run.document["summary"]):
            if init not in {OURS, *BASELINES}:
                names[run.weights, init] = init
    return names


def _titles(questions: Mapping[tuple[Any, ...], Sequence[Run]]) -> dict[tuple[Any, ...], str]:
    """Each question's data set by name; numbered where runs on one data set had other test images or columns."""
    named = {question: _data_name(members[0]) for question, members in questions.items()}
    same: dict[str, list[tuple[Any, ...]]] = {}
    for question, name in named.items():
        same.setdefault(name, []).append(question)
    return {q: name if len(of := same[name]) == 1 else f"{name}, test set {of.index(q) + 1}" for q, name in named.items()}


def _data_name(run: Run) -> str:
    return str(run.document.get("data", {}).get("name", run.document["task"]["column"]))


def _lines(runs: Sequence[Run], mode: str, names: Mapping[tuple[str, str], str], slots: Mapping[str, int]) -> Iterator[Line]:
    """The encoders in their order, then the baselines, each once where several runs have the same numbers of it."""
    kept: list[Line] = []
    told: set[str] = set()
    for run in runs:
        for init in dict.fromkeys(row["init"] for row in run.document["summary"]):
            # a run of the full mode holds its pixels as a linear cell
            of = [row for row in run.document["summary"] if row["init"] == init and (row["mode"] == mode or init == "pixels")]
            rows = {row["labels"]: row for row in sorted(of, key=lambda row: row["mode"] == mode)}
            if init in BASELINES:
                kept = _with_baseline(kept, Line(BASELINES[init], run, init, None, rows))
            elif rows:
                name = names[run.weights, init]
                yield Line(f"{name} ({run.name})" if name in told else name, run, init, slots[name], rows)
                told.add(name)
    counts = {init: sum(line.init == init for line in kept) for init in BASELINES}
    for line in sorted(kept, key=lambda line: list(BASELINES).index(line.init)):
        alone = counts[line.init] == 1
        yield line if alone else Line(f"{line.name} ({line.run.stem})", line.run, line.init, None, line.rows)


def _with_baseline(kept: list[Line], line: Line) -> list[Line]:
    """`kept` and the line, unless its numbers are there; of two that agree the one with more fractions."""
    for i, other in enumerate(kept):
        shared = line.rows.keys() & other.rows.keys()
        if other.init == line.init and shared and all(_close(line.rows[labels], other.rows[labels]) for labels in shared):
            return [*kept[:i], max(other, line, key=lambda one: len(one.rows)), *kept[i + 1 :]]
    return [*kept, line] if line.rows else kept


def _close(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return bool(np.isclose(ours["auroc"]["mean"], theirs["auroc"]["mean"], rtol=0, atol=_SAME)) and ours["draws"] == theirs["draws"]
