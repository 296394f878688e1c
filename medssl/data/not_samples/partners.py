"""Names that promise a mask, an overlay, a thumbnail or an icon, and the image to which such a file belongs.

A name is read as words: `leftMask` is left and mask, `ISIC_0000000_segmentation` is ISIC, 0000000 and segmentation. What is left without
the telling word leads to the partner: beside the file, in a folder with the same names, or in the folder above.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from os.path import commonprefix
from pathlib import PurePosixPath

from medssl.data.contents import VIEWER_FOLDERS

_MASK: frozenset[str] = frozenset(
    (
        "mask",
        "masks",
        "msk",
        "seg",
        "segs",
        "segm",
        "segmentation",
        "segmentations",
        "segmented",
        "dseg",
        "gt",
        "gts",
        "groundtruth",
        "groundtruths",
        "label",
        "labels",
        "labelmap",
        "labelmaps",
        "lbl",
        "annotation",
        "annotations",
        "annot",
        "anno",
        "annotated",
        "contour",
        "contours",
        "outline",
        "outlines",
        "roi",
        "rois",
        "manual",
        "superpixels",
        "aseg",
        "aparc",
        "wmparc",
        "parcellation",
    )
)
OVERLAY: frozenset[str] = frozenset(("overlay", "overlays", "heatmap", "heatmaps", "superimposed", "blended"))
THUMBNAIL: frozenset[str] = frozenset(("thumb", "thumbs", "thumbnail", "thumbnails", "preview", "previews", "icon", "icons"))
PROBABILITY: frozenset[str] = frozenset(("probseg",))  # of BIDS: how probable a tissue is, with many values
_WORDS = _MASK | OVERLAY | THUMBNAIL | PROBABILITY
_ENDINGS = ("mask", "masks", "segmentation", "segmentations", "labelmap", "groundtruth")  # brainmask, lungmasks
_TWO_WORDS = {("ground", "truth"), ("ground", "truths"), ("label", "map"), ("label", "maps")}
_NEGATIONS: frozenset[str] = frozenset(("no", "non", "without", "with", "un"))  # names of classes, as in with_mask and without_mask
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_SUFFIXES = re.compile(r"(\.nii)?\.[A-Za-z][A-Za-z0-9]{0,4}$")
_MAX_NEIGHBOURS = 8
Words = tuple[str, ...]


@dataclass
class Group:
    """Files of one naming. `words`: the telling words, none for files that are told by their content alone; `files`: all of them;
    `pairs`: those with a partner, as (file, partner)."""

    words: Words
    files: list[str] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)


@cache
def _words(text: str) -> Words:
    return tuple(part.lower() for part in _PART.findall(text))


def _stem(locator: str) -> Words:
    return _words.__wrapped__(_SUFFIXES.sub("", locator.rpartition("/")[2]))


def _suffix(locator: str) -> str:
    return locator.rpartition("/")[2].rpartition(".")[2].lower()


def _folder(locator: str) -> str:
    return locator.rpartition("/")[0]


def _telling(words: Words) -> list[int]:
    """The places of the words that promise a mask, an overlay or a thumbnail; none where the words deny it."""
    if not _NEGATIONS.isdisjoint(words):
        return []
    found = [at for at, word in enumerate(words) if word in _WORDS or word.endswith(_ENDINGS)]
    pairs = [at for at, pair in enumerate(pairwise(words)) if pair in _TWO_WORDS]
    return sorted({*found, *pairs, *(at + 1 for at in pairs)})


@cache
def _telling_folder(folder: str) -> tuple[int, Words]:
    """The depth of the last part of the path that promises masks, and its telling words; (-1, ()) where none does."""
    for depth, part in reversed(list(enumerate(PurePosixPath(folder).parts))):
        words = _words(part)
        if places := _telling(words):
            return depth, tuple(words[at] for at in places)
    return -1, ()


def named_groups(locators: Sequence[str]) -> list[Group]:
    """The files whose names or folders promise that they are no samples, and that have a partner, or share the naming of files that have
    one. Files are grouped by their telling words and suffixes."""
    named = [locator for locator in locators if _telling(_stem(locator)) or _telling_folder(_folder(locator))[0] >= 0]
    if not named or len(named) == len(locators):
        return []
    telling = set(named)
    partners = _Partners([locator for locator in locators if locator not in telling])
    groups = dict[tuple[Words, str], Group]()
    for locator in named:
        stem = _stem(locator)
        words = (*_telling_folder(_folder(locator))[1], *(stem[at] for at in _telling(stem)))
        group = groups.setdefault((words, _suffix(locator)), Group(words))
        group.files.append(locator)
        if partner := partners.find(locator):
            group.pairs.append((locator, partner))
    return [group for group in groups.values() if group.pairs]


def unnamed_groups(locators: Sequence[str]) -> list[Group]:
    """Files without telling names that have the name of another file with words added, its name in another folder or with another suffix,
    or one name in many small folders, such as lesion.nii beside flair.nii. They are grouped by what differs, the largest groups first."""
    stems = [_stem(locator) for locator in locators]
    by_folder, by_stem = defaultdict[str, dict[Words, str]](dict), defaultdict[Words, list[str]](list)
    for locator, stem in zip(locators, stems, strict=True):
        by_stem[stem].append(locator)
        by_folder[_folder(locator)].setdefault(stem, locator)
    groups = dict[Words, Group]()
    for locator, stem in zip(locators, stems, strict=True):
        partners = [*_with_shorter_name(locator, stem, by_folder[_folder(locator)], by_stem)]
        if len(by_stem[stem]) > 1:
            partners += _with_same_name(locator, by_stem[stem])
        partners += _in_small_folder(locator, stem, by_folder[_folder(locator)])
        for key, partner in partners:
            group = groups.setdefault(key, Group(()))
            group.files.append(locator)
            group.pairs.append((locator, partner))
    return sorted(groups.values(), key=lambda group: -len(group.pairs))


def _with_shorter_name(
    locator: str, stem: Words, beside: Mapping[Words, str], by_stem: Mapping[Words, Sequence[str]]
) -> Iterator[tuple[Words, str]]:
    """The file whose name is the longest beginning of this one's, with the key of the group: the words that are added, and the suffix."""
    for length in range(len(stem) - 1, 0, -1):
        shorter = stem[:length]
        if partner := beside.get(shorter) or (by_stem[shorter][0] if shorter in by_stem and _has_number(shorter) else ""):
            yield ("name", *_without_numbers(stem[length:]), _suffix(locator)), partner
            return


