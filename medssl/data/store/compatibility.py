"""The preparation contract: what must be equal in two stores if a network that was trained on one is used on the other."""

from collections.abc import Mapping
from typing import Any


def contract(card: Mapping[str, Any]) -> dict[str, Any]:
    """{name: value} from a store's card: the settings of its preparation, and the versions of the preparation and of the readers."""
    return {
        **{f"data.{name}": value for name, value in card["settings"].items()},
        "the preparation's version": card["preparation"]["version"],
        **{f"the {name} reader's version": number for name, number in card["versions"]["readers"].items()},
    }


def first_difference(trained: Mapping[str, Any], requested: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first name that both contracts have with different values, and its two values; None where there is none. `trained`: the contract
    of the training data; `requested`: that of the other data."""
    return next(((name, trained[name], value) for name, value in requested.items() if name in trained and trained[name] != value), None)
