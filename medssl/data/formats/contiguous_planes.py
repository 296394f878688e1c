"""TIFF files with one image file directory and many planes: stacks of ImageJ, and of tifffile where it was told to write no more of them.

The planes lie one after another, without compression, behind the place that the directory names (ImageJ's TiffEncoder writes so where the
offsets would exceed 4 GB). The description in the directory states their number.
"""

import json
import math
import re
import struct
from typing import BinaryIO, NamedTuple

import numpy as np

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _DESCRIPTION, _OFFSETS, _SAMPLES, _PLANAR, _FORMAT = 256, 257, 258, 259, 270, 273, 277, 284, 339
_LAYOUTS = {42: ("I", "H", 4, 4), 43: ("Q", "Q", 8, 8)}  # version -> offset, count, bytes of a value, position of the first offset
_SIZES = {1: ("B", 1), 2: ("B", 1), 3: ("H", 2), 4: ("I", 4), 16: ("Q", 8)}  # type of an element -> `struct` layout, bytes
_MAX_PLANES, _MAX_ENTRIES, _MAX_VALUES = 1_000_000, 4096, 1 << 20


class Stack(NamedTuple):
    """`planes`: their number; `start`: the byte of the first; `shape`: of one plane, [H, W] or [H, W, 3]."""

    planes: int
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def plane_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def find_stack(file: BinaryIO) -> Stack | None:
    """The stack in an open TIFF file; None for a file of another kind, also a TIFF with a directory for each page."""
    try:
        elements, last = _read_directory(file)
        planes = _count_planes(bytes(elements.get(_DESCRIPTION, ())), elements) if last else 1
        bits, samples = set(elements[_BITS]), elements.get(_SAMPLES, (1,))[0]
        kind = {1: "u", 2: "i", 3: "f"}[elements.get(_FORMAT, (1,))[0]]
        plain = elements.get(_COMPRESSION, (1,))[0] == 1 and len(bits) == 1 and (samples == 1 or elements.get(_PLANAR, (1,))[0] == 1)
        if not 1 < planes <= _MAX_PLANES or not plain or samples not in (1, 3) or not bits <= {8, 16, 32}:
            return None
        file.seek(0)
        dtype = np.dtype(f"{'<' if file.read(2) == b'II' else '>'}{kind}{bits.pop() // 8}")
        shape = (elements[_HEIGHT][0], elements[_WIDTH][0], *([3] if samples == 3 else []))
        stack = Stack(planes, elements[_OFFSETS][0], shape, dtype)
        whole = stack.start + stack.planes * stack.plane_bytes <= file.seek(0, 2)
        return stack if whole and stack.plane_bytes else None
    except (OSError, struct.error, KeyError, IndexError, ValueError, TypeError):
        return None


def read_plane(file: BinaryIO, stack: Stack, index: int) -> np.ndarray:
    """The values of plane `index`, [H, W] or [H, W, 3], in the byte order of the machine."""
    file.seek(stack.start + index * stack.plane_bytes)
    plane = np.frombuffer(file.read(stack.plane_bytes), stack.dtype).reshape(stack.shape)
    return plane.astype(stack.dtype.newbyteorder("="))


def _read_directory(file: BinaryIO) -> tuple[dict[int, tuple[int, ...]], bool]:
    """The elements that are needed of the first directory, and whether it is the last one."""
    file.seek(0)
    order = {b"II": "<", b"MM": ">"}[file.read(2)]
    offset, count, width, first = _LAYOUTS[struct.unpack(order + "H", file.read(2))[0]]
    file.seek(first)
    file.seek(struct.unpack(order + offset, file.read(width))[0])
    number = struct.unpack(order + count, file.read(struct.calcsize("=" + count)))[0]
    size = 4 + 2 * width
    table = file.read(size * number) if number <= _MAX_ENTRIES else b""
    last = struct.unpack(order + offset, file.read(width))[0] == 0
    wanted = (_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _DESCRIPTION, _OFFSETS, _SAMPLES, _PLANAR, _FORMAT)
    elements = {}
    for at in range(0, len(table), size):
        tag, kind, values = struct.unpack_from(f"{order}HH{offset}", table, at)
        if tag in wanted and kind in _SIZES and values <= _MAX_VALUES:
            layout, each = _SIZES[kind]
            content = table[at + 4 + width : at + size]
            if values * each > width:
                file.seek(struct.unpack(order + offset, content)[0])
                content = file.read(values * each)
            elements[tag] = struct.unpack_from(f"{order}{values}{layout}", content)
    return elements, last


def _count_planes(description: bytes, elements: dict[int, tuple[int, ...]]) -> int:
    """The number of planes that the description of ImageJ or tifffile states, 1 where it states none."""
    text = description.rstrip(b"\0").decode("latin-1")
    if text.startswith("ImageJ="):
        found = re.search(r"^images=(\d{1,9})\s*$", text, re.MULTILINE)
        return int(found[1]) if found else 1
    if text.startswith('{"shape"'):
        pixels = elements[_HEIGHT][0] * elements[_WIDTH][0] * elements.get(_SAMPLES, (1,))[0]
        return math.prod(json.loads(text)["shape"]) // pixels
    return 1
