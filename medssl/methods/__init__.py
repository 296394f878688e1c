"""One file a method: views to a Step."""

from typing import Any, TypeVar

from medssl import plugins
from medssl.config import PluginConfig
from medssl.nn import fit_support_size

Chosen = TypeVar("Chosen", bound=PluginConfig)


def title(name: str) -> str:
    """The method's name as its paper writes it."""
    return plugins.find("methods", name).TITLE


def uses_labels(name: str) -> bool:
    """Whether the method trains on the labels of the images, as `supervised` does. Its `build` then takes the number of classes, too."""
    return plugins.find("methods", name).USES_LABELS


def fit_to(config: Chosen, images: int, steps: int) -> Chosen:
    """The configuration with numbers where it says "auto", for a training of so many steps on so many images. A support set or queue has
    half the images; what else a method leaves open, its own `fit_to` says."""
    module = plugins.find("methods", config.name)
    fitted = module.fit_to(config, images, steps) if hasattr(module, "fit_to") else config
    if getattr(fitted, "support_size", None) != "auto":
        return fitted
    return fitted.model_copy(update={"support_size": fit_support_size(images)})


def build(config: PluginConfig, encoder: Any, classes: int) -> Any:
    """The method that the configuration names, around an encoder. Weights are drawn from torch's generator as it stands."""
    module = plugins.find("methods", config.name)
    return module.build(config, encoder, classes) if uses_labels(config.name) else module.build(config, encoder)
