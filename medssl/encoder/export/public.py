"""The card of an exported encoder: what its user needs, and no list of patients, no path, no machine, no optimiser."""

import copy
from collections.abc import Mapping
from typing import Any

from medssl.data.split import seen_counts, without_lists
from medssl.encoder.artefact import SCHEMA
from medssl.encoder.model_card import CITATION, LICENCE

_ENTRIES = (
    *("format", "backbone", "channels", "size", "num_features", "mean", "std", "weights_sha256", "probe_output", "method", "intensity"),
    *("preparation", "data", "stratum", "leaks", "advised_labels", "intended_use"),
)
_DATA = (  # settings of the data that another data set needs, too, to be prepared and split in the same way
    *("volumes", "min_slices", "sequences", "size", "channels", "window", "spacing_mm", "non_finite", "transforms", "used_bits"),
    *("modality", "label", "leaks", "split_seed", "test_fraction", "holdout_fraction"),
)
_FACTS = ("loss", "embedding_std", "embedding_rank", "alignment", "uniformity", "rankme", "knn", "probe")
_PROVENANCE = ("medssl", "torch", "finished")


def public_card(card: Mapping[str, Any], licence: str | None = None, with_hashes: bool = False) -> dict[str, Any]:
    """The card without what must not leave. `with_hashes`: the hashes of training patients and images become Bloom filters; otherwise only
    their numbers stay. A filter of an earlier export stays a filter."""
    config, facts = card.get("config", {}), card.get("facts", {})
    return copy.deepcopy(
        {
            "schema": SCHEMA,
            **{name: card[name] for name in _ENTRIES if name in card},
            **({"pretraining": _pretraining(card, with_hashes)} if "pretraining" in card else {}),
            "config": {
                "data": {name: value for name, value in config.get("data", {}).items() if name in _DATA},
                **{name: config[name] for name in ("views", "backbone", "method", "seed") if name in config},
                "finetune": {name: value for name, value in config.get("finetune", {}).items() if name != "versus"},
            },
            "facts": {name: facts[name] for name in _FACTS if name in facts},
            "provenance": {name: value for name, value in card.get("provenance", {}).items() if name in _PROVENANCE},
            "licence": licence or card.get("licence", LICENCE),
            "citation": card.get("citation", CITATION),
        }
    )


def _pretraining(card: Mapping[str, Any], with_hashes: bool) -> dict[str, Any]:
    counts = {name: {"count": count} for name, count in seen_counts(card).items()}
    if not with_hashes:
        return counts
    return {name: without_lists(entry) for name, entry in card["pretraining"].items()}
