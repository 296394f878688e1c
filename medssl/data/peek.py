"""Reading a few images of a source for their colour, size and bits, by which a preset is chosen."""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Peek:
    """`channels`: 3 where more than half of the images have colour. `edge`: the median of their shorter sides in pixels.
    `bits`: the most that one of them stores."""

    channels: Literal[1, 3]
    edge: int
    bits: int


def peek(source: Source, data: Data, count: int = 16) -> Peek:
    """The colour, size and bits of `count` evenly spaced images of the source. Where some cannot be read, up to four times as many are
    tried.

    Raises UserError, with the reasons, where no image can be read.
    """
    if source.kind == "store":
        return _of_store(Store.open(source.root))
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
    return _summary(images)


def _summary(images: list[Decoded]) -> Peek:
    shapes = [image.pixels.shape for image in images]
    colour = 2 * sum(channels == 3 for channels, _, _ in shapes) > len(shapes)
    return Peek(3 if colour else 1, int(median(min(shape[1:]) for shape in shapes)), max(image.bits for image in images))


def _of_store(store: Store) -> Peek:
    shorter = store.table[["height", "width"]].to_numpy().min(axis=1)
    return Peek(3 if store.images.shape[1] == 3 else 1, int(np.median(shorter)), int(store.table["bits"].to_numpy().max()))


def _spread(records: tuple[Record, ...], count: int) -> list[Record]:
    """4 * `count` evenly spaced records. The first `count` of the list are evenly spaced, too."""
    if not records:
        return []
    rows = np.unique(np.linspace(0, len(records) - 1, count * _TRIES_PER_IMAGE).astype(int)).tolist()
    return [records[row] for start in range(_TRIES_PER_IMAGE) for row in rows[start::_TRIES_PER_IMAGE]]
