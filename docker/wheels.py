"""The wheels that medssl needs to run, out of requirements.lock and by its hashes, in one folder: for the image and for the bundle.

    python docker/wheels.py FOLDER PROJECT|NAME... [--lock FILE]... [--instead FOLDER]

PROJECT is a folder with a pyproject.toml, whose dependencies are meant; NAME a package of a lock. What these need is followed through the
wheels' own metadata; so what the lock holds for development stays away. FOLDER/requirements.lock then lists what is there, for
`pip install --no-index --find-links FOLDER --no-deps --require-hashes -r FOLDER/requirements.lock`.

--instead: wheels in this folder take the place of the lock's of the same name and version, as torch-2.15.0+cpu does of torch-2.15.0. The
folder has a SHA256SUMS, which stands for the lock's hashes. Nothing that only the replaced wheels need is fetched.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from email.parser import BytesHeaderParser
from functools import cache
from pathlib import Path

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name, parse_wheel_filename
except ModuleNotFoundError:  # in an environment that has nothing but pip
    from pip._vendor.packaging.requirements import Requirement  # pyright: ignore[reportMissingImports]
    from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename  # pyright: ignore[reportMissingImports]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("roots", nargs="+")
    parser.add_argument("--lock", type=Path, action="append")
    parser.add_argument("--instead", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    locked = {name: entry for file in options.lock or [Path("requirements.lock")] for name, entry in entries(file.read_text()).items()}
    given = replacements(options.instead, locked) if options.instead else {}
    wheels = collect(options.folder, wanted(options.roots), locked, given)
    lines = sorted(pinned(wheel) for wheel in wheels.values())
    options.folder.joinpath("requirements.lock").write_text("".join(lines))
    print(f"{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels.values()) / 1e6:.0f} MB in {options.folder}")


def entries(lock: str) -> dict[str, str]:
    """The entries of a lock that hold for this Python and machine, by canonical name."""
    found = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock.strip()):
        requirement = Requirement(entry.split("\\")[0])
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = entry + "\n"
    return found


def wanted(roots: Iterable[str]) -> list[Requirement]:
    """What is asked for: packages by name, or the dependencies of a project."""
    names = []
    for root in roots:
        project = Path(root, "pyproject.toml")
        names += tomllib.loads(project.read_text())["project"]["dependencies"] if project.is_file() else [root]
    return [Requirement(name) for name in names]


def replacements(folder: Path, locked: dict[str, str]) -> dict[str, Path]:
    """The wheels in `folder` by name. Ends the program where one is of another version than the lock's, or does not match SHA256SUMS."""
    found = {}
    lines = [line.split() for line in folder.joinpath("SHA256SUMS").read_text().splitlines() if line.strip()]
    sums = {name: checksum for checksum, name in lines}
    for wheel in sorted(folder.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(wheel.name)
        if f"{name}=={version.public} " not in locked.get(name, "").replace("\\", " "):
            sys.exit(f"{wheel.name} takes the place of no entry of the lock: its version must be the lock's.")
        if sums.get(wheel.name) != digest(wheel):
            sys.exit(f"{wheel.name} is not what {folder / 'SHA256SUMS'} says.")
        found[name] = wheel
    return found


def collect(folder: Path, roots: list[Requirement], locked: dict[str, str], given: dict[str, Path]) -> dict[str, Path]:
    """The wheels of `roots` and of all they need, in `folder`, by name."""
    wheels: dict[str, Path] = {}
    asked: set[tuple[str, str]] = set()
    while roots:
        names = sorted({str(canonicalize_name(root.name)) for root in roots} - set(wheels))
        if lost := [name for name in names if name not in locked]:
            sys.exit(f"The lock has no {', '.join(lost)}.")
        fetch(folder, [locked[name] for name in names if name not in given])
        for name in names:
            if name in given:
                shutil.copy(given[name], folder)
            wheels[name] = wheel_of(folder, name, locked[name], given)
        extras = {(str(canonicalize_name(root.name)), extra) for root in roots for extra in ("", *root.extras)} - asked
        asked |= extras
        roots = [need for name, extra in sorted(extras) for need in needs(wheels[name], extra)]
    return wheels


def fetch(folder: Path, pieces: list[str]) -> None:
    """Entries of the lock, by their hashes, as wheels: nothing is built."""
    if not pieces:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(pieces))
        file.flush()
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
        if subprocess.run([*pip, "--dest", str(folder), "--requirement", file.name], check=False).returncode:  # noqa: S603 - our own Python
            sys.exit("pip did not get what it says above. It takes a mirror, a proxy or a certificate from its own configuration.")


def wheel_of(folder: Path, name: str, entry: str, given: dict[str, Path]) -> Path:
    """The wheel of a name whose hash stands in the lock: the folder may hold older ones."""
    if name in given:
        return folder / given[name].name
    for wheel in folder.glob("*.whl"):
        if parse_wheel_filename(wheel.name)[0] == name and f"sha256:{digest(wheel)}" in entry:
            return wheel
    sys.exit(f"{folder} has no wheel of {name}.")


def needs(wheel: Path, extra: str) -> list[Requirement]:
    """What a wheel says that it needs, here and with this extra ("" for none)."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        lines = BytesHeaderParser().parsebytes(archive.read(metadata)).get_all("Requires-Dist", [])
    found = [Requirement(line) for line in lines]
    return [need for need in found if need.marker is None or need.marker.evaluate({"extra": extra})]


def pinned(wheel: Path) -> str:
    """The line of a lock that lets in this file and no other."""
    name, version, *_ = parse_wheel_filename(wheel.name)
    return f"{name}=={version} --hash=sha256:{digest(wheel)}\n"


@cache
def digest(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    main()
