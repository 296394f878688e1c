"""The classifiers on an encoder: fitted, kept, and written to a file. It imports torch."""

from medssl.evaluate.models.cache import CellFit
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.classifier_card import ClassifierCard, TestedOn, TrainingFacts
from medssl.evaluate.models.features import Pixels, extract
from medssl.evaluate.models.full_finetune import select_validation
from medssl.evaluate.models.loudest import LoudestSlices, loudest_slices
from medssl.evaluate.models.ood import FeaturesWithThumbnail, Statistics, fit_statistics
from medssl.evaluate.models.pooling import Pooling, extract_pooled, pool, pool_without_each, take_volumes

__all__ = [
    "CellFit",
    "Classifier",
    "ClassifierCard",
    "FeaturesWithThumbnail",
    "LoudestSlices",
    "Pixels",
    "Pooling",
    "Statistics",
    "TestedOn",
    "TrainingFacts",
    "extract",
    "extract_pooled",
    "fit_statistics",
    "loudest_slices",
    "pool",
    "pool_without_each",
    "select_validation",
    "take_volumes",
]
