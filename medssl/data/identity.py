"""Keyed hashes in the place of identities: HMAC-SHA256 with the site's key, so that no list of names leads back from a store."""

import hmac
from dataclasses import dataclass

from medssl.types import Record


@dataclass(frozen=True, slots=True)
class Identity:
    """32 hex characters each; `study` is "" where the source knows none."""

    key: str
    patient: str
    study: str


def keyed(site: bytes, kind: str, value: str) -> str:
    """32 hex characters; the same value of another kind has another hash."""
    return hmac.new(site, f"{kind}\0{value}".encode(), "sha256").hexdigest()[:32]


def identify(record: Record, site: bytes) -> Identity:
    """The record's hashes. Where the patient is unknown, the study stands for it, else the file (all frames of a file are one
    patient), else, in an array of images, the row."""
    key = keyed(site, "sample", f"{record.locator}#{record.index}")
    study = keyed(site, "study", record.study.strip()) if record.study else ""
    if record.patient:
        return Identity(key, keyed(site, "patient", record.patient.strip()), study)
    alone = key if record.reader == "npz" else keyed(site, "sample", f"{record.locator}#0")
    return Identity(key, study or alone, study)
