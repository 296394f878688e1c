"""Files and frames that are left out of a store: which reasons count as faults, how many faults are allowed, and the operator's list."""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medssl.data.cache import private_folder
from medssl.data.pseudonyms import pseudonym, pseudonymize
from medssl.data.store.plan import Plan
from medssl.data.store.store import Store
from medssl.data.store.writer import csv_text, write_private
from medssl.data.walk import FOLLOW_LINKS
from medssl.errors import ZERO_FOR_NAN, ReadError, UserError, count_reasons
from medssl.types import Record

# Reasons that count as no fault: files of an archive that are no usable images, and empty slices at the ends of volumes
EXPECTED_REASONS = (
    *("no_pixels", "not_an_image", "not_dicom", "not_primary", "burned_in", "other_modality", "empty_slice", "linked_folder"),
    *("suspect", "missing_decoder", "mask", "overlay", "thumbnail", "icon"),
    *("no_volume", "few_slices", "colour", "mosaic", "gap", "tilt", "mixed_sizes", "mixed_directions", "duplicate_positions", "uneven"),
    *("incomplete", "repeated_sequence", "other_sequence", "other_grid", "apart"),
)
# Reasons that the machine decides and not the bytes of the file: at the next try the image may be there
PASSING_REASONS = ("unreadable", "timed_out", "too_much_memory", "killed", "missing_decoder")
_BY_SUFFIX = ("raster",)  # readers of files that were selected by their suffix: there "not_an_image" is a fault


class Skipped(NamedTuple):
    """A file or frame that was left out. `key`: the keyed hash of a sample; `file`: for the operator's list only; `reason`: its code;
    `detail`: a sentence; `fault`: whether the reason counts as a fault."""

    key: str
    file: str
    reason: str
    detail: str
    fault: bool


def skipped_by_source(plan: Plan) -> list[Skipped]:
    """The files that were left out when the source was listed."""
    return [
        Skipped(pseudonym(plan.key, "sample", f"{file}#0"), file, reason, detail, reason not in EXPECTED_REASONS)
        for file, reason, detail in plan.source.skipped
    ]


def skipped_record(record: Record, key: str, error: ReadError) -> Skipped:
    """A record that could not be read or prepared."""
    fault = error.reason not in EXPECTED_REASONS or record.reader in _BY_SUFFIX
    return Skipped(key, record.locator, error.reason, error.detail, fault)


def damage_sentence(suspect: int, left_out: bool) -> str:
    """What a person should know of that many images with signs of damage."""
    done, other, share = ("left out", "use them", 1) if left_out else ("used", "leave them out", 0)
    return (
        f"images with signs of damage in their compressed data: {suspect}, which are {done}. To {other}: "
        f"--set data.max_suspect_fraction={share}"
    )


def records_to_try(plan: Plan, store: Store) -> list[Record]:
    """The records that a store of the plan has left out for a reason that may have passed."""
    if not set(PASSING_REASONS) & set(store.card["counts"]["skipped"]):
        return []
    with (store.path / "skipped.csv").open(encoding="utf-8", newline="") as file:
        keys = {row["key"] for row in csv.DictReader(file) if row["reason"] in PASSING_REASONS}
    return [record for record in plan.source.records if pseudonymize(record, plan.key).key in keys]


def private_list(cache: Path, name: str, what: str = "skipped") -> Path:
    """The path of the operator's list: the left-out files of the store with the fingerprint `name`, or its "negatives". Such lists have the
    names of files and must not leave the site."""
    return cache / "private" / f"{name}-{what}.csv"


def write_private_list(plan: Plan, skipped: Sequence[Skipped]) -> None:
    """Writes the operator's list into the cache: what was left out, and what is used in spite of signs of damage. Deletes an old list
    where there is nothing of it."""
    file = private_list(plan.cache, plan.fingerprint)
    private_folder(file.parent)
    file.unlink(missing_ok=True)
    if skipped:
        write_private(file, csv_text([("file", "reason", "detail", "key"), *((s.file, s.reason, s.detail, s.key) for s in skipped)]))


def _faults(plan: Plan, skipped: Sequence[Skipped]) -> list[str]:
    """The reason of each fault that counts. In .npz and Parquet files every row counts."""
    faulty = [item for item in skipped if item.fault]
    if len({item.file for item in faulty}) == len(faulty):
        return [item.reason for item in faulty]
    frames = Counter(record.locator for record in plan.source.records if record.reader not in ("npz", "parquet"))
    used = frames - Counter(item.file for item in skipped)
    most = math.ceil(used.total() / len(used)) if used else 1
    counted = Counter[str]()
    faults = []
    for item in faulty:
        counted[item.file] += 1
        if item.file not in frames or counted[item.file] <= most:
            faults.append(item.reason)
    return faults


def check_faults(plan: Plan, used: int, skipped: Sequence[Skipped]) -> None:
    """Raises UserError where no image is usable, and where more files are faulty than `data.max_bad_fraction` allows; above 0 it allows one
    at least. `used`: the number of usable images. A file counts as many faults at most as the other files have images on average: one bad
    file is one fault, however many frames its header states."""
    faults = _faults(plan, skipped)
    total, allowed = used + len(faults), plan.data.max_bad_fraction
    images, named = "volumes" if plan.source.whole else "images", f"They are named in {private_list(plan.cache, plan.fingerprint)}"
    if used == 0:
        reasons = [item.reason for item in skipped]
        damage = f" {damage_sentence(count, left_out=True).capitalize()}." if (count := reasons.count("suspect")) else ""
        where = plan.data.path or plan.source.root
        raise UserError(f"No {images[:-1]} of {where} can be used: {count_reasons(reasons)}. {named}; check what --data names.{damage}")
    if len(faults) > max(allowed * total, allowed > 0):  # one faulty file stops no small data set
        raise UserError(
            f"{len(faults)} of {total} {images} are faulty, more than data.max_bad_fraction = {allowed:g} allows: {count_reasons(faults)}. "
            f"{named}. Repair or remove them, or allow more: --set data.max_bad_fraction={len(faults) / total + 0.005:.2f}."
            + (f" {ZERO_FOR_NAN}." if "non_finite" in faults else "")
            + (f" Links that lead out of the data folder are among them. {FOLLOW_LINKS}" if "outside_root" in faults else "")
        )
