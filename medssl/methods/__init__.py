"""One file a method: views to a Step."""

from inspect import signature
from typing import Any

from medssl import plugins
from medssl.config import PluginConfig


def learns_from_labels(name: str) -> bool:
    """Whether the method's `build` asks for the number of classes, as `supervised` does: the others never see a label."""
    return "classes" in signature(plugins.find("methods", name).build).parameters


def build(config: PluginConfig, encoder: Any, classes: int) -> Any:
    """The method that the configuration names, around an encoder. Weights are drawn from torch's generator as it stands."""
    module = plugins.find("methods", config.name)
    return module.build(config, encoder, classes) if learns_from_labels(config.name) else module.build(config, encoder)
