"""From a preset, flags and `--set a.b=value` to one validated configuration, and back to YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from medssl.config.base import Frozen, explain
from medssl.config.catalogue import full_names
from medssl.config.tree import Config
from medssl.errors import UserError
from medssl.plain_yaml import parse_yaml

Part = TypeVar("Part", bound=Frozen)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` on top; mappings are merged key by key. If the name of a plug-in changes, its old options are dropped."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, str) and isinstance(value, Mapping) and "name" not in value:
            old = {"name": old}
        if isinstance(old, Mapping) and isinstance(value, str) and "name" in old:
            value = {"name": value}
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            switches = "name" in value and "name" in old and value["name"] != old["name"]
            value = value if switches else merge(old, value)
        result[key] = value
    return result


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """`["train.lr=1e-3"]` as the nested mapping {"train": {"lr": 0.001}}; values are read as YAML. Names may be short: see `full_names`.

    A part as a whole comes before its options: in ["method.width=64", "method=simclr"] the width is SimCLR's and is not lost.
    """
    result: dict[str, Any] = {}
    for assignment in sorted(full_names(assignments), key=lambda assignment: assignment.partition("=")[0].count(".")):
        key, _, text = assignment.partition("=")
        value: Any = parse_yaml(text, f"--set {key}")
        for part in reversed(key.split(".")):
            value = {part: value}
        result = merge(result, value)
    return result


def resolve(values: Mapping[str, Any]) -> Config:
    """The validated configuration. Raises UserError that lists every wrong key, and for a misspelt key the most similar one."""
    return resolve_part(Config, values)


def resolve_part(model: type[Part], values: Mapping[str, Any], name: str = "") -> Part:
    """One part of the configuration, with the model `model`; `name` is its key, for messages. Raises UserError as `resolve`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        sentences = "\n".join(f"  {name}{'.' if name else ''}{sentence}" for sentence in explain(model, error))
        raise UserError(f"The configuration is wrong:\n{sentences}") from None


def to_yaml(config: Frozen) -> str:
    """The configuration as YAML, complete and in the tree's order."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
