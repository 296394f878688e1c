"""Leaving out the DICOM images of other modalities than those that `data.modality` names."""

from collections import Counter
from dataclasses import replace

from medssl.errors import UserError
from medssl.types import Record, Source


def keep_modality(source: Source, wanted: str) -> Source:
    """The source with the DICOM images of the modalities `wanted` alone: codes with commas between, or "all". Images of other formats
    stay, as these state no modality.

    Raises UserError where no image is left.
    """
    codes = {code.strip().upper() for code in wanted.split(",")}
    if "ALL" in codes:
        return source
    kept = tuple(record for record in source.records if record.reader != "dicom" or modality_of(record) in codes)
    others = Counter(modality_of(record) for record in source.records) - Counter(modality_of(record) for record in kept)
    if not others:
        return source
    counts = format_counts(others)
    if not kept:
        raise UserError(
            f"No image has the modality {wanted} (data.modality); there are {counts}. To use all images: --set data.modality=all."
        )
    files = {record.locator: modality_of(record) for record in source.records}
    kept_files = {record.locator for record in kept}
    skipped = tuple((file, "other_modality", f"modality {name}") for file, name in files.items() if file not in kept_files)
    note = f"{others.total()} images of other modalities left out ({counts}), as data.modality is {wanted}"
    return replace(source, records=kept, notes=(*source.notes, note), skipped=(*source.skipped, *skipped))


def modality_of(record: Record) -> str:
    """The modality that the header of a DICOM file states, "unknown" where there is none."""
    return record.extra.get("modality") or "unknown"


def format_counts(counts: Counter[str]) -> str:
    """ "CT 30, CR 10": the most frequent first."""
    return ", ".join(f"{name} {number}" for name, number in counts.most_common())
