"""The files below a folder, in one order on every machine, without opening any of them."""

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from medssl.errors import UserError


class Found(NamedTuple):
    """A directory entry: `locator` relative to the root (POSIX form), and the reason code and sentence why not to open it, if any."""

    locator: str
    reason: str = ""
    detail: str = ""


def folder_of(data: str) -> Path:
    """The resolved folder that `data` names. Raises UserError where there is none."""
    root = Path(data).expanduser()
    if not root.is_dir():
        reason = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"The data folder {data} {reason}. Check --data; current folder: {Path.cwd()}.")
    return root.resolve()


def below(root: Path) -> Iterator[Found]:
    """Everything below `root` (resolved) that is no folder, sorted within each folder, hidden entries left out.

    Links to files are followed inside the root only; links to folders are not followed.
    """
    yield from _scan(root, "", root)


def _scan(folder: Path, prefix: str, root: Path) -> Iterator[Found]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield Found(prefix.rstrip("/"), "unreadable", str(error.strerror))
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        locator = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _scan(folder / entry.name, locator + "/", root)
        else:
            yield Found(locator, *_problem(entry, root))


def _problem(entry: os.DirEntry[str], root: Path) -> tuple[str, str]:
    if entry.is_symlink():
        target = Path(entry.path).resolve()
        if not target.is_relative_to(root):
            return "outside_root", "a link that leaves the data folder"
        if target.is_dir():
            return "linked_folder", "links to folders are not followed"
    return ("", "") if entry.is_file() else ("not_a_file", "a dangling link, pipe, socket or device")


class Inside:
    """Where a table's cells point: checks many paths against one root (resolved), each folder resolved once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, Path] = {}

    def locator(self, cell: str) -> str | None:
        """The POSIX path relative to the root of the regular file that `cell` names, None where there is none.

        Raises ValueError where it lies outside the root, also by way of a link.
        """
        folder, _, name = str(self.root / cell.replace("\\", "/")).rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = Path(folder).resolve()
        file = self._folders[folder] / name
        try:
            target = file.resolve() if file.is_symlink() or name == ".." else file
            if not target.is_relative_to(self.root) or not file.is_relative_to(self.root):
                raise ValueError(cell)
            return file.relative_to(self.root).as_posix() if S_ISREG(target.stat().st_mode) else None
        except OSError:
            return None
