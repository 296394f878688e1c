"""The installed packages that medssl needs, with versions and requirements, from their metadata. None of them is imported."""

from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package. `requires`: its requirements on this machine, without extras."""

    name: str
    version: str
    requires: tuple[Requirement, ...]


def packages() -> dict[str, Package | None]:
    """medssl and all packages that it requires, by canonical name, sorted; None for a package that is not installed."""
    found: dict[str, Package | None] = {}
    pending = ["medssl"]
    while pending:
        name = canonicalize_name(pending.pop())
        if name in found:
            continue
        try:
            found[name] = package = _package(metadata.distribution(name))
        except metadata.PackageNotFoundError:
            found[name] = None
            continue
        pending += [requirement.name for requirement in package.requires]
    return dict(sorted(found.items()))


def conflicts(found: dict[str, Package | None]) -> list[str]:
    """Requirements that the installed versions do not meet: "torchvision 0.29.2 requires torch>=2.14, installed is 2.10"."""
    unmet = []
    for package in filter(None, found.values()):
        for requirement in package.requires:
            other = found.get(canonicalize_name(requirement.name))
            if other is None or not requirement.specifier.contains(other.version, prereleases=True):
                there = f"installed is {other.version}" if other else "it is not installed"
                unmet.append(f"{package.name} {package.version} requires {requirement.name}{requirement.specifier}, {there}")
    return unmet


def _package(found: metadata.Distribution) -> Package:
    needed = (Requirement(text) for text in found.requires or ())
    required = tuple(item for item in needed if item.marker is None or item.marker.evaluate({"extra": ""}))
    return Package(canonicalize_name(found.name), found.version, required)
