"""What kinds of image files a folder holds: told by their first bytes and by their weight, not by suffix or place in the listing.

A patient CD has more icons of its viewer than images, and an archive names its files by UIDs. So a sample of every group of files with one
suffix is opened, and the kind with the most images and pixels is the kind of the folder.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from medssl import plugins
from medssl.config import Limits
from medssl.data import walk
from medssl.data.dicom.header import image_shape
from medssl.data.formats import nifti_header, raster_size
from medssl.errors import ReadError

KINDS = ("dicom", "nifti", "raster")  # readers, in this order: a DICOM file may begin like a TIFF
_HEAD_BYTES = 4096  # enough for every reader to recognise its files
_SAMPLE = 48
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,4}")  # .1234 is the last number of a UID
# Suffixes of other files that messages may name. Any other suffix may be part of a person's name.
_NAMED = re.compile(
    r"\.(bmp|csv|dcm|exe|gif|gz|hdr|htm|html|img|inf|ini|jp2|jpeg|jpg|json|log|md|mha|mhd|nii|npy|npz|nrrd|parquet|pdf|png|svs|tar|tif|tiff"
    r"|tsv|txt|webp|xls|xlsx|ods|xml|yaml|zip)"
)
_UNREAD_TABLES = frozenset((".xlsx", ".xls", ".ods", ".json", ".jsonl", ".xml", ".mat", ".sav"))
VIEWER_FOLDERS: frozenset[str] = frozenset(
    ("autorun", "bin", "css", "gfx", "help", "htm", "html", "icon", "icons", "js", "logo", "logos", "program", "viewer", "web", "www")
)
_ICON_PIXELS = 96**2
_DERIVED = 2.5  # pictures beside DICOM or NIfTI files are often made from them: a mask and a preview of each
_MAX_ICONS_PER_IMAGE = 200  # more small pictures than that beside one image are a data set of small pictures


class _Sample(NamedTuple):
    """A file that was opened. `files`: the number of files that it stands for; `area`: the pixels of one of its `images`."""

    kind: str
    images: int
    area: int
    files: float
    in_viewer: bool


def kind_of_file(path: Path) -> str:
    """The reader in KINDS that recognises the beginning of the file; "" where none does, or where the file cannot be opened."""
    if not path.is_file():  # opening a pipe would block for ever
        return ""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return ""
    return next((name for name in KINDS if plugins.find("data.readers", name).recognises(head)), "")


def kinds_of_files(root: Path, locators: Sequence[str]) -> dict[str, str]:
    """The kind of each file below `root`, "" for files of other kinds. Of the files with one usual suffix a sample is opened, and all of
    them if the sample has several kinds. Files without a usual suffix are all opened."""
    result = dict[str, str]()
    for suffix, group in _by_suffix(locators).items():
        sample = {locator: kind_of_file(root / locator) for locator in (_spread(group) if suffix else group)}
        kinds = set(sample.values())
        uniform = suffix and len(kinds) == 1
        result |= {
            locator: next(iter(kinds)) if uniform else sample[locator] if locator in sample else kind_of_file(root / locator)
            for locator in group
        }
    return result


def kind_of_folder(root: Path) -> str:
    """The kind in KINDS of the images below the folder; "" where a sample of its files holds no image.

    The weight of a kind grows with its number of images and with their pixels. Pictures in the folders of a viewer, and pictures of the
    size of an icon that are much smaller than the images beside them, have no weight.
    """
    found = list(_open_sample(root, [item.locator for item in walk.list_files(root) if not item.reason]))
    others = [each for each in found if each.kind != "raster" and each.area]
    if others:
        limit, number = min(_ICON_PIXELS, _median_area(others) / 4), _count(others)
        rasters = [each for each in found if each.kind == "raster" and not each.in_viewer]
        icons = _count(each for each in rasters if each.area <= limit) <= _MAX_ICONS_PER_IMAGE * number
        found = others + [each for each in rasters if each.area > limit or not icons]
    weights = {kind: _weight([each for each in found if each.kind == kind]) / (_DERIVED if kind == "raster" else 1) for kind in KINDS}
    return max(KINDS, key=weights.__getitem__) if max(weights.values()) > 0 else ""


def describe_others(locators: Iterable[str], what: str) -> list[str]:
    """Notes for a person on files that are not used: their number by suffix, and what to do where they may hold a table."""
    locators = list(locators)
    notes = [f"{what} left out: {counted}"] if (counted := count_suffixes(locators)) else []
    if tables := sorted({PurePosixPath(locator).suffix.lower() for locator in locators} & _UNREAD_TABLES):
        notes.append(f"{', '.join(tables)} files are not read. If one holds labels or patients, save it as a table: CSV, TSV or Parquet")
    return notes


def count_suffixes(locators: Iterable[str]) -> str:
    """The number of files of each suffix for a message, such as "60 .png, 2 of other kinds"; "" without files."""
    suffixes = (PurePosixPath(locator).suffix.lower() for locator in locators)
    counts = Counter(suffix if _NAMED.fullmatch(suffix) else "of other kinds" for suffix in suffixes)
    return ", ".join(f"{number} {suffix}" for suffix, number in counts.most_common(8))


def _by_suffix(locators: Iterable[str]) -> Mapping[str, list[str]]:
    """The locators by their suffix in small letters, "" for none and for text that is no usual suffix."""
    groups = defaultdict[str, list[str]](list)
    for locator in locators:
        suffix = PurePosixPath(locator).suffix.lower()
        groups[suffix if _SUFFIX.fullmatch(suffix) else ""].append(locator)
    return groups


def _spread(group: list[str], number: int = _SAMPLE) -> list[str]:
    """At most `number` evenly spaced members of the group."""
    return [group[at] for at in np.unique(np.linspace(0, len(group) - 1, min(number, len(group))).astype(int))]


def _open_sample(root: Path, locators: Sequence[str]) -> Iterator[_Sample]:
    for suffix, group in _by_suffix(locators).items():
        sample = _spread(group, _SAMPLE if suffix else 4 * _SAMPLE)
        for locator in sample:
            path = root / locator
            if kind := kind_of_file(path):
                images, area = _size(path, kind)
                folders = {part.lower() for part in PurePosixPath(locator).parts[:-1]}
                yield _Sample(kind, images, area, len(group) / len(sample), bool(folders & VIEWER_FOLDERS))


def _size(path: Path, kind: str) -> tuple[int, int]:
    """The number of images in the file and the pixels of one of them, from its header; (1, 0) where the header describes no image."""
    try:
        if kind == "dicom":
            frames, rows, columns = image_shape(path)
            return frames, rows * columns
        if kind == "nifti":
            header = nifti_header.read(path, Limits())
            return header.depth * header.volumes, header.plane[0] * header.plane[1]
        width, height = raster_size(path)
        return 1, width * height
    except ReadError:
        return 1, 0


def _count(samples: Iterable[_Sample]) -> float:
    return sum(each.files * each.images for each in samples)


def _median_area(samples: Sequence[_Sample]) -> float:
    ordered = sorted(samples, key=lambda each: each.area)
    share = np.cumsum([each.files for each in ordered])
    return ordered[int(np.searchsorted(share, share[-1] / 2))].area


def _weight(samples: Sequence[_Sample]) -> float:
    """The geometric mean of the number of images and of their pixels in all."""
    return float(np.sqrt(_count(samples) * sum(each.files * each.images * each.area for each in samples)))
