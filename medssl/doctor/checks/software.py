"""Python, the packages, torch with torchvision, and the user of the process."""

import os
import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.specifiers import SpecifierSet

from medssl.doctor import packages
from medssl.doctor.check_result import CheckResult, make_result

_REINSTALL = "Install them again: pip install --require-hashes -r requirements.lock, then pip install --no-deps medssl."


def check() -> Iterator[CheckResult]:
    """The installed versions, compared with the requirements of medssl."""
    yield python(platform.python_version(), metadata.metadata("medssl")["Requires-Python"])
    yield _packages()
    yield _torch()
    yield user(os.geteuid())


def python(version: str, required: str) -> CheckResult:
    """The Python version. `required`: ">=3.11,<3.14", for example."""
    fits = SpecifierSet(required).contains(version)
    return make_result("Python", version, error="" if fits else f"medssl needs Python {required}. Make its environment with one of these.")


def user(number: int) -> CheckResult:
    """The user who will own the files of a run; a warning for root. `number`: the effective user id."""
    return make_result(
        "user",
        f"number {number}" if number else "root",
        warning=""
        if number
        else "Runs write files of root, with all its rights. In a container start it as yourself: --user $(id -u):$(id -g).",
    )


def _packages() -> CheckResult:
    found = packages.packages()
    unmet = packages.conflicts(found)
    seen = f"{sum(package is not None for package in found.values())} installed, {'; '.join(unmet) or 'all requirements met'}"
    return make_result("packages", seen, error=_REINSTALL if unmet else "")


def _torch() -> CheckResult:
    """torchvision is compiled for one version of torch; its import fails with any other."""
    import torch

    seen = f"torch {torch.__version__}, torchvision {metadata.version('torchvision')}"
    try:
        import torchvision.ops  # noqa: F401
    except Exception as error:
        return make_result("torch", f"{seen}: {str(error).splitlines()[0]}", error=f"They do not belong together. {_REINSTALL}")
    return make_result("torch", seen)
