"""The parts that methods share: encoder, heads, losses, support set, target network."""

from medssl.nn.encoder import Encoder, freeze_running_statistics
from medssl.nn.gather import gather
from medssl.nn.heads import mlp
from medssl.nn.knn import vote
from medssl.nn.losses import info_nce, l2_normalize, no_autocast, to_float32
from medssl.nn.negatives import MaskSamePatient, excluded_pairs, same_patient
from medssl.nn.support_set import Neighbours, SupportSet, SupportSize, fit_support_size, tags_of
from medssl.nn.target import momentum_at, target_of, update_target

__all__ = [
    "Encoder",
    "MaskSamePatient",
    "Neighbours",
    "SupportSet",
    "SupportSize",
    "excluded_pairs",
    "fit_support_size",
    "freeze_running_statistics",
    "gather",
    "info_nce",
    "l2_normalize",
    "mlp",
    "momentum_at",
    "no_autocast",
    "same_patient",
    "tags_of",
    "target_of",
    "to_float32",
    "update_target",
    "vote",
]
