"""What the names of folders are: patients, or groups of images such as classes."""

from __future__ import annotations

import re
from collections.abc import Collection

_PATIENT = re.compile(r"(patient|pat|subject|subj|sub|case)[-_ ]?\d+", re.IGNORECASE)
_PERSON = re.compile(r"\^|\d{4}")  # DOE^JANE as DICOM writes names; the number of a patient or of an examination


def are_patients(names: Collection[str], images: int) -> bool:
    """Whether folders of these names, which hold so many images, are patients: they are named like that, one has the name or the number
    of a person, or there are too many of them to be classes."""
    if not names:
        return False
    named = all(map(_PATIENT.fullmatch, names)) or any(map(_PERSON.search, names))
    return named or len(names) > max(10, images / 5)
