"""The preparation contract: what must be equal in two stores if a network that was trained on one is used on the other."""

from collections.abc import Mapping
from typing import Any

from medssl.config import Data
from medssl.data.store.store import SETTINGS


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


def changed_setting(prepared: Mapping[str, Any], data: Data) -> tuple[str, Any, Any] | None:
    """The first setting that decides the images and that `data` has otherwise: its name, its value in `prepared`, and that in `data`; None
    where there is none. `prepared`: the settings of a preparation, by name."""
    configured = data.model_dump(mode="json")
    known = [name for name in SETTINGS if name in prepared]  # earlier versions had fewer settings
    return first_difference({name: prepared[name] for name in known}, {name: configured[name] for name in known})
