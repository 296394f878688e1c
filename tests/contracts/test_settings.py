"""What holds for every setting: a description in words, and a default that the configuration takes."""

import importlib
import pkgutil

import medssl
from medssl.config import Frozen, PluginConfig, list_settings, parse_overrides, resolve
from medssl.config.catalogue import meaning


def models() -> list[type[Frozen]]:
    """Every class of the package that describes a configuration."""
    for module in pkgutil.walk_packages(medssl.__path__, "medssl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def below(model: type[Frozen]) -> list[type[Frozen]]:
        return [model, *(each for child in model.__subclasses__() for each in below(child))]

    return [model for model in below(Frozen) if model not in (Frozen, PluginConfig) and model.__module__.startswith("medssl.")]


def test_every_field_of_every_configuration_has_a_sentence_that_says_what_it_means():
    found = models()
    assert len(found) > 30
    named = {f"{model.__module__}.{model.__qualname__}.{field}": meaning(model, field) for model in found for field in model.model_fields}
    assert [name for name, text in named.items() if not text[:1].isupper() or text[-1] != "."] == []


def test_every_default_is_shown_and_every_name_is_taken_by_the_configuration():
    shown = {setting.name: setting for setting in list_settings()}
    assert shown["train.lr"].default == "0.001" and shown["train.lr"].kind == "number, more than 0"
    assert shown["monitor.on_collapse"].kind == "stop or warn"
    for setting in list_settings():
        if setting.plugin and setting.default not in ("''", "null"):
            choice = setting.name.rpartition(".limits")[0] or setting.name.rpartition(".")[0]
            resolve(parse_overrides([f"{choice}={setting.plugin}", f"{setting.name}={setting.default}"]))
