"""Differences between initialisations are paired over the test patients, and labels are saved only where a difference says so."""

import numpy as np
import pandas as pd
from studies import both_ends

from medssl.evaluate.cell import Cell, Group
from medssl.evaluate.results import _labels_saved, summarise_cells
from medssl.evaluate.schema import LabelsSaved, RunDescription
from medssl.evaluate.task import Task

FAULTS = {
    "each start has resamples of its own": (
        "evaluate/results.py",
        "_resample(task, y, members, resamples) for",
        "_resample(task, y, members, Resamples(patients, bootstraps, seed + len(group[3]))) for",
    ),
    "labels saved by the upper end of the interval": ("evaluate/results.py", "gain.low >= -MARGIN", "gain.high >= -MARGIN"),
    "labels saved against a reference at chance": ("evaluate/results.py", "None if at_chance else next(", "next("),
}


def test_two_starts_with_the_same_predictions_differ_by_nothing_in_every_resample() -> None:
    """Their scores vary from resample to resample; unpaired, so would their difference."""
    random = np.random.default_rng(0)
    y, who = np.repeat(np.arange(60) % 2, 2), np.repeat([f"p{i}" for i in range(60)], 2)
    positive = 1 / (1 + np.exp(-random.normal(size=120) - y))
    prob = np.stack([1 - positive, positive], axis=1)
    rows = np.arange(120)
    task = Task("finding", ("normal", "sick"), y, who, rows, rows, 0)
    table = pd.DataFrame({"key": [f"k{i}" for i in range(120)], "patient": who})
    cells = [Cell(1.0, "100pct", 0, "linear", init, 120, 60, prob) for init in ("pretrained", "random")]
    document = summarise_cells(task, table, cells, {}, bootstraps=200, seed=0, description=RunDescription()).document
    (gain,) = document.paired
    low, high = both_ends(document.summary[0].auroc)
    assert high - low > 0.05
    assert (gain.auroc_gain, gain.low, gain.high) == (0, 0, 0)


def saved(reference: tuple[float, float], *ends: tuple[float, float]) -> LabelsSaved:
    """What is said where the AUROC of random initialisation lies between those of `reference`, and that of the encoder with 10, 20, 50 and
    100 percent of the labels between its own ends, independently of it: each list of resamples is in another order."""
    random = np.random.default_rng(0)
    shares = {"10pct": 0.1, "20pct": 0.2, "50pct": 0.5, "100pct": 1.0}
    groups: dict[Group, tuple[float, float]] = {
        (share, labels, "linear", "pretrained"): own for (labels, share), own in zip(shares.items(), ends, strict=True)
    }
    groups[1.0, "100pct", "linear", "random"] = reference
    values = {group: {"auroc": random.permutation(np.linspace(low, high, 2001))} for group, (low, high) in groups.items()}
    found = _labels_saved({group: {"auroc": float(of["auroc"].mean())} for group, of in values.items()}, values)
    assert found is not None
    return found


def test_labels_are_saved_from_the_lower_end_of_the_difference_upwards_not_from_its_mean_or_its_upper_end() -> None:
    found = saved((0.70, 0.70), (0.60, 0.90), (0.66, 0.95), (0.695, 0.75), (0.75, 0.80))
    assert found.reached == "50pct" and not found.at_chance and found.margin == 0.01
    assert found.by_fraction[1].auroc_gain > 0 > both_ends(found.by_fraction[1])[0] + 0.01
    assert -0.01 < both_ends(found.by_fraction[2])[0] < 0
    assert saved((0.70, 0.70), (0.60, 0.90), (0.68, 0.95), (0.68, 0.75), (0.68, 0.80)).reached is None


def test_of_a_reference_that_may_be_at_chance_no_labels_are_said_to_be_saved() -> None:
    better = [(0.80, 0.90)] * 4
    assert saved((0.52, 0.60), *better).reached == "10pct"
    found = saved((0.45, 0.60), *better)
    assert found.at_chance and found.reached is None
