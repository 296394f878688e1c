"""Training, validation and test: which patients each has, which labels are drawn, and what leaks between them."""

from medssl.data.split.assignment import assign_roles, choose_holdout
from medssl.data.split.cached import Split, find_split, find_unseen_split
from medssl.data.split.label_fractions import LabelFraction, canonical_labels, draw_by_class, parse_labels
from medssl.data.split.leaks import Leaks, find_leaks
from medssl.data.split.multilabel import draw_multilabel
from medssl.data.split.seen import Seen, count_seen, join_seen, list_seen, seen_counts, unsearchable, without_lists
from medssl.data.split.shares import ClassShare, class_shares, describe_test, serves

__all__ = [
    "ClassShare",
    "LabelFraction",
    "Leaks",
    "Seen",
    "Split",
    "assign_roles",
    "canonical_labels",
    "choose_holdout",
    "class_shares",
    "count_seen",
    "describe_test",
    "draw_by_class",
    "draw_multilabel",
    "find_leaks",
    "find_split",
    "find_unseen_split",
    "join_seen",
    "list_seen",
    "parse_labels",
    "seen_counts",
    "serves",
    "unsearchable",
    "without_lists",
]
