"""One record for each whole volume, from the records of its slices: `data.volumes=whole` or `patches`.

Sources list slices, and tables beside the images are joined to slices. So labels, patients and splits are found in one way for both.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

from medssl import plugins
from medssl.config import Data
from medssl.data.dicom import STACKS
from medssl.data.volume_sequences import FINDING, join_sequences
from medssl.errors import UserError
from medssl.types import SPLITS, Record, Source

_POLICIES = ("slices", "frames")  # options of sources that choose among slices
_SAID = "it takes volumes: NIfTI files, DICOM series of CT, MR or PET, and arrays [N, D, H, W] in .npz files"


def as_volumes(source: Source, data: Data) -> Source:
    """The source with one record for each volume. What is no slice of a volume is in `skipped`, with the reason no_volume.

    A volume has the label that its slices have; none where they differ, and a note says so. With `data.sequences` there is one record for
    each examination. A store stays as it is. Raises UserError where there is no volume or no complete examination, and where the source was
    told to choose among slices.
    """
    if source.kind == "store" or source.whole:
        return source
    for name in _POLICIES:
        if (chosen := getattr(data.source, name, "all")) != "all":
            raise UserError(
                f"data.source.{name} = {chosen} chooses among the slices of a volume, but data.volumes={data.volumes} takes all of them."
            )
    groups: dict[Hashable, list[Record]] = {}
    others: dict[str, None] = {}
    readers = plugins.names("data.volume_readers")
    for record in source.records:
        if record.series and record.reader in readers:
            groups.setdefault((record.reader, record.study, record.series, record.stack), []).append(record)
        else:
            others[record.locator] = None
    if not groups:
        slices = sum(record.extra.get("modality") in STACKS and not record.series for record in source.records)
        cause = f" {slices} slices of CT, MR or PET name no series (SeriesInstanceUID), so they cannot be joined." if slices else ""
        raise UserError(f"{data.path} holds no volume for data.volumes={data.volumes}: {_SAID}.{cause} For images, leave that out.")
    volumes = [_volume(slices) for slices in groups.values()]
    skipped = tuple((locator, "no_volume", "no slice of a volume") for locator in others)
    records = [volume for volume, _ in volumes]
    notes = _notes(records, sum(map(len, groups.values())), sum(differs for _, differs in volumes), data)
    if data.sequences:
        joined = join_sequences(records, data.sequences)
        records, notes, skipped = joined.records, [*notes, *joined.notes], (*skipped, *joined.skipped)
        if not records:
            raise UserError(f"{data.path} holds no examination with all of {', '.join(data.sequences)}: {'; '.join(notes[1:])}. {FINDING}")
    notes, skipped = (*source.notes, *notes), (*source.skipped, *skipped)
    return replace(source, records=tuple(records), notes=notes, skipped=skipped, whole=True)


def _volume(slices: Sequence[Record]) -> tuple[Record, bool]:
    """The record of the volume with these slices, and whether they have different labels. In the split it has the highest role of its
    slices, so that no slice of a test volume is trained on."""
    first = slices[0]
    values = {name: {record.labels.get(name, "") for record in slices} for name in dict.fromkeys(k for r in slices for k in r.labels)}
    labels = {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
    split = max((record.split for record in slices if record.split), key=SPLITS.index, default=None)
    volume = replace(first, labels=labels, split=split)
    if first.reader == "dicom":
        return replace(volume, parts=tuple((record.locator, record.index) for record in slices)), len(labels) < len(values)
    return replace(volume, index=first.index // len(slices)), len(labels) < len(values)


def _notes(volumes: Sequence[Record], slices: int, differing: int, data: Data) -> list[str]:
    notes = [f"{len(volumes)} whole volumes of {slices} slices" + ("" if data.sequences else ": each is one sample")]
    if differing:
        notes.append(f"the slices of {differing} volumes have different labels or only some have one: these volumes have none")
    return notes
