"""The configuration: typed, frozen, and closed, the same model for the YAML presets and for `--set a.b=value`.

A plug-in's own options stand in its own file (`Config` there); the tree here holds them by name: `method: {name: pnnclr, alpha: 0.9}`
or, for the defaults, `method: pnnclr`. Every field says in its description what it means; `medssl settings` lists them.
"""

from medssl.config.base import Frozen, PluginConfig
from medssl.config.catalogue import Setting, full_names, list_settings
from medssl.config.images import VOLUMETRIC, Data, Limits, Transform
from medssl.config.resolving import merge, parse_overrides, resolve, resolve_part, to_yaml
from medssl.config.tree import MAX_BOOTSTRAPS, MAX_SEED, Config, Finetune, Labels, Monitor, Tracking
from medssl.config.windows import Window, windows_hu

__all__ = [
    "MAX_BOOTSTRAPS",
    "MAX_SEED",
    "VOLUMETRIC",
    "Config",
    "Data",
    "Finetune",
    "Frozen",
    "Labels",
    "Limits",
    "Monitor",
    "PluginConfig",
    "Setting",
    "Tracking",
    "Transform",
    "Window",
    "full_names",
    "list_settings",
    "merge",
    "parse_overrides",
    "resolve",
    "resolve_part",
    "to_yaml",
    "windows_hu",
]
