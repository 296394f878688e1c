"""The licences of what is installed: how many of each kind, and which packages ask for attention."""

from collections import Counter
from collections.abc import Iterator, Mapping

from medssl.doctor.finding import Finding, make_finding
from medssl.doctor.packages import UNKNOWN, Package, family, packages

_REMEDIES = {
    "AGPL": "To use it is free; to pass it on, or to offer it over a network, obliges you to offer the source of the whole.",
    "GPL": "To use it is free; to pass the installation on obliges you to offer the source of the whole.",
    UNKNOWN: "Their metadata do not say: read their licence before the installation is passed on.",
}


def check() -> Iterator[Finding]:
    """Of medssl and all that it stands on; `--json` has the whole list."""
    yield from licences(packages())


def licences(found: Mapping[str, Package | None]) -> Iterator[Finding]:
    """A summary, and a finding for each kind that asks for attention."""
    kinds = {package: family(package.licence) for package in filter(None, found.values())}
    counts = Counter(kinds.values())
    yield make_finding("licences", ", ".join(f"{kind} {number}" for kind, number in counts.most_common()))
    for kind, remedy in _REMEDIES.items():
        if named := [package.name for package, other in kinds.items() if other == kind]:
            yield make_finding(f"{kind} licence", ", ".join(named), warning=remedy)
