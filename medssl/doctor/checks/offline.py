"""The environment variables that keep libraries from using the network, and others that medssl sets: has the user changed one?"""

import os
from collections.abc import Iterator, Mapping

from medssl import ENVIRONMENT
from medssl.doctor.check_result import CheckResult, make_result

_CALLS = {  # the other variable with the same effect, and what happens if neither is set
    "NO_ALBUMENTATIONS_UPDATE": ("NO_ALBUMENTATIONS_UPDATE", "albumentations asks a package index for newer versions"),
    "MLFLOW_DISABLE_TELEMETRY": ("DO_NOT_TRACK", "MLflow sends usage data to its makers"),
    "HF_HUB_DISABLE_TELEMETRY": ("DO_NOT_TRACK", "huggingface_hub sends usage data to its makers"),
}
_ON = {"DO_NOT_TRACK": ("true",)}  # MLflow does not accept "1" here; all others accept "1" or "true"


def check() -> Iterator[CheckResult]:
    """The environment of this process."""
    yield calls(os.environ)
    yield settings(os.environ)


def calls(environment: Mapping[str, str]) -> CheckResult:
    """Whether a library would use the network by itself."""
    disabled = {
        f"{name}={environment.get(name, '')}": what
        for name, (other, what) in _CALLS.items()
        if not any(environment.get(switch, "").lower() in _ON.get(switch, ("1", "true")) for switch in (name, other))
    }
    seen = "; ".join(f"{name}: {what}" for name, what in disabled.items()) or "albumentations, MLflow and huggingface_hub are told not to"
    return make_result("calls outside", seen, warning=f"Unset {', '.join(n.partition('=')[0] for n in disabled)}." if disabled else "")


def settings(environment: Mapping[str, str]) -> CheckResult:
    """The other variables that the user has set to other values than medssl; this is no fault."""
    other = [f"{name}={environment[name]}" for name in ENVIRONMENT if name not in _CALLS and environment.get(name) != ENVIRONMENT[name]]
    return make_result("settings", f"yours: {', '.join(other)}" if other else "all as medssl sets them")
