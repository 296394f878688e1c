"""The preparation contract: what two stores must share for a network that learnt from one to be used on the other."""

from collections.abc import Mapping
from typing import Any


def contract(card: Mapping[str, Any]) -> dict[str, Any]:
    """By name, from a store's card: the settings it was prepared with, the versions of the preparation and of the readers."""
    return {
        **{f"data.{name}": value for name, value in card["settings"].items()},
        "the preparation's version": card["preparation"]["version"],
        **{f"the {name} reader's version": number for name, number in card["versions"]["readers"].items()},
    }


def first_difference(trained: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first thing in which two contracts differ that both speak of: its name, and its two values."""
    return next(((name, trained[name], value) for name, value in asked.items() if name in trained and trained[name] != value), None)
