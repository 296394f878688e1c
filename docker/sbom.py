"""What an image holds, as a CycloneDX 1.6 document on the standard output: Debian's packages and Python's, with versions and licences.

    python3 docker/sbom.py SITE-PACKAGES NAME VERSION

A package of which nothing but its description is left is not in it. No date and no number of chance is: the same image, the same document.
"""

import json
import re
import subprocess
import sys
import uuid
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

_SPDX = re.compile(r"[A-Za-z0-9.+() -]{2,60}")


def main(folder: str, name: str, version: str) -> None:
    """The command."""
    components = sorted(
        [*debian(), *map(python, filter(is_there, distributions(path=[folder])))], key=lambda component: component["bom-ref"]
    )
    text = json.dumps(components, sort_keys=True)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, text)}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version, "bom-ref": name}},
        "components": components,
    }
    print(json.dumps(document, indent=1))


def debian() -> list[dict[str, Any]]:
    """Debian's packages. Their licences stand in /usr/share/doc/*/copyright."""
    form = "${db:Status-Abbrev}\t${binary:Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(["dpkg-query", "--show", f"--showformat={form}"], capture_output=True, text=True, check=True)  # noqa: S603, S607
    found = []
    for line in listed.stdout.splitlines():
        status, package, version, architecture = line.split("\t")
        name = package.split(":")[0]
        if status.strip() == "ii":
            address = f"pkg:deb/debian/{name}@{version.replace('+', '%2B').replace(':', '%3A')}?arch={architecture}"
            found.append({"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address})
    return found


def is_there(distribution: Distribution) -> bool:
    """Whether any file of a package is left, beside its description and its programs in bin."""
    ours = [file for file in distribution.files or () if file.parts[0] != ".." and not file.parts[0].endswith(".dist-info")]
    return any(Path(str(distribution.locate_file(file))).is_file() for file in ours)


def python(distribution: Distribution) -> dict[str, Any]:
    """One of Python's packages."""
    meta = distribution.metadata
    name, version = re.sub(r"[-_.]+", "-", meta["Name"]).lower(), distribution.version
    address = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    component: dict[str, Any] = {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}
    if "License-Expression" in meta:
        component["licenses"] = [{"expression": meta["License-Expression"]}]
    elif "License" in meta and _SPDX.fullmatch(meta["License"]):
        component["licenses"] = [{"license": {"name": meta["License"]}}]
    return component


if __name__ == "__main__":
    main(*sys.argv[1:])
