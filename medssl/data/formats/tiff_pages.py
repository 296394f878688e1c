"""The pages of a TIFF file, from its chain of image file directories alone (TIFF 6.0, section 2; BigTIFF likewise)."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_MAX_PAGES, _MAX_ENTRIES = 100_000, 2_000_000
_KIND, _REDUCED_OR_MASK = 254, 0b101  # NewSubfileType: a thumbnail, a level of a pyramid, a mask of transparency
# version -> forms of an offset, of a count and of a directory's entry, and where the first offset stands
_FORMS = {42: ("I", "H", "HHII", 4), 43: ("Q", "Q", "HHQI4x", 8)}


def picture_pages(path: Path) -> list[int]:
    """The pages that are pictures of their own, [0] for a file in which no chain can be followed: its reader will say why."""
    try:
        with path.open("rb") as file:
            kinds = list(_kinds(file))
    except (OSError, struct.error, ValueError):
        return [0]
    return [page for page, kind in enumerate(kinds) if not kind & _REDUCED_OR_MASK] or [0]


def _kinds(file: BinaryIO) -> Iterator[int]:
    """The NewSubfileType of each page. Raises struct.error where the file ends too early, ValueError for a loop and for other files."""
    order = {b"II": "<", b"MM": ">"}.get(file.read(2), "=")
    version = _number(file, order + "H")
    if order == "=" or version not in _FORMS:
        raise ValueError("not TIFF")
    offset, count, entry, first = _FORMS[version]
    file.seek(first)
    at, seen, entries = _number(file, order + offset), set(), 0
    while at:
        file.seek(at)
        own = _number(file, order + count)
        seen.add(at)
        entries += own
        table = file.read(own * struct.calcsize("=" + entry)) if entries <= _MAX_ENTRIES else b""
        at = _number(file, order + offset)
        if at in seen or len(seen) > _MAX_PAGES or entries > _MAX_ENTRIES:
            raise ValueError("a loop, or no end")
        yield next((value for tag, _, _, value in struct.iter_unpack(order + entry, table) if tag == _KIND), 0)


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
