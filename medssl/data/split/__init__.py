"""Training, validation and test: which patients each has, which labels are drawn, and what leaks between them."""

from medssl.data.split.assignment import assign_roles, choose_holdout
from medssl.data.split.cached import Split, find_split, find_unseen_split
from medssl.data.split.label_fractions import LabelFraction, canonical_labels, draw_by_class, parse_labels
from medssl.data.split.leaks import Leaks, find_leaks
from medssl.data.split.multilabel import draw_multilabel
from medssl.data.split.seen import HASH_LETTERS, Seen, has_hashes, seen_counts
from medssl.data.split.shares import ClassShare, class_shares, describe_test, serves

__all__ = [
    "HASH_LETTERS",
    "ClassShare",
    "LabelFraction",
    "Leaks",
    "Seen",
    "Split",
    "assign_roles",
    "canonical_labels",
    "choose_holdout",
    "class_shares",
    "describe_test",
    "draw_by_class",
    "draw_multilabel",
    "find_leaks",
    "find_split",
    "find_unseen_split",
    "has_hashes",
    "parse_labels",
    "seen_counts",
    "serves",
]
