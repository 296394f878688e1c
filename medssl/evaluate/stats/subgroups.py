"""Scores of subgroups: every score by site, scanner, sex, age band and view, where the table knows them; and a probe that shows whether
the frozen features tell the hospital.

Intervals are those of the bootstrap over the patients of the group. A small group's scores stay in the table, marked as uncertain.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.evaluate.cell import Cell
from medssl.evaluate.schema import Score, SiteProbe, SubgroupRow
from medssl.evaluate.stats.bootstrap import Resamples, resample_scores
from medssl.evaluate.stats.intervals import interval_or_none
from medssl.evaluate.stats.metrics import Metric, Scores, accuracy, auroc, score
from medssl.evaluate.task import Task

SMALL = 20  # patients of a group, or 5 of a class in it, below which a score says little
_SMALL_CLASS = 5
_MAX_GROUPS = 12  # of one kind, the largest ones
_BANDS = (18, 40, 60, 80)  # years
_RESAMPLES = 300
_UNITS = {"Y": 1.0, "M": 1 / 12, "W": 1 / 52, "D": 1 / 365}
_PROBE_ROWS, _PROBE_PATIENTS = 2000, 10  # images that the site probe looks at; patients that a site needs among them
_PROBE_C = 0.1  # with a smaller C every image of small sites is assigned to the largest site

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
    task: Task, groups: Groups, cells: Sequence[Cell], metrics: Mapping[str, Metric], *, seed: int, level: float
) -> list[SubgroupRow]:
    """A row for each group of the test images, largest first: how many, and each score's mean over the draws with its interval, None where
    it cannot be had. `groups`: of the test images; `cells`: the draws of one amount of labels, mode and initialisation."""
    return [
        _row(task, by, value, values == value, cells, metrics, seed, level)
        for by, values in groups.items()
        for value, _ in Counter(values[values != ""].tolist()).most_common(_MAX_GROUPS)
    ]


def _row(
    task: Task, by: str, value: str, of: np.ndarray, cells: Sequence[Cell], metrics: Mapping[str, Metric], seed: int, level: float
) -> SubgroupRow:
    y, patients, draws = task.y[task.test][of], task.patients[task.test][of], [cell.prob[of] for cell in cells]
    values = resample_scores(y, draws, Resamples(patients, _RESAMPLES, seed), metrics)
    means = {name: float(np.mean([score(y, prob, metrics)[name] for prob in draws])) for name in metrics}
    n_patients, two_classes = len(np.unique(patients)), not task.multilabel and len(task.classes) == 2
    patients_of_class = [len(np.unique(patients[members])) for members in _members(task, y)]
    return SubgroupRow(
        by=by,
        value=value,
        n_labels=len(y),
        n_patients=n_patients,
        positives=int((y == 1).sum()) if two_classes else None,
        small=n_patients < SMALL or min(patients_of_class) < _SMALL_CLASS,
        labels=cells[0].labels,
        mode=cells[0].mode,
        init=cells[0].init,
        **{name: _score(means[name], values[name], level) for name in metrics},
    )


def _members(task: Task, y: np.ndarray) -> list[np.ndarray]:
    """Which images have each class, or have and lack each label."""
    if task.multilabel:
        return [column == presence for column in y.T for presence in (0, 1)]
    return [y == c for c in range(len(task.classes))]


def _score(mean: float, values: Scores, level: float) -> Score | None:
    return Score(mean=mean, **interval_or_none(values, level)) if np.isfinite(mean) else None


def site_probe(
    features: Float[np.ndarray, "n d"], sites: Shaped[np.ndarray, " n"], patients: Shaped[np.ndarray, " n"], seed: int, level: float
) -> SiteProbe | None:
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
    for training, validation in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(x, y, who):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=_PROBE_C, max_iter=1000)).fit(x[training], y[training])
        prob[np.ix_(validation, probe.classes_)] = probe.predict_proba(x[validation])
    values = resample_scores(y, [prob], Resamples(who, _RESAMPLES, seed), metrics := {"accuracy": accuracy, "auroc": auroc})
    means = score(y, prob, metrics)
    return SiteProbe(
        sites={site: int((y == i).sum()) for i, site in enumerate(large)},
        chance=float(np.bincount(y).max() / len(y)),
        **{name: _score(means[name], values[name], level) for name in metrics},
    )
