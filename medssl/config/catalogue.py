"""All settings there are, with type, default and meaning: those of the tree, and those of every plug-in that may be chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from pydantic import BaseModel

from medssl import plugins
from medssl.config.base import plugin_kind
from medssl.config.tree import Config
from medssl.errors import UserError, suggest

_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "object": "mapping", "null": "null"}


@dataclass(frozen=True)
class Setting:
    """One setting. `name`: as in --set, such as train.lr; `plugin`: the plug-in that has the setting, "" where every run has it; `kind`:
    its type or its choices; `default`: as in YAML; `meaning`: a sentence."""

    name: str
    plugin: str
    kind: str
    default: str
    meaning: str


@cache
def list_settings() -> tuple[Setting, ...]:
    """All settings in the order of the tree. Imports all plug-ins that a configuration may name, which takes seconds."""
    return tuple(_list_fields(Config, "", ""))


def full_names(assignments: Sequence[str]) -> list[str]:
    """`["epochs=5"]` as ["train.epochs=5"]: a name without a dot may be the last part of one setting's name.

    Raises UserError for what is no NAME=VALUE, for a name that several settings have, and for a name that none has.
    """
    return [_with_full_name(assignment) for assignment in assignments]


def meaning(model: type[BaseModel], field: str) -> str:
    """The description of a field, which a model may inherit from the one that it changes; "" where there is none."""
    owners = (owner.model_fields[field] for owner in model.__mro__ if issubclass(owner, BaseModel) and field in owner.model_fields)
    return next((owner.description for owner in owners if owner.description), "")


def _with_full_name(assignment: str) -> str:
    key, equals, value = assignment.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {assignment!r} is not of the form a.b=value, as in --set train.lr=0.001.")
    if "." in key or key in Config.model_fields:
        return f"{key}={value}"
    by_last_part: dict[str, list[str]] = {}
    for name in dict.fromkeys(setting.name for setting in list_settings()):
        by_last_part.setdefault(name.rpartition(".")[2], []).append(name)
    match by_last_part.get(key, []):
        case [name]:
            return f"{name}={value}"
        case []:
            close = suggest(key, [*Config.model_fields, *by_last_part])
            hint = f"{close} " if close.startswith("Did") else ""
            raise UserError(f"--set {key}: there is no such setting. {hint}`medssl settings` lists all.")
        case names:
            raise UserError(f"--set {key}: {len(names)} settings end like this. Write one of these: {', '.join(names)}.")


def _list_fields(model: type[BaseModel], prefix: str, plugin: str) -> Iterator[Setting]:
    schema = model.model_json_schema()
    for field, info in model.model_fields.items():
        if plugin and field == "name":  # the setting that chooses the plug-in
            continue
        name = f"{prefix}{field}"
        default = info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _list_fields(type(default), f"{name}.", plugin)
        elif kind := plugin_kind(info.metadata):
            yield Setting(name, plugin, " or ".join(plugins.names(kind)), str(default), meaning(model, field))
            for choice in plugins.names(kind):
                yield from _list_fields(plugins.find(kind, choice).Config, f"{name}.", choice)
        else:
            yield Setting(name, plugin, _describe_type(schema["properties"][field], schema), _in_yaml(default), meaning(model, field))


def _in_yaml(value: Any) -> str:
    """A default for a person: floating-point numbers have four digits."""
    if isinstance(value, float):
        value = float(f"{value:.4g}")
    elif isinstance(value, tuple):
        return f"[{', '.join(map(_in_yaml, value))}]"
    plain = dict(value) if isinstance(value, Mapping) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def _describe_type(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """The type that a JSON schema states, in words: "number, more than 0"."""
    if "$ref" in schema:
        return _describe_type(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in schema:
        return " or ".join(_describe_type(each, whole) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        parts = schema.get("prefixItems")
        return f"list of {len(parts)}: {_describe_type(parts[0], whole)}" if parts else f"list of {_describe_type(schema['items'], whole)}"
    bounds = {"minimum": "{} or more", "exclusiveMinimum": "more than {}", "maximum": "at most {}", "exclusiveMaximum": "less than {}"}
    return ", ".join([_TYPES[schema["type"]], *(words.format(schema[key]) for key, words in bounds.items() if key in schema)])