def _with_same_name(locator: str, alike: Sequence[str]) -> Iterator[tuple[Words, str]]:
    """The files of the same name in a folder that differs by one part, or with another suffix; each with the key of the group."""
    folder = _folder(locator).split("/")
    for other in alike[:_MAX_NEIGHBOURS]:
        parts = _folder(other).split("/")
        different = [mine for mine, theirs in zip(folder, parts, strict=False) if mine != theirs]
        if other != locator and len(parts) == len(folder) and len(different) <= 1:
            yield ("folder" if different else "suffix", *different, _suffix(locator)), other


def _in_small_folder(locator: str, stem: Words, beside: Mapping[Words, str]) -> Iterator[tuple[Words, str]]:
    """The first file of another name in a folder of a few files, with the name, without its numbers, as the key of the group."""
    name = _without_numbers(stem)
    if 1 < len(beside) <= _MAX_NEIGHBOURS and (other := next((of for words, of in beside.items() if _without_numbers(words) != name), "")):
        yield ("beside", *name, _suffix(locator)), other


def _without_numbers(words: Words) -> Words:
    return tuple("#" if word.isdigit() else word for word in words)


def in_viewer_folders(locators: Sequence[str]) -> list[str]:
    """The files in folders of a viewer."""
    return [locator for locator in locators if not VIEWER_FOLDERS.isdisjoint(_folder(locator).lower().split("/"))]


class _Partners:
    """The images to which other files may belong: those whose names promise no mask."""

    def __init__(self, locators: Sequence[str]) -> None:
        self._locators = locators
        self._by_stem = defaultdict[Words, list[str]](list)
        self._by_folder = defaultdict[str, list[str]](list)
        self._by_prefix: dict[Words, list[str]] | None = None  # made where a partner is not found by its whole name
        for locator in locators:
            self._by_stem[_stem(locator)].append(locator)
            self._by_folder[_folder(locator)].append(locator)

    def find(self, locator: str) -> str:
        """The image to which the file belongs, "" where none is found."""
        stem = _stem(locator)
        keys = list(_keys(stem, _telling(stem)))
        for index in (self._by_stem, self._prefixes()) if keys else ():
            for key in keys:
                if found := index.get(key):
                    return max(found, key=lambda other: len(commonprefix([other, locator])))
        depth, _ = _telling_folder(_folder(locator))
        above = "/".join(PurePosixPath(locator).parts[:depth]) if depth >= 0 else _folder(locator)
        neighbours = self._by_folder.get(above, [])
        return neighbours[0] if 0 < len(neighbours) <= _MAX_NEIGHBOURS else ""

    def _prefixes(self) -> Mapping[Words, list[str]]:
        if self._by_prefix is None:
            self._by_prefix = defaultdict(list)
            for locator in self._locators:
                stem = _stem(locator)
                for part in {*(stem[:length] for length in range(1, len(stem))), *(stem[length:] for length in range(1, len(stem)))}:
                    if len(self._by_prefix[part]) < 4 * _MAX_NEIGHBOURS:
                        self._by_prefix[part].append(locator)
        return self._by_prefix


def _keys(stem: Words, places: Sequence[int]) -> Iterable[Words]:
    """The words that lead from the name of a file to that of its partner: the name without the telling words; what stands before them; what
    stands behind; beginnings with a number, as sub-01 of sub-01_desc-brain_mask. A name without telling words leads as a whole."""
    if not places:
        return [stem]
    before = stem[: places[0]]
    keys = [tuple(word for at, word in enumerate(stem) if at not in places), before, stem[places[-1] + 1 :]]
    shorter = [before[:length] for length in range(len(before) - 1, 1, -1) if _has_number(before[:length])]
    return [key for key in dict.fromkeys([*keys, *shorter]) if key]


def _has_number(words: Words) -> bool:
    return any(word.isdigit() for word in words)
