"""Several sequences of an examination as the channels of one volume: `data.sequences: [T1, T2, FLAIR]`.

A volume is of a sequence by the column of a table, by the end of its file's name (sub-01_T1w.nii.gz), or by a folder (T1/).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import NamedTuple

from medssl.types import SPLITS, Record

COLUMN = "sequence"  # the role of the table's column
_SUFFIX = re.compile(r"\.(nii|img|hdr|dcm)(\.gz)?$", re.IGNORECASE)
_OF_BIDS = re.compile(r"(?:^|_)((?:sub|ses)-[^_]+)")  # not the further entities, such as acq-mprage: another sequence lacks them
FINDING = (
    "A sequence is found by the end of a file's name (sub-01_T1w.nii.gz), by a folder (T1/), or by a column of the table: "
    "--set data.source.columns.sequence=COLUMN"
)


class Joined(NamedTuple):
    """`records`: one for each complete examination; `skipped`: as in `types.Source`; `notes`: for a person."""

    records: list[Record]
    skipped: list[tuple[str, str, str]]
    notes: list[str]


def join_sequences(volumes: Sequence[Record], names: Sequence[str]) -> Joined:
    """One record for each examination that has all sequences `names`, in their order. Of several volumes of one sequence the first is
    taken.

    The other volumes are skipped: incomplete, repeated_sequence, other_sequence. An examination has the labels on which its volumes agree.
    """
    found: dict[Hashable, dict[str, Record]] = defaultdict(dict)
    skipped = []
    for volume, place in zip(volumes, _places(volumes, names), strict=True):
        if place is None:
            skipped.append((volume.locator, "other_sequence", "none of data.sequences"))
        elif place.sequence in found[place.examination]:
            skipped.append((volume.locator, "repeated_sequence", f"a second {place.sequence} of one examination"))
        else:
            found[place.examination][place.sequence] = volume
    complete = [[each[name] for name in names] for each in found.values() if len(each) == len(names)]
    missing = Counter(name for each in found.values() for name in names if name not in each)
    for each in found.values():
        if without := [name for name in names if name not in each]:
            skipped += [(volume.locator, "incomplete", f"without {', '.join(without)}") for volume in each.values()]
    notes = [f"{len(complete)} examinations with the channels {', '.join(names)}"]
    if left := len(found) - len(complete):
        lacking = ", ".join(f"{number} without {name}" for name, number in missing.items())
        notes.append(f"{left} incomplete examinations left out: {lacking}")
    records = [_examination(each) for each in complete]
    if differing := sum(len(record.labels) < len({name for each in record.sequences for name in each.labels}) for record in records):
        notes.append(f"the sequences of {differing} examinations have different labels: these have none")
    return Joined(records, skipped, notes)


class _Place(NamedTuple):
    """The sequence of a volume, and what the volumes of its examination have in common."""

    sequence: str
    examination: Hashable


def _places(volumes: Sequence[Record], names: Sequence[str]) -> list[_Place | None]:
    """The place of each volume; None for other sequences. A study of the headers or of a table is an examination. Without one, paths tell
    it: what remains without the name of the sequence, also without the name of a file that is the only one in its folder."""
    in_folder = Counter(str(PurePosixPath(volume.locator).parent) for volume in volumes)
    return [_place(volume, names, in_folder) for volume in volumes]


def _place(volume: Record, names: Sequence[str], in_folder: Counter[str]) -> _Place | None:
    if COLUMN in volume.extra:
        found = _ending(volume.extra[COLUMN], names)
        return _Place(found[1], (volume.patient, volume.study)) if found else None
    path = PurePosixPath(_SUFFIX.sub("", volume.locator))
    for at in reversed(range(len(path.parts))):
        if found := _ending(path.parts[at], names):
            beginning, sequence = found
            rest = path.parts[at + 1 : -1 if in_folder[str(path.parent)] == 1 else None]
            own = (path.parts[:at], *(_OF_BIDS.findall(beginning) or [beginning]), rest)
            return _Place(sequence, (volume.patient, volume.study) if volume.study else own)
    return None


def _ending(text: str, names: Sequence[str]) -> tuple[str, str] | None:
    """What stands before the name at the end of a text, and that name. Upper and lower case are alike, and T1w is T1, as in BIDS."""
    for name in sorted(names, key=len, reverse=True):
        if found := re.search(rf"(?:^|[-_. ]){re.escape(name)}w?$", text, re.IGNORECASE):
            return text[: found.start()], name
    return None


def _examination(volumes: Sequence[Record]) -> Record:
    """The record of the examination. In the split it has the highest role of its volumes, so that nothing of a test is trained on."""
    values = {name: {each.labels[name] for each in volumes if each.labels.get(name)} for volume in volumes for name in volume.labels}
    labels = {name: next(iter(stated)) for name, stated in values.items() if len(stated) == 1}
    split = max((volume.split for volume in volumes if volume.split), key=SPLITS.index, default=None)
    extra = {name: value for name, value in volumes[0].extra.items() if name != COLUMN}
    return replace(volumes[0], labels=labels, split=split, extra=extra, parts=(), sequences=tuple(volumes))
