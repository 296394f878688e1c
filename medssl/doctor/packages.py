"""The installed packages that medssl stands on, as their own metadata tell: versions, requirements, licences. Nothing is imported."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

UNKNOWN, EMPTY = "unknown", "no files"
_FAMILIES = {  # the first that a licence's name matches
    "AGPL": r"AGPL|Affero",
    "LGPL": r"LGPL|Lesser General Public",
    "GPL": r"\bGPL|General Public",
    "NVIDIA": r"NVIDIA",
    "Apache": r"Apache",
    "MIT": r"\bMIT\b|Permission is hereby granted, free of charge",
    "BSD": r"BSD",
    "MPL": r"MPL|Mozilla",
    "PSF": r"PSF|Python Software Foundation",
    "ISC": r"\bISC\b",
}
_LICENCE_FILE = re.compile(r"licen[cs]e|copying", re.IGNORECASE)
_SHORT = 80  # characters: a longer "License" field is the text, not the name


@dataclass(frozen=True, slots=True)
class Package:
    """`requires`: what it needs here, without its extras."""

    name: str
    version: str
    licence: str
    requires: tuple[Requirement, ...]


def packages() -> dict[str, Package | None]:
    """By canonical name, sorted: medssl, all that it requires, and decoders that were added; None for one that is not installed."""
    found: dict[str, Package | None] = {}
    todo = ["medssl", *_decoders()]
    while todo:
        name = canonicalize_name(todo.pop())
        if name in found:
            continue
        try:
            found[name] = package = _package(metadata.distribution(name))
        except metadata.PackageNotFoundError:
            found[name] = None
            continue
        todo += [requirement.name for requirement in package.requires]
    return dict(sorted(found.items()))


def conflicts(found: dict[str, Package | None]) -> list[str]:
    """Requirements that the installed versions do not meet, as "torchvision 0.29.2 requires torch>=2.14, installed is 2.10"."""
    unmet = []
    for package in filter(None, found.values()):
        for requirement in package.requires:
            other = found.get(canonicalize_name(requirement.name))
            if other is None or not requirement.specifier.contains(other.version, prereleases=True):
                there = f"installed is {other.version}" if other else "it is not installed"
                unmet.append(f"{package.name} {package.version} requires {requirement.name}{requirement.specifier}, {there}")
    return unmet


def family(licence: str) -> str:
    """ "GPL" of "GPL-3.0-only", "MIT" of "GPL-2.0 OR MIT": of several to choose from, one that is not the GPL; "other"."""
    choices = [_family(choice) for choice in re.split(r"\s+OR\s+", licence)]
    return next((choice for choice in choices if choice not in ("GPL", "AGPL")), choices[0])


def _family(licence: str) -> str:
    if licence in (UNKNOWN, EMPTY):
        return licence
    return next((name for name, pattern in _FAMILIES.items() if re.search(pattern, licence)), "other")


def _decoders() -> Iterator[str]:
    """What the user has added to pylibjpeg: it runs in our processes without being required by medssl."""
    known = metadata.entry_points()
    for group in (group for group in known.groups if group.startswith("pylibjpeg.")):
        yield from (entry.dist.name for entry in known.select(group=group) if entry.dist is not None)


def _package(found: metadata.Distribution) -> Package:
    needed = (Requirement(text) for text in found.requires or ())
    here = tuple(item for item in needed if item.marker is None or item.marker.evaluate({"extra": ""}))
    return Package(canonicalize_name(found.name), found.version, _licence(found), here)


def _licence(found: metadata.Distribution) -> str:
    """By the SPDX expression, the classifiers, the field, or the first lines of the licence's file, whichever says something first."""
    said = found.metadata
    if expression := said.get_all("License-Expression"):
        return expression[0]
    classifiers = [item.rpartition(" :: ")[2] for item in said.get_all("Classifier") or () if item.startswith("License ::")]
    if named := [name for name in classifiers if name != "OSI Approved"]:
        return " AND ".join(named)
    lines = "".join(said.get_all("License") or ()).strip().splitlines()
    if lines and lines[0].upper() != "UNKNOWN":
        return lines[0].strip()[:_SHORT]
    for file in found.files or ():
        if ".dist-info" in str(file) and _LICENCE_FILE.search(file.name):
            head = " ".join(Path(str(file.locate())).read_text("utf-8", errors="replace")[:400].split())
            if (name := _family(head)) != "other":
                return name
    return UNKNOWN if any(".dist-info" not in str(file) for file in found.files or ("?",)) else EMPTY  # a list of other packages
