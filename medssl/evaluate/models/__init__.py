"""The classifiers on an encoder: fitted, kept, and written to a file. It imports torch."""

from medssl.evaluate.models.cache import CellFit
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.classifier_card import ClassifierCard, TestedOn, TrainingFacts
from medssl.evaluate.models.features import Pixels, extract
from medssl.evaluate.models.full_finetune import select_validation
from medssl.evaluate.models.ood import FeaturesWithThumbnail, Statistics, fit_statistics

__all__ = [
    "CellFit",
    "Classifier",
    "ClassifierCard",
    "FeaturesWithThumbnail",
    "Pixels",
    "Statistics",
    "TestedOn",
    "TrainingFacts",
    "extract",
    "fit_statistics",
    "select_validation",
]
