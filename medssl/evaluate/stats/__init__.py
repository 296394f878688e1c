"""Scores of class probabilities with their intervals, temperature scaling, and the numbers behind the report's charts."""

from medssl.evaluate.stats.bootstrap import Resamples, interval
from medssl.evaluate.stats.calibration import apply_temperature
from medssl.evaluate.stats.curves import (
    GRID,
    Question,
    answers,
    binary_questions,
    confusion,
    confusion_of_labels,
    over_draws,
    precision_recall,
    reliability,
    roc,
)
from medssl.evaluate.stats.delong import p_value
from medssl.evaluate.stats.intervals import bracketed, ends, interval_or_none
from medssl.evaluate.stats.metrics import Prob, Scores, auroc

__all__ = [
    "GRID",
    "Prob",
    "Question",
    "Resamples",
    "Scores",
    "answers",
    "apply_temperature",
    "auroc",
    "binary_questions",
    "bracketed",
    "confusion",
    "confusion_of_labels",
    "ends",
    "interval",
    "interval_or_none",
    "over_draws",
    "p_value",
    "precision_recall",
    "reliability",
    "roc",
]
