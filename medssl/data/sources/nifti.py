"""One NIfTI file, or a folder of them at any depth. Every axial slice of every volume is a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from medssl.config import Limits
from medssl.data import contents, not_samples, walk
from medssl.data.folder_layout import FoldersConfig, understand_volumes
from medssl.data.formats import nifti_header
from medssl.data.frame_policy import FramePolicy, choose_frames
from medssl.data.not_samples import MasksConfig
from medssl.data.tables import JoinConfig, Joined, is_table, join_tables
from medssl.errors import ReadError, UserError
from medssl.types import Record, Source

_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
_COMPANIONS = (".img", ".img.gz", ".json", ".tsv", ".csv", ".parquet", ".txt", ".md", ".bval", ".bvec")


class Config(JoinConfig, MasksConfig, FoldersConfig):
    name: str = "nifti"
    volumes: Literal["all", "first"] = Field(
        default="all", description="Which volumes of a file become images: all, or the first of a time series."
    )
    slices: FramePolicy = Field(
        default="all", description="Which slices of a volume become images: all, first, middle or every_N, such as every_5."
    )
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


def recognises(data: str) -> bool:
    """A NIfTI file, by its suffix; or a folder most of whose images, by their content and weight, are NIfTI."""
    root = Path(data).expanduser()
    if not root.is_dir():
        return data.lower().endswith((".nii", ".nii.gz")) and root.is_file()
    return contents.kind_of_folder(root) == "nifti"


def build(config: Config, data: str) -> Source:
    """Lists the slices of the NIfTI files that `data` names. Only headers are read.

    The patient is a BIDS subject (sub-01), else the first-level folder where these folders are patients, else the case where files are
    named like sequences of cases (007_t1, 007_flair, 007_0000), else the file. Folders may also name splits and classes. Tables in the
    folder, one level below and beside it are joined; their values replace these. Files that cannot be read are in `skipped`, with a
    reason. Raises UserError where there is no volume, and for faulty tables that `config` describes.
    """
    path = Path(data).expanduser()
    if path.is_file():
        root, found = path.parent.resolve(), [walk.FoundFile(path.name)]
    else:
        root = walk.resolve_folder(data)
        found = list(walk.list_files(root))
    readable = {item.locator for item in found if not item.reason}
    images = _volume_files(root, sorted(readable))
    no_samples = not_samples.find(images, lambda locator: not_samples.nifti_look(root / locator), config.masks)
    locators = [locator for locator in images if locator not in no_samples.files]
    skipped = [*((item.locator, item.reason, item.detail) for item in found if item.reason), *no_samples.skipped]
    headers: dict[str, nifti_header.Header] = {}
    for locator in locators:
        try:
            headers[locator] = _read_header(root, locator, readable if path.is_dir() else None, config.limits)
        except ReadError as error:
            skipped.append((locator, error.reason, error.detail))
    if not headers:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(reason for _, reason, _ in skipped).most_common())
        raise UserError(
            f"There is no NIfTI volume below {data}. Check --data. Files left out: {len(skipped)}{reasons and f' ({reasons})'}."
        )
    records, folder_notes = _records(headers, config)
    tables = [locator for locator in sorted(readable) if is_table(locator)]
    joined = join_tables(records, root, config, tables) if path.is_dir() else Joined(records, [])
    others = (name for name in sorted(readable.difference(images)) if not name.lower().endswith(_COMPANIONS))
    left_out = contents.describe_others(others, "files that are no NIfTI")
    notes = (*_notes(headers, records), *no_samples.notes, *folder_notes, *joined.notes, *left_out)
    return Source("nifti", root, tuple(joined.records), notes, tuple(skipped), joined.error)


def _volume_files(root: Path, locators: Sequence[str]) -> list[str]:
    """The files that are NIfTI by their suffix, or by their content where they have another one."""
    others = [locator for locator in locators if not locator.lower().endswith((*_SUFFIXES, *_COMPANIONS))]
    kinds = contents.kinds_of_files(root, others)
    return [locator for locator in locators if locator.lower().endswith(_SUFFIXES) or kinds.get(locator) == "nifti"]


def _read_header(root: Path, locator: str, allowed: set[str] | None, limits: Limits) -> nifti_header.Header:
    """The header of a file. Raises ReadError where it cannot be used, and where its voxels are in a file that is not among `allowed`, such
    as a link that leaves the folder."""
    header = nifti_header.read(root / locator, limits)
    if allowed is not None and header.data.relative_to(root).as_posix() not in allowed:
        raise ReadError("missing_img: the voxels' file is a link that leaves the data folder")
    return header


def _records(headers: Mapping[str, nifti_header.Header], config: Config) -> tuple[list[Record], list[str]]:
    """One record for each slice, with what its folders say, and notes. The slices of a volume are in their order in space."""
    layout = understand_volumes(list(headers), config.folders)
    found = zip(headers.items(), layout.patients, layout.splits, layout.classes, strict=True)
    records = []
    for (locator, header), patient, split, name in found:
        stated = str(patient).startswith("sub-") or config.folders == "patients"
        origin = "itself" if patient == locator else "data" if stated else "names"
        record = Record(locator, "nifti", patient=patient, split=split, patient_from=origin)
        record = replace(record, labels={"label": name}) if name else record
        records += slices(record, header, header.volumes if config.volumes == "all" else 1, config.slices)
    return records, layout.notes


def slices(record: Record, header: nifti_header.Header, volumes: int, policy: str) -> list[Record]:
    """A copy of `record` for each slice that `policy` selects of the first `volumes` volumes of its file. Each volume is a series."""
    return [
        replace(record, index=volume * header.depth + at, series=f"{record.locator}#{volume}")
        for volume in range(volumes)
        for at in choose_frames(policy, header.depth)
    ]


def _notes(headers: Mapping[str, nifti_header.Header], records: Sequence[Record]) -> list[str]:
    volumes, without_orientation = len({record.series for record in records}), sum(not header.oriented for header in headers.values())
    patients = len({record.patient for record in records})
    notes = [f"{len(headers)} files, {volumes} volumes, {len(records)} axial slices of {patients} patients"]
    if without_orientation:
        notes.append(f"{without_orientation} files do not say how their axes lie: taken as left, anterior, superior")
    return notes
