"""One file a method: views to a Step."""

from typing import Any

from medssl import plugins
from medssl.config import PluginConfig


def title(name: str) -> str:
    """The method's name as its paper writes it."""
    return plugins.find("methods", name).TITLE


def uses_labels(name: str) -> bool:
    """Whether the method trains on the labels of the images, as `supervised` does. Its `build` then takes the number of classes, too."""
    return plugins.find("methods", name).USES_LABELS


def fit_to(config: PluginConfig, images: int, steps: int) -> PluginConfig:
    """The configuration with numbers where the method says "auto", for a training of so many steps on so many images."""
    module = plugins.find("methods", config.name)
    return module.fit_to(config, images, steps) if hasattr(module, "fit_to") else config


def build(config: PluginConfig, encoder: Any, classes: int) -> Any:
    """The method that the configuration names, around an encoder. Weights are drawn from torch's generator as it stands."""
    module = plugins.find("methods", config.name)
    return module.build(config, encoder, classes) if uses_labels(config.name) else module.build(config, encoder)
