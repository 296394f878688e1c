"""The switches that keep libraries from calling outside, and others that medssl sets: whether a user's value undoes one."""

import os
from collections.abc import Iterator, Mapping

from medssl import ENVIRONMENT
from medssl.doctor.finding import Finding, make_finding

_CALLS = {  # which other switch does the same, and what happens where neither is on
    "NO_ALBUMENTATIONS_UPDATE": ("NO_ALBUMENTATIONS_UPDATE", "albumentations asks a package index for newer versions"),
    "MLFLOW_DISABLE_TELEMETRY": ("DO_NOT_TRACK", "MLflow sends usage data to its makers"),
    "HF_HUB_DISABLE_TELEMETRY": ("DO_NOT_TRACK", "huggingface_hub sends usage data to its makers"),
}
_ON = {"DO_NOT_TRACK": ("true",)}  # MLflow takes no "1" there; the others are on by either


def check() -> Iterator[Finding]:
    """Of this process's environment."""
    yield calls(os.environ)
    yield settings(os.environ)


def calls(environment: Mapping[str, str]) -> Finding:
    """Whether a library would call outside."""
    undone = {
        f"{name}={environment.get(name, '')}": what
        for name, (other, what) in _CALLS.items()
        if not any(environment.get(switch, "").lower() in _ON.get(switch, ("1", "true")) for switch in (name, other))
    }
    seen = "; ".join(f"{name}: {what}" for name, what in undone.items()) or "albumentations, MLflow and huggingface_hub are told not to"
    return make_finding("calls outside", seen, warning=f"Unset {', '.join(n.partition('=')[0] for n in undone)}." if undone else "")


def settings(environment: Mapping[str, str]) -> Finding:
    """The other defaults that the user has replaced; they are the user's to choose."""
    other = [f"{name}={environment[name]}" for name in ENVIRONMENT if name not in _CALLS and environment.get(name) != ENVIRONMENT[name]]
    return make_finding("settings", f"yours: {', '.join(other)}" if other else "all as medssl sets them")
