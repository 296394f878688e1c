"""Python, the packages, torch with torchvision, and as whom all of it runs."""

import os
import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.specifiers import SpecifierSet

from medssl.doctor import packages
from medssl.doctor.finding import Finding, make_finding

_MEND = "Install them again: pip install --require-hashes -r requirements.lock, then pip install --no-deps medssl."


def check() -> Iterator[Finding]:
    """Versions against what medssl's own metadata ask for."""
    yield python(platform.python_version(), metadata.metadata("medssl")["Requires-Python"])
    yield _packages()
    yield _torch()
    yield user(os.geteuid())


def python(version: str, required: str) -> Finding:
    """`required` as in ">=3.11,<3.14"."""
    fits = SpecifierSet(required).contains(version)
    return make_finding("Python", version, error="" if fits else f"medssl needs Python {required}. Make its environment with one of these.")


def user(number: int) -> Finding:
    """Whose the files of a run will be."""
    return make_finding(
        "user",
        f"number {number}" if number else "root",
        warning=""
        if number
        else "Runs write files of root, with all its rights. In a container start it as yourself: --user $(id -u):$(id -g).",
    )


def _packages() -> Finding:
    found = packages.packages()
    unmet = packages.conflicts(found)
    seen = f"{sum(package is not None for package in found.values())} installed, {'; '.join(unmet) or 'all requirements met'}"
    return make_finding("packages", seen, error=_MEND if unmet else "")


def _torch() -> Finding:
    """torchvision is compiled against one torch: with another its import fails."""
    import torch

    seen = f"torch {torch.__version__}, torchvision {metadata.version('torchvision')}"
    try:
        import torchvision.ops  # noqa: F401
    except Exception as error:
        return make_finding("torch", f"{seen}: {str(error).splitlines()[0]}", error=f"They do not belong together. {_MEND}")
    return make_finding("torch", seen)
