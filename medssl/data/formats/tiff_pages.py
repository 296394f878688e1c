"""The pages of a TIFF file, from its chain of image file directories alone (TIFF 6.0, section 2; BigTIFF likewise)."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

_MAX_PAGES, _MAX_ENTRIES = 100_000, 2_000_000
_NEW_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101  # the tag, and its bits for thumbnails, levels of a pyramid and transparency masks
# version -> `struct` layout of an offset, of a count and of a directory's entry, and the position of the first offset in bytes
_LAYOUTS = {42: ("I", "H", "HHII", 4), 43: ("Q", "Q", "HHQI4x", 8)}


def picture_pages(path: Path) -> list[int]:
    """The indices of the pages that are images, no thumbnails or masks. [0] where the directories cannot be read: the reader of the file
    then states the fault."""
    try:
        with path.open("rb") as file:
            kinds = [kind for _, kind in _walk(file)]
    except (OSError, struct.error, ValueError):
        return [0]
    return [page for page, kind in enumerate(kinds) if not kind & _REDUCED_OR_MASK] or [0]


def first_directory(content: Shaped[np.ndarray, " bytes"], position: int) -> None:
    """Makes the directory at `position` the first one of a TIFF file, whose bytes are `content`: decoders that walk from page to page find
    this page at once."""
    order = {b"II": "<", b"MM": ">"}[content[:2].tobytes()]
    offset, *_, first = _LAYOUTS[struct.unpack(order + "H", content[2:4].tobytes())[0]]
    written = np.frombuffer(struct.pack(order + offset, position), np.uint8)
    content[first : first + len(written)] = written


def page_positions(file: BinaryIO) -> list[int]:
    """The position of each page's directory in bytes; [] where they cannot be read."""
    try:
        file.seek(0)
        return [position for position, _ in _walk(file)]
    except (OSError, struct.error, ValueError):
        return []


def _walk(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """The position and the NewSubfileType of each page. Raises struct.error where the file ends too early; ValueError for a file that is no
    TIFF, for a loop of directories, and for too many of them."""
    order = {b"II": "<", b"MM": ">"}.get(file.read(2), "=")
    version = _unpack_one(file, order + "H")
    if order == "=" or version not in _LAYOUTS:
        raise ValueError("not TIFF")
    offset, count, entry, first = _LAYOUTS[version]
    file.seek(first)
    position, seen, entries = _unpack_one(file, order + offset), set(), 0
    while position:
        file.seek(here := position)
        entry_count = _unpack_one(file, order + count)
        seen.add(position)
        entries += entry_count
        table = file.read(entry_count * struct.calcsize("=" + entry)) if entries <= _MAX_ENTRIES else b""
        position = _unpack_one(file, order + offset)
        if position in seen or len(seen) > _MAX_PAGES or entries > _MAX_ENTRIES:
            raise ValueError("a loop, or no end")
        yield here, next((value for tag, _, _, value in struct.iter_unpack(order + entry, table) if tag == _NEW_SUBFILE_TYPE), 0)


def _unpack_one(file: BinaryIO, layout: str) -> Any:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))[0]
