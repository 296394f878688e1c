"""Differences between ways of pretraining and their 95 % intervals, as a table: what compare_pretraining.py prints of its results.

Runs are lines of a file of results. `runs` are those of one variant on one data set, by their seeds.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 200  # of the test patients
FIXED = ("pixels", "weights=", "frozen=")  # variants that no seed changes: one run


class Gain(NamedTuple):
    """A mean difference, and the independent parts of its squared standard error, each with its degrees of freedom."""

    mean: float
    errors2: list[tuple[float, float]]
    seeds: int

    def __str__(self) -> str:
        """The difference with its 95 % interval: Student's t with the degrees of freedom of Welch and Satterthwaite (1946)."""
        error2 = sum(part for part, _ in self.errors2)
        if not self.errors2:
            return f"{self.mean:+.3f}"
        weights = sum(part**2 / freedom for part, freedom in self.errors2)
        half = stats.t.ppf(0.975, error2**2 / weights if weights else RESAMPLES - 1) * error2**0.5
        over = "" if self.seeds > 1 else " over patients"
        return f"{self.mean:+.3f} [{self.mean - half:+.3f}, {self.mean + half:+.3f}]{over}"


def fixed(settings: list[str]) -> bool:
    return settings[:1] != [] and settings[0].startswith(FIXED)


def variants_of(study: dict[str, Any], data: str) -> dict[str, list[str]]:
    """The settings of each variant that is run on a data set: of those of all data sets, and of its own."""
    return {**study["variants"], **study["data"][data].get("variants", {})}


def gain(runs: dict[int, Any], reference: dict[int, Any], column: str) -> Gain | None:
    """The mean difference of two variants on one data set, over seeds and test patients; of one seed over the patients alone. None where
    they have no seed in common.

    The squared standard error has two parts: the variance of the seeds' differences over their number, and the variance of the mean
    difference over the resamples of the patients.
    """

    def at(group: dict[int, Any], seed: int) -> Any:
        first = next(iter(group.values()))
        return first if fixed(first["settings"]) else group.get(seed)

    pairs = [(at(runs, seed), at(reference, seed)) for seed in sorted(runs.keys() | reference.keys())]
    pairs = [(x, y) for x, y in pairs if x is not None and y is not None]
    if not pairs:
        return None
    number = len(pairs)
    gains = np.array([x["scores"][column] - y["scores"][column] for x, y in pairs])
    errors2 = [(float(gains.var(ddof=1)) / number, number - 1.0)] if number > 1 else []
    if all("resamples" in run for pair in pairs for run in pair):
        of_patients = np.mean([np.subtract(x["resamples"][column], y["resamples"][column]) for x, y in pairs], axis=0)
        defined = of_patients[~np.isnan(of_patients)]  # a resample of few patients may lack a class, and has no score then
        errors2 += [(float(defined.var(ddof=1)), len(defined) - 1.0)] if len(defined) > 1 else []
    return Gain(float(gains.mean()), errors2, number)


def mean_gain(gains: list[Gain]) -> Gain:
    """The mean over these data sets, whose seeds and test patients are independent."""
    parts = [(error2 / len(gains) ** 2, freedom) for each in gains for error2, freedom in each.errors2]
    return Gain(sum(each.mean for each in gains) / len(gains), parts, min(each.seeds for each in gains))


def table(study: dict[str, Any], lines: list[dict[str, Any]], against: str, only: list[str]) -> str:
    """Markdown: for each data set a row a variant, and the mean differences over the data sets. `only`: the data sets, if not all."""
    text: list[str] = []
    of_sets: dict[str, dict[str, list[Gain]]] = {}
    files: list[str] = []
    for data in only or study["data"]:
        names = variants_of(study, data)
        found = {name: {line["seed"]: line for line in lines if (line["data"], line["variant"]) == (data, name)} for name in names}
        found = {name: runs for name, runs in found.items() if runs}
        if not found:
            continue
        files.append(study["data"][data]["data"])
        columns = list(next(iter(found.values()))[0]["scores"])
        text += [f"\n## {data}\n", *_head("variant", columns)]
        for name, runs in found.items():
            cells = [f"{sum(run['scores'][column] for run in runs.values()) / len(runs):.3f}" for column in columns]
            for number, column in enumerate(columns if name != against and against in found else []):
                if (difference := gain(runs, found[against], column)) is not None:
                    cells[number] += f" ({difference})"
                    of_sets.setdefault(name, {}).setdefault(column, []).append(difference)
            text.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    sets = len(files)
    # Only what every data set has can be averaged: a mean over other sets would be another question. Two data sets of one file have the
    # same test patients, so their differences are not independent.
    means = {name: {c: mean_gain(each) for c, each in of.items() if len(each) == sets} for name, of in of_sets.items()}
    if sets > 1 and sets == len(set(files)) and (columns := list(dict.fromkeys(column for of in means.values() for column in of))):
        text += [f"\n## Mean difference from {against} over the {sets} data sets\n", *_head("variant", columns)]
        for name, of in means.items():
            cells = [str(of[column]) if column in of else "" for column in columns]
            text += [f"| {name} | {min(each.seeds for each in of.values())} | {' | '.join(cells)} |"] if of else []
    return "\n".join(text)


def _head(first: str, columns: list[str]) -> list[str]:
    return [f"| {first} | seeds | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
