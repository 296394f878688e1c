"""The frames of many DICOM files from their headers: one record for each frame, series by series, slices in their order in space."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medssl.config import Limits
from medssl.data.dicom import slice_order
from medssl.data.dicom.header import DicomHeader, HeaderReader
from medssl.data.dicom.modalities import SLICES, STACKS
from medssl.data.dicom.selection import Selection
from medssl.data.dicom.slice_order import Slice
from medssl.data.frame_policy import choose_frames
from medssl.data.workers import run_in_workers
from medssl.errors import ReadError
from medssl.types import Record

_Series = list[tuple[Slice, DicomHeader]]


class FrameListing(NamedTuple):
    """The frames that were found, notes on them for a person, the files left out as (locator, reason code, detail), and the files by
    what tables may call them: {"image": {SOPInstanceUID: files}, "accession": {AccessionNumber: files}}."""

    records: tuple[Record, ...]
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str, str], ...]
    names: Mapping[str, Mapping[str, Sequence[str]]]


def list_frames(root: Path, locators: Sequence[str], limits: Limits, choice: Selection | None = None) -> FrameListing:
    """The frames of the files below `root`. Studies, and the series of a study, come in the order in which they first appear.

    Worker processes read the headers, so a header that makes pydicom hang costs that file only. Files that are no images, or that
    `choice` leaves out, are skipped with a reason: empty, not_dicom, not_an_image, no_pixels, bad_header, deflated_too_big, unreadable,
    not_primary, burned_in, missing_decoder, undecodable, crashed, timed_out, too_much_memory. Without a `choice` derived images are
    included: a person has listed the files one by one.
    """
    choice = choice or Selection(derived="keep")
    files: list[DicomHeader] = []
    skipped: list[tuple[str, str, str]] = []
    for locator, result in zip(locators, run_in_workers(HeaderReader, (root, limits, choice), locators, limits), strict=True):
        if isinstance(result, ReadError):
            skipped.append((locator, result.reason, result.detail))
        else:
            files.append(result)
    if choice.derived == "skip":
        captures = _captures_beside_series(files)
        skipped += [(locator, "not_primary", "a secondary capture beside a series of slices") for locator in sorted(captures)]
        files = [file for file in files if file.locator not in captures]
    shared = _shared_uids(files)
    files = [file._replace(series=f"{file.series} {file.patient}") if (file.study, file.series) in shared else file for file in files]
    series = _group_into_series(files, choice)
    records = tuple(
        _record(file, frame, stack)
        for frames in series
        for (frame, file), stack in zip(frames, slice_order.stack_numbers([frame for frame, _ in frames]), strict=True)
    )
    notes = [*_notes(files, records), *_notes_on_series(series)]
    if shared:
        notes.append(f"{len(shared)} series UIDs are those of several patients: the slices of each patient are taken as a series")
    return FrameListing(records, tuple(notes), tuple(skipped), _names(files))


def _names(files: Sequence[DicomHeader]) -> Mapping[str, Mapping[str, Sequence[str]]]:
    names: dict[str, dict[str, list[str]]] = {"image": {}, "accession": {}}
    for file in files:
        for kind, name in (("image", file.instance), ("accession", file.accession)):
            if name:
                names[kind].setdefault(name, []).append(file.locator)
    return names


def _shared_uids(files: Sequence[DicomHeader]) -> set[tuple[str | None, str | None]]:
    """Study and series where several patients have the same ones, as after a pseudonymisation that gave all files the same UIDs."""
    patients: dict[tuple[str | None, str | None], set[str]] = defaultdict(set)
    for file in files:
        if not file.patient_id_missing:
            patients[file.study, file.series].add(file.patient)
    return {uids for uids, found in patients.items() if uids[1] and len(found) > 1}


def _group_into_series(files: Sequence[DicomHeader], choice: Selection) -> list[_Series]:
    """The frames that `choice` selects, by study and series, each series in its order in space. A file that names no series is a series."""
    studies: dict[str, dict[str, list[DicomHeader]]] = {}
    for file in files:
        studies.setdefault(file.study or file.locator, {}).setdefault(file.series or file.locator, []).append(file)
    result = []
    for group in (group for study in studies.values() for group in study.values()):
        by_locator = {file.locator: file for file in group}
        frames = [frame for file in group for frame in _select_frames(file, choice)]
        result.append([(frame, by_locator[frame.locator]) for frame in slice_order.sort_slices(frames)])
    return result


def _captures_beside_series(files: Sequence[DicomHeader]) -> set[str]:
    """The screens and reports, saved as pictures, of studies that have slices. In a study without slices they may be the images
    themselves, such as digitised films."""
    with_slices = {file.study for file in files if not file.secondary_capture and file.extra.get("modality") in SLICES} - {None}
    return {file.locator for file in files if file.secondary_capture and file.study in with_slices}


def _select_frames(file: DicomHeader, choice: Selection) -> list[Slice]:
    frames = [Slice(plane, file.number, file.locator, index, file.marks[index]) for index, plane in enumerate(file.planes)]
    return [slice_order.sort_slices(frames)[k] for k in choose_frames(choice.frames, len(frames))] if choice.frames != "all" else frames


def _record(file: DicomHeader, frame: Slice, stack: int) -> Record:
    return Record(
        file.locator,
        "dicom",
        frame.frame,
        patient=file.patient,
        study=file.study,
        series=file.series,
        site=file.site,
        extra=file.extra,
        stack=stack,
    )


def _notes(files: Sequence[DicomHeader], records: Sequence[Record]) -> list[str]:
    syntaxes = Counter(file.syntax for file in files)
    notes = ["transfer syntaxes: " + ", ".join(f"{name} {count}" for name, count in syntaxes.most_common())] if files else []
    without_patient_id = sum(len(file.planes) for file in files if file.patient_id_missing)
    if without_patient_id:
        notes.append(f"{without_patient_id} images have no patient ID: their study, or else their file, is used as the patient")
    elif len(records) > 1 and len({record.patient for record in records}) == 1:
        notes.append(f"all {len(records)} images have the same patient ID")
    unstated = Counter(file.extra.get("modality", "no modality") for file in files if file.burned_in_unstated)
    if unstated:
        kinds = ", ".join(f"{name} {count}" for name, count in unstated.most_common())
        notes.append(f"{unstated.total()} files of kinds that often show text do not say whether it is burned in ({kinds}): look at some")
    if colours := sum(file.other_colours for file in files):
        notes.append(f"{colours} files hold other colours than their header states (RGB or YBR): read by what the JPEG data say")
    if empty := sum(file.empty_rescale for file in files):
        notes.append(f"{empty} files have an empty rescale slope or intercept: read as if it were absent")
    if odd := sum(file.odd_preamble for file in files):
        notes.append(f"{odd} files begin with 128 bytes that are neither unused nor TIFF, perhaps a program: read, and copied nowhere")
    return notes


def _notes_on_series(series: Sequence[_Series]) -> list[str]:
    """The number of series, of those with gaps between slices, of those with several volumes, and of those whose slices state no plane."""
    multi_frame_series = [[frame for frame, _ in frames] for frames in series if len(frames) > 1]
    notes = [f"{len(series)} series, {len(multi_frame_series)} of them of several images"] if multi_frame_series else []
    if gaps := sum(slice_order.has_gap(frames) for frames in multi_frame_series):
        notes.append(f"{gaps} series have gaps: slices farther apart than 1.5 times the median distance, as where one is missing")
    volumes = [[s for s, _ in frames] for frames in series if len(frames) > 1 and frames[0][1].extra.get("modality") in STACKS]
    if several := sum(len(set(slice_order.stack_numbers(frames))) > 1 for frames in volumes):
        notes.append(f"{several} series of CT, MR or PT hold several volumes: echoes, time points, stacks in other directions, or copies")
    if without_planes := sum(not slice_order.all_have_planes(frames) for frames in volumes):
        notes.append(f"{without_planes} series of CT, MR or PT do not give the positions of their slices: ordered by InstanceNumber")
    return notes
