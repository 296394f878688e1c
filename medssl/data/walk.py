"""Listing the files below a folder, in the same order on every machine and without opening them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from medssl.data.names import readable
from medssl.data.own_folders import is_own, is_own_table
from medssl.errors import UserError

FOLLOW_LINKS = "Follow them, if you trust where they lead: --set data.follow_links=true"
_NO_FILE = "not_a_file", "a link that leads nowhere or into a locked folder, a pipe, a socket or a device"
_MAX_DEPTH = 100  # folders within each other
_links: ContextVar["Links | None"] = ContextVar("links", default=None)
# what archives, network storage and operating systems put beside a person's files: thumbnails, waste, backups
_OF_SYSTEMS = {"__MACOSX", "@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot", "$RECYCLE.BIN", "lost+found"}
_OF_SYSTEMS |= {"System Volume Information"}


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


@dataclass
class Links:
    """What is done about links that leave the data folder. `follow`: whether their targets are listed and opened; `left_out`: how many
    were found and not followed; `own`: what medssl has written itself, which is not listed."""

    follow: bool
    left_out: int = 0
    own: set[Path] = field(default_factory=set)

    def notes(self) -> list[str]:
        """Sentences for a person: on the links that were not followed, and on what medssl has written itself."""
        where = "among the images, which medssl has written itself (runs, stores, a cache, predictions)"
        links = f"{self.left_out} links lead out of the data folder and are not followed. {FOLLOW_LINKS}"
        own = f"{len(self.own)} folders or tables {where}, are left out"
        return [*([links] if self.left_out else []), *([own] if self.own else [])]


@contextmanager
def following_links(follow: bool) -> Iterator[Links]:
    """The decision on links for everything that is listed within the block. It is the user's, not that of a source, and so no source passes
    it on."""
    links = Links(follow)
    token = _links.set(links)
    try:
        yield links
    finally:
        _links.reset(token)


def list_files(root: Path) -> Iterator[FoundFile]:
    """All entries below `root` (resolved) that are no folders, sorted within each folder. Hidden entries and folders of operating systems
    are left out, and what medssl has written itself (`own_folders`).

    Links to files are followed if their targets are inside the root; links to folders are not. Within `following_links(True)` links that
    leave the root are followed, too. Each folder is listed once, so a loop of links ends.
    """
    return _Walk(root, _links.get() or Links(follow=False)).entries(root, "", outside=False)


class _Walk:
    """One listing of the folder `root`."""

    def __init__(self, root: Path, links: Links) -> None:
        self._root, self._links = root, links
        self._listed = {root}  # folders outside the root that have been listed, and the root

    def entries(self, folder: Path, prefix: str, outside: bool) -> Iterator[FoundFile]:
        """The files below `folder` (resolved), whose locators begin with `prefix`. `outside`: whether the folder is not below the root."""
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield FoundFile(prefix.rstrip("/"), "unreadable", str(error.strerror))
            return
        if folder != self._root and is_own(folder, [entry.name for entry in entries]):
            self._links.own.add(folder)
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _OF_SYSTEMS:
                continue
            locator = prefix + entry.name
            if entry.is_symlink():
                yield from self._linked(entry, locator)
            elif not entry.is_dir(follow_symlinks=False):
                if is_own_table(folder / entry.name):
                    self._links.own.add(folder / entry.name)
                    continue
                yield FoundFile(locator) if entry.is_file() else FoundFile(locator, *_NO_FILE)
            elif locator.count("/") >= _MAX_DEPTH:
                yield FoundFile(locator, "too_deep", f"more than {_MAX_DEPTH} folders within each other")
            elif outside:
                yield from self._folder_outside(folder / entry.name, locator)
            else:
                yield from self.entries(folder / entry.name, locator + "/", outside=False)

    def _linked(self, entry: os.DirEntry[str], locator: str) -> Iterator[FoundFile]:
        try:
            target = Path(entry.path).resolve()
            inside = target.is_relative_to(self._root)
            is_folder, is_file = (target.is_dir(), target.is_file()) if inside or self._links.follow else (False, False)
        except (OSError, RuntimeError):  # it leads in a circle (a RuntimeError before Python 3.13) or into a locked folder
            yield FoundFile(locator, *_NO_FILE)
            return
        if not inside and not self._links.follow:
            self._links.left_out += 1
            yield FoundFile(locator, "outside_root", "a link that leaves the data folder")
        elif not is_folder:
            yield FoundFile(locator) if is_file else FoundFile(locator, *_NO_FILE)
        elif inside:
            yield FoundFile(locator, "linked_folder", "links to folders inside the data folder are not followed")
        else:
            yield from self._folder_outside(target, locator)

    def _folder_outside(self, folder: Path, locator: str) -> Iterator[FoundFile]:
        """The files of a folder (resolved) outside the root, unless it has been listed or holds the root."""
        if folder in self._listed or self._root.is_relative_to(folder):
            yield FoundFile(locator, "linked_folder", "a folder that is listed at another place, or that holds the data folder")
        else:
            self._listed.add(folder)
            yield from self.entries(folder, locator + "/", outside=True)


class RootFolder:
    """A folder (resolved) in which paths are searched that must not leave it. Each subfolder is resolved once for all its files. Within
    `following_links(True)` a link in the folder may lead to a file outside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._links = _links.get() or Links(follow=False)
        self._folders: dict[str, Path] = {}
        self._spellings: dict[Path, dict[str, str]] = {}

    def locator(self, cell: str) -> str | None:
        """The path, relative to the root and with "/", of the regular file that `cell` names; None where there is none. Where no file is
        spelt so, one whose name is the same text in another Unicode form (NFD) or encoding (Latin-1) is found.

        Raises ValueError where the file is outside the root, also where a link leads outside.
        """
        path = cell.replace("\\", "/")
        found = self._locator(path)
        return found if found or path.isascii() else self._locator(self._spelt_on_disk(path))

    def _locator(self, path: str) -> str | None:
        written = str(self.path / path)
        folder, _, name = written.rpartition("/")
        try:
            if folder not in self._folders:
                self._folders[folder] = Path(folder).resolve()
            file = self._folders[folder] / name
            target = file.resolve() if file.is_symlink() or name == ".." else file
            if target.is_relative_to(self.path) and file.is_relative_to(self.path):
                return file.relative_to(self.path).as_posix() if S_ISREG(target.stat().st_mode) else None
            within = Path(written).is_relative_to(self.path) and ".." not in Path(written).parts
            if not within or not self._links.follow:
                self._links.left_out += within
                raise ValueError(path)
            return Path(written).relative_to(self.path).as_posix() if S_ISREG(target.stat().st_mode) else None
        except (OSError, RuntimeError):  # a circle of links is a RuntimeError before Python 3.13
            return None

    def _spelt_on_disk(self, path: str) -> str:
        """The path with each part as the folder spells it, as far as its folders are there."""
        folder, parts = self.path, path.split("/")
        for number, part in enumerate(parts):
            if folder not in self._spellings:
                listed = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - names are all that is needed
                self._spellings[folder] = {readable(name): name for name in listed if not name.isascii()}
            parts[number] = self._spellings[folder].get(readable(part), part)
            folder = folder / parts[number]
        return "/".join(parts)
