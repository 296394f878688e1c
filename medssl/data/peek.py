"""Reading a few images of a source for their colour, size and bits, by which a preset is chosen, and for bits that no image uses."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

import numpy as np

from medssl.config import Data
from medssl.data.decode import RecordReader
from medssl.data.store import Store
from medssl.data.workers import run_in_workers
from medssl.errors import ReadError, UserError
from medssl.types import Decoded, Record, Source

_TRIES_PER_IMAGE = 4
_MORE_FOR_BITS = 128  # the images that are read where the first ones leave bits unused
_UNUSED = 2  # fewer unused bits are no fault: a set of dark images may leave one
_EIGHT_BITS = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg")


@dataclass(frozen=True, slots=True)
class Peek:
    """`channels`: 3 where more than half of the images have colour. `edge`: the median of their shorter sides in pixels.
    `bits`: the most that one of them stores; `used_bits`: the most that one of them needs, where that is two bits less at least, else
    None."""

    channels: Literal[1, 3]
    edge: int
    bits: int
    used_bits: int | None = None


def peek(source: Source, data: Data, count: int = 16) -> Peek:
    """The colour, size and bits of `count` evenly spaced images of the source. Where some cannot be read, up to four times as many are
    tried.

    Raises UserError, with the reasons, where no image can be read.
    """
    if source.kind == "store":
        return _of_store(Store.open(source.root))
    images = _read(source, data, count)
    look = _summary(images)
    if data.used_bits is None and _unused(images) and len(source.records) > len(images):
        look = replace(look, used_bits=_unused(_read(source, data, _MORE_FOR_BITS)))
    return look


def may_leave_bits_unused(source: Source) -> bool:
    """Whether the source may hold images of more than 8 bits that are scaled by all of their bits."""
    if source.kind in ("store", "phantom"):
        return False
    readers = {record.reader for record in source.records if not record.locator.lower().endswith(_EIGHT_BITS)}
    return not readers <= {"nifti"}


def _read(source: Source, data: Data, count: int) -> list[Decoded]:
    """`count` evenly spaced images. Raises UserError, with the reasons, where none can be read."""
    images: list[Decoded] = []
    faults = Counter[str]()
    with closing(run_in_workers(RecordReader, (source.root, data), _spread(source.records, count), data.limits, processes=1)) as results:
        for result in results:
            if isinstance(result, ReadError):
                faults[result.reason] += 1
            else:
                images.append(result)
            if len(images) == count:
                break
    if not images:
        reasons = "; ".join(f"{number} x {reason}" for reason, number in faults.most_common(3))
        raise UserError(f"No image can be read ({reasons or 'there is none'}). Check what --data names.")
    return images


def _unused(images: Sequence[Decoded]) -> int | None:
    """The bits that the images need, where the files of most bits leave two or more unused; None where they do not."""
    scaled = [image for image in images if image.used_bits]
    used = max((image.used_bits for image in scaled), default=0)
    return used if used and used <= max(image.bits for image in scaled) - _UNUSED else None


def _summary(images: list[Decoded]) -> Peek:
    shapes = [image.pixels.shape for image in images]
    colour = 2 * sum(channels == 3 for channels, _, _ in shapes) > len(shapes)
    edge = int(median(min(shape[1:]) for shape in shapes))
    return Peek(3 if colour else 1, edge, max(image.bits for image in images), _unused(images))


def _of_store(store: Store) -> Peek:
    shorter = store.table[["height", "width"]].to_numpy().min(axis=1)
    return Peek(3 if store.images.shape[1] == 3 else 1, int(np.median(shorter)), int(store.table["bits"].to_numpy().max()))


def _spread(records: tuple[Record, ...], count: int) -> list[Record]:
    """4 * `count` evenly spaced records. The first `count` of the list are evenly spaced, too."""
    if not records:
        return []
    rows = np.unique(np.linspace(0, len(records) - 1, count * _TRIES_PER_IMAGE).astype(int)).tolist()
    return [records[row] for start in range(_TRIES_PER_IMAGE) for row in rows[start::_TRIES_PER_IMAGE]]
