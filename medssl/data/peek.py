"""Reading a few images of a source for their colour, size, bits and modality, by which a preset is chosen, and for bits that no image
uses."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

import numpy as np

from medssl.config import Data, windows_hu
from medssl.data.decode import RecordReader
from medssl.data.dicom import WITHOUT_HU
from medssl.data.modality import modality_of
from medssl.data.store import Store
from medssl.data.workers import run_in_workers
from medssl.errors import ZERO_FOR_NAN, ReadError, UserError
from medssl.types import Decoded, Record, Source

_TRIES_PER_IMAGE = 4
_VOLUMES = 4  # are enough, and take as long as hundreds of images
_MORE_FOR_BITS = 128  # the images that are read where the first ones leave bits unused
_UNUSED = 2  # fewer unused bits are no fault: a set of dark images may leave one
_EIGHT_BITS = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg")


@dataclass(frozen=True, slots=True)
class Peek:
    """`channels`: 3 where more than half of the images have colour. `edge`: the median of their shorter sides in pixels.
    `bits`: the most that one of them stores. `modalities`: the number of images of each modality, the most frequent first: of all images
    where their headers state it, else of those that were read; empty where no format knows of a modality. `used_bits`: the most that one
    of them needs, where that is two bits less than `bits` at least, else None."""

    channels: Literal[1, 3]
    edge: int
    bits: int
    modalities: Mapping[str, int] = field(default_factory=dict)
    used_bits: int | None = None


def peek(source: Source, data: Data, count: int = 16) -> Peek:
    """The colour, size and bits of `count` evenly spaced images of the source. Where some cannot be read, up to four times as many are
    tried.

    Raises UserError, with the reasons, where no image can be read.
    """
    if source.kind == "store":
        return _of_store(Store.open(source.root))
    count = count if not source.whole else _VOLUMES
    images = _read(source, data, count)
    look = _summary(images, source.records)
    if data.used_bits is None and _unused(images) and not source.whole and len(source.records) > len(images):
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
    faults, details = Counter[str](), dict[str, str]()
    places = (record.place for record in _spread(source.records, count))
    with closing(run_in_workers(RecordReader, (source.root, data), places, data.limits, processes=1, large=source.whole)) as results:
        for result in results:
            if isinstance(result, ReadError):
                faults[result.reason] += 1
                details.setdefault(result.reason, result.detail)
            else:
                images.append(result)
            if len(images) == count:
                break
    if not images:
        reasons = "; ".join(f"{n} x {reason}{f' ({details[reason]})' if source.whole else ''}" for reason, n in faults.most_common(3))
        what = "volume" if source.whole else "image"
        remedy = f" {ZERO_FOR_NAN}." if "non_finite" in faults else ""
        raise UserError(f"No {what} can be read ({reasons or 'there is none'}). Check what --data names.{remedy}")
    return images


def _unused(images: Sequence[Decoded]) -> int | None:
    """The bits that the images need, where the files of most bits leave two or more unused; None where they do not."""
    scaled = [image for image in images if image.used_bits]
    used = max((image.used_bits for image in scaled), default=0)
    return used if used and used <= max(image.bits for image in scaled) - _UNUSED else None


def _summary(images: list[Decoded], records: tuple[Record, ...]) -> Peek:
    shapes = [image.pixels.shape for image in images]
    colour = 2 * sum(shape[0] == 3 for shape in shapes) > len(shapes)
    edge, bits = int(median(min(shape[1:]) for shape in shapes)), max(image.bits for image in images)
    return Peek(3 if colour else 1, edge, bits, _modalities(Counter(image.modality for image in images), records), _unused(images))


def _modalities(read: Counter[str], records: tuple[Record, ...]) -> Mapping[str, int]:
    """`read`: the modalities of the images that were read."""
    counts = Counter(modality_of(record) for record in records)
    if any(record.reader != "dicom" for record in records) or "unknown" in counts:
        counts = read if set(read) != {""} else Counter()
        counts = Counter({name or "unknown": number for name, number in counts.items()})
    elif read[WITHOUT_HU] > read["CT"]:  # a header states the modality; whether its values are in HU is known of what was read
        counts[WITHOUT_HU] = counts.pop("CT")
    return dict(counts.most_common())


def _of_store(store: Store) -> Peek:
    shorter = store.table[[name for name in ("depth", "height", "width") if name in store.table]].to_numpy().min(axis=1)
    edge, bits = int(np.median(shorter)), int(store.table["bits"].to_numpy().max())
    return Peek(3 if store.images.shape[1] == 3 else 1, edge, bits, _modalities_of_store(store))


def _modalities_of_store(store: Store) -> Mapping[str, int]:
    """As the table states them. Volumes of NIfTI files were taken for CT if they were prepared with a window in HU."""
    if "extra:modality" in store.table:
        return dict(Counter(name or "unknown" for name in store.table["extra:modality"]).most_common())
    readers = store.card["versions"]["readers"]
    if "nifti" in readers:
        return {"CT" if windows_hu(store.card["settings"]["window"]) else "MR": len(store.table)}
    return {"unknown": len(store.table)} if "dicom" in readers else {}


def _spread(records: tuple[Record, ...], count: int) -> list[Record]:
    """4 * `count` evenly spaced records. The first `count` of the list are evenly spaced, too."""
    if not records:
        return []
    rows = np.unique(np.linspace(0, len(records) - 1, count * _TRIES_PER_IMAGE).astype(int)).tolist()
    return [records[row] for start in range(_TRIES_PER_IMAGE) for row in rows[start::_TRIES_PER_IMAGE]]
