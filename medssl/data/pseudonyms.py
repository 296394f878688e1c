"""Keyed hashes in the place of identities: HMAC-SHA256 with the site's key. Without the key nobody can test a list of names against a
store."""

import hmac
import re
from dataclasses import dataclass

from medssl.types import Record

_UID = re.compile(r"[0-2](\.\d+)+")


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """The keyed hashes of a record, 32 hex characters each. `study` and `series` are "" where the source states none."""

    key: str
    patient: str
    study: str
    series: str


def pseudonym(site: bytes, kind: str, value: str) -> str:
    """The keyed hash of a value, 32 hex characters. `site`: the site's key. The same value of another `kind` has another hash. A value may
    be the name of a file with bytes that are no UTF-8."""
    return hmac.new(site, f"{kind}\0{value}".encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:32]


def site_name(site: bytes) -> str:
    """A hash by which the keys of two sites differ, 16 hex characters. The key cannot be found from it."""
    return pseudonym(site, "site", "")[:16]


def pixel_key(site: bytes, pixel_hash: str) -> str:
    """The keyed hash of an image's pixels, 16 hex characters. Without the key nobody can test whether an image is in a list of them."""
    return pseudonym(site, "pixels", pixel_hash)[:16]


def pseudonymize(record: Record, site: bytes) -> Pseudonyms:
    """The record's hashes. Where the patient is unknown, the study is used as the patient, else the file (all frames of a file are one
    patient), or in an .npz or Parquet file the row.

    Numbers with leading zeros are equal: patient 00123 is patient 123. A study UID under two patients' names is one person's study. Any
    other study, such as "1", is counted for each patient separately.
    """
    key = pseudonym(site, "sample", f"{record.locator}#{record.index}")
    patient, study = (record.patient or "").strip(), (record.study or "").strip()
    if patient.isascii() and patient.isdigit():
        patient = patient.lstrip("0") or "0"
    within = f"{patient}\0{study}" if patient and not _UID.fullmatch(study) else study
    study = pseudonym(site, "study", within) if study else ""
    series = pseudonym(site, "series", record.series.strip()) if record.series else ""
    if patient:
        return Pseudonyms(key, pseudonym(site, "patient", patient), study, series)
    file = key if record.reader in ("npz", "parquet") else pseudonym(site, "sample", f"{record.locator}#0")
    return Pseudonyms(key, study or file, study, series)
