"""Does it work for everybody? Every score by site, scanner, sex, age band and view, where the table knows them; and whether the frozen
features give the hospital away.

Intervals are those of the bootstrap over the patients of the group. A small group's score is left in the table, marked: it says little.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.evaluate.stats.bootstrap import Resamples, interval, resample_scores
from medssl.evaluate.stats.metrics import Metric, accuracy, auroc, score
from medssl.evaluate.task import Task

SMALL = 20  # patients of a group, or 5 of a class in it, below which a score says little
_SMALL_CLASS = 5
_MOST = 12  # groups of one kind, the largest ones
_BANDS = (18, 40, 60, 80)  # years
_RESAMPLES = 300
_UNITS = {"Y": 1.0, "M": 1 / 12, "W": 1 / 52, "D": 1 / 365}
_PROBE_ROWS, _PROBE_PATIENTS = 2000, 10  # images that the site probe looks at; patients that a site needs among them
_PROBE_C = 0.1  # with less, sites that are told apart by few images are all called the largest one

Groups = dict[str, np.ndarray]


def groups_of(table: pd.DataFrame) -> Groups:
    """By site, sex, age band, view and scanner: what each row of the table belongs to, "" where it is not known. Only what divides the
    rows, into two groups at least."""
    named = {"site": "site", "sex": "extra:sex", "age": "extra:age", "view": "extra:view", "scanner": "extra:scanner"}
    found = {by: table[column].to_numpy(dtype=str) for by, column in named.items() if column in table}
    if "age" in found:
        found["age"] = np.array([age_band(age) for age in found["age"].tolist()], dtype=str)
    return {by: values for by, values in found.items() if len(set(values.tolist()) - {""}) > 1}


def age_band(age: str) -> str:
    """ "under 18", "18 to 39" and so on of years ("57", "57.0") or DICOM's age string ("057Y", "006M"); "" for anything else."""
    text, unit = (age[:-1], age[-1].upper()) if age[-1:].upper() in _UNITS else (age, "Y")
    try:
        years = float(text) * _UNITS[unit]
    except ValueError:
        return ""
    if not 0 <= years <= 130:
        return ""
    above = [band for band in _BANDS if years < band]
    if not above:
        return f"{_BANDS[-1]} and over"
    place = _BANDS.index(above[0])
    return f"{_BANDS[place - 1]} to {above[0] - 1}" if place else f"under {above[0]}"


def subgroups(
    task: Task, groups: Groups, draws: Sequence[np.ndarray], metrics: Mapping[str, Metric], *, seed: int, level: float
) -> list[dict[str, Any]]:
    """A row for each group of the test images, largest first: how many, and each score's mean over the draws with its interval, null where
    it cannot be had. `groups`: of the test images; `draws`: their probabilities in each label draw."""
    y, patients = task.y[task.test], task.patients[task.test]
    rows = []
    for by, values in groups.items():
        for value, _ in Counter(values[values != ""].tolist()).most_common(_MOST):
            of = values == value
            rows.append({"by": by, "value": value, **_counts(task, y[of], patients[of]), **_scores(y[of], [p[of] for p in draws], patients[of], metrics, seed, level)})  # fmt: skip # noqa: E501
    return rows


def _counts(task: Task, y: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    everyone, two = len(np.unique(patients)), not task.multilabel and len(task.classes) == 2
    of_class = [len(np.unique(patients[known])) for known in _members(task, y)]
    small = everyone < SMALL or min(of_class) < _SMALL_CLASS
    return {"n_labels": len(y), "n_patients": everyone, "positives": int((y == 1).sum()) if two else None, "small": small}


def _members(task: Task, y: np.ndarray) -> list[np.ndarray]:
    if task.multilabel:
        return [column == says for column in y.T for says in (0, 1)]
    return [y == c for c in range(len(task.classes))]


def _scores(
    y: np.ndarray, draws: Sequence[np.ndarray], patients: np.ndarray, metrics: Mapping[str, Metric], seed: int, level: float
) -> dict[str, dict[str, float] | None]:
    values = resample_scores(y, draws, Resamples(patients, _RESAMPLES, seed), metrics)
    means = {name: float(np.mean([score(y, prob, metrics)[name] for prob in draws])) for name in metrics}
    return {name: _number(means[name], values[name], level) for name in metrics}


def _number(mean: float, values: np.ndarray, level: float) -> dict[str, float] | None:
    low, high = interval(values, level)
    return {"mean": float(mean), "low": low, "high": high} if np.isfinite([mean, low, high]).all() else None


def site_probe(
    features: Float[np.ndarray, "n d"], sites: Shaped[np.ndarray, " n"], patients: Shaped[np.ndarray, " n"], seed: int, level: float
) -> dict[str, Any] | None:
    """Can a linear classifier tell the site from frozen features of patients it has not seen? Accuracy beside the share of the largest
    site, and AUROC, with intervals over patients, by five-fold cross-validation. None with fewer than two sites of ten patients."""
    rows = np.flatnonzero(sites != "")
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _PROBE_ROWS)).astype(int)]
    counts = Counter(site for site, _ in set(zip(sites[rows].tolist(), patients[rows].tolist(), strict=True)))
    large = sorted(site for site, number in counts.items() if number >= _PROBE_PATIENTS)
    if len(large) < 2:
        return None
    rows = rows[np.isin(sites[rows], large)]
    x, y, who = features[rows].astype(np.float64), np.searchsorted(large, sites[rows]), patients[rows]
    prob = np.zeros((len(rows), len(large)))
    for known, held in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(x, y, who):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=_PROBE_C, max_iter=1000)).fit(x[known], y[known])
        prob[np.ix_(held, probe.classes_)] = probe.predict_proba(x[held])
    values = resample_scores(y, [prob], Resamples(who, _RESAMPLES, seed), metrics := {"accuracy": accuracy, "auroc": auroc})
    found = score(y, prob, metrics)
    return {
        "sites": {site: int((y == i).sum()) for i, site in enumerate(large)},
        "chance": float(np.bincount(y).max() / len(y)),
        **{name: _number(found[name], values[name], level) for name in metrics},
    }
