"""What every configuration is built from: closed, frozen models, and the choice of a plug-in by its name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import UnionType
from typing import Annotated, Any, Union, cast, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from medssl import plugins
from medssl.errors import suggest

_HUGE = 2**53  # whole numbers from here on are no longer exact in floating point


class Frozen(BaseModel):
    """The base of every configuration: immutable, no unknown keys, defaults validated too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_huge_numbers(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            huge = isinstance(value, int) and abs(value) >= _HUGE and name in cls.model_fields
            if huge and not any(hasattr(bound, "le") for bound in cls.model_fields[name].metadata):  # those say their own limit
                raise ValueError(f"{name} is a number of {len(str(abs(value)))} digits, which is too large for any setting")
        return values


class PluginConfig(Frozen):
    """The base of every plug-in's `Config`."""

    name: str = Field(description="The name of the plug-in, which is that of its file.")


def _choose_plugin(kind: str, value: Any) -> PluginConfig:
    """The `Config` of one plug-in of `kind`, from its name or from a mapping with `name`."""
    if isinstance(value, PluginConfig):
        return value
    options = {"name": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    if "name" not in options:
        raise ValueError(f"needs a name; known: {', '.join(plugins.names(kind))}")
    model = plugins.find(kind, str(options["name"])).Config
    try:
        return model(**options)
    except ValidationError as error:
        raise ValueError("; ".join(explain(model, error))) from None


def plugin_kind(metadata: list[Any]) -> str:
    """The kind of plug-in that a field with this metadata chooses, such as "methods"; "" for any other field."""
    return next((each.func.args[0] for each in metadata if isinstance(each, BeforeValidator) and isinstance(each.func, partial)), "")


SourceChoice = Annotated[Any, BeforeValidator(partial(_choose_plugin, "data.sources"))]
RecipeChoice = Annotated[Any, BeforeValidator(partial(_choose_plugin, "views.recipes"))]
BackboneChoice = Annotated[Any, BeforeValidator(partial(_choose_plugin, "backbones"))]
MethodChoice = Annotated[Any, BeforeValidator(partial(_choose_plugin, "methods"))]


def explain(model: type[BaseModel], error: ValidationError) -> list[str]:
    """A sentence for each wrong key, which begins with the key."""
    by_key: dict[str, list[Any]] = {}
    for each in error.errors():
        by_key.setdefault(_key(model, each["loc"]), []).append(each)
    return [_sentence(model, key, *errors) for key, errors in by_key.items()]


def _key(model: type[BaseModel], where: tuple[int | str, ...]) -> str:
    """The key of an error. Where a value may be of several types, pydantic gives each of them an error of its own, with the type's name."""
    for number, part in enumerate(where, 1):
        if part not in model.model_fields:
            break
        annotation = model.model_fields[str(part)].annotation
        if get_origin(annotation) in (Union, UnionType):
            where = where[:number]
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return ".".join(map(str, where))


def _sentence(model: type[BaseModel], key: str, error: Any, *others: Any) -> str:
    if error["type"] == "extra_forbidden":
        for part in error["loc"][:-1]:
            model = cast(type[BaseModel], model.model_fields[part].annotation)
        return f"{key}: unknown key. {suggest(error['loc'][-1], model.model_fields)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    for text in dict.fromkeys(_of_other_type(other) for other in others):
        message += f", or {text}"
    if not key:
        return message
    return f"{key}: {message}" if error["type"] == "value_error" else f"{key}: {message} (given: {_shortened(error['input'])})"


def _of_other_type(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Input should be ")
    return f"in a list: {message}" if isinstance(error["loc"][-1], int) else message


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]} ..."
