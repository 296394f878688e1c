"""Listing the files below a folder, in the same order on every machine and without opening them; and folders that stand for patients."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from medssl.errors import UserError

_PATIENT = re.compile(r"(patient|pat|subject|subj|sub|case)[-_ ]?\d+", re.IGNORECASE)
# DOE^JANE, as names are written in DICOM; the number of a patient or an examination, or a date. No year within a name: covid_2020
_PERSON = re.compile(r"\^|\d{6}|^\d{4,}$|^[A-Za-z]{1,3}[-_ ]?\d{5,}$")


class FoundFile(NamedTuple):
    """An entry of a folder. `locator`: its path relative to the root, with "/"; `reason` and `detail`: code and sentence where the entry
    must not be opened, else ""."""

    locator: str
    reason: str = ""
    detail: str = ""


def resolve_folder(data: str) -> Path:
    """The resolved path of the folder that `data` names. Raises UserError where it is no folder."""
    root = Path(data).expanduser()
    if not root.is_dir():
        reason = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"The data folder {data} {reason}. Check --data; current folder: {Path.cwd()}.")
    return root.resolve()


def list_files(root: Path) -> Iterator[FoundFile]:
    """All entries below `root` (resolved) that are no folders, sorted within each folder. Hidden entries are left out.

    Links to files are followed if their targets are inside the root. Links to folders are not followed.
    """
    yield from _scan(root, "", root)


def _scan(folder: Path, prefix: str, root: Path) -> Iterator[FoundFile]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield FoundFile(prefix.rstrip("/"), "unreadable", str(error.strerror))
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        locator = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _scan(folder / entry.name, locator + "/", root)
        else:
            yield FoundFile(locator, *_problem(entry, root))


def _problem(entry: os.DirEntry[str], root: Path) -> tuple[str, str]:
    if entry.is_symlink():
        target = Path(entry.path).resolve()
        if not target.is_relative_to(root):
            return "outside_root", "a link that leaves the data folder"
        if target.is_dir():
            return "linked_folder", "links to folders are not followed"
    return ("", "") if entry.is_file() else ("not_a_file", "a dangling link, pipe, socket or device")


class RootFolder:
    """A folder (resolved) in which paths are searched that must not leave it. Each subfolder is resolved once for all its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folders: dict[str, Path] = {}

    def locator(self, cell: str) -> str | None:
        """The path, relative to the root and with "/", of the regular file that `cell` names; None where there is none.

        Raises ValueError where the file is outside the root, also where a link leads outside.
        """
        folder, _, name = str(self.path / cell.replace("\\", "/")).rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = Path(folder).resolve()
        file = self._folders[folder] / name
        try:
            target = file.resolve() if file.is_symlink() or name == ".." else file
            if not target.is_relative_to(self.path) or not file.is_relative_to(self.path):
                raise ValueError(cell)
            return file.relative_to(self.path).as_posix() if S_ISREG(target.stat().st_mode) else None
        except OSError:
            return None


def are_patients(names: Collection[str], images: int) -> bool:
    """Whether folders with these names, and with `images` images in all, stand for patients: three or more of them, all with names like
    patient_012, most with names like a person's name or number, or too many of them for classes."""
    if len(names) < 3:  # a guess must not leave a data set with one or two patients
        return False
    persons = sum(name_a_person([name]) for name in names)
    return all(map(_PATIENT.fullmatch, names)) or 2 * persons > len(names) or len(names) > max(10, images / 5)


def name_a_person(names: Collection[str]) -> bool:
    """Whether one of the names is like a person's name or number: then they are neither classes nor printed."""
    return any(map(_PERSON.search, names))
