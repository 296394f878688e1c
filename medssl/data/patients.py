"""Where the patients of a data set come from: stated by the data, guessed from names, or unknown. What is printed and written follows it:
"patients" are claimed only where there are some."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medssl.types import Record, Source

# Words that a program writes into the patient ID when it takes the identity out. Numbers are not among them: 0 may be a patient.
_NO_ID = re.compile(r"(anon\w*|unknown|none|null|nan|na|n/a|removed|de-?identified|redacted|-+|x+|\?+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PatientOrigin:
    """The number of images whose patient is stated by a table, a header or a published form of names (`stated`), is guessed from names of
    folders (`guessed`), or is unknown (`unknown`). `instead`: what counts as a patient where the patient is unknown: image, file, volume,
    study, or "study or image"."""

    stated: int = 0
    guessed: int = 0
    unknown: int = 0
    instead: str = "image"

    @classmethod
    def of(cls, records: Sequence[Record]) -> PatientOrigin:
        """The origin of the records' patients, by the rules of `pseudonyms.pseudonymize`."""
        unknown = [record for record in records if _is_unknown(record)]
        guessed = sum(record.patient_from == "names" for record in records if not _is_unknown(record))
        return cls(len(records) - len(unknown) - guessed, guessed, len(unknown), _stands_for_patient(unknown))

    @classmethod
    def by(cls, facts: Mapping[str, Any]) -> PatientOrigin:
        """The origin that a card or results.json states under "patients". Earlier ones state none: then patients count as stated."""
        return cls(**facts.get("patients", {}))

    def to_dict(self) -> dict[str, Any]:
        """As a card states it."""
        return asdict(self)

    @property
    def all_unknown(self) -> bool:
        """Whether no image has a patient, so that nothing can be said of patients."""
        return bool(self.unknown) and not self.stated and not self.guessed

    @property
    def units(self) -> str:
        """What was split and is counted: "patients", or where they are unknown "images", "files", "volumes" or "studies"."""
        if not self.all_unknown:
            return "patients"
        return {"study": "studies", "study or image": "images", "study or file": "files"}.get(self.instead, f"{self.instead}s")

    def people(self, patients: int) -> str:
        """ "6 patients", or "unknown patients" where nothing is known of them."""
        if self.all_unknown:
            return "unknown patients"
        return f"{patients:,} patients" + (" (guessed from names)" if self.guessed and not self.stated else "")

    def count(self, images: int, patients: int, counted: str = "images") -> str:
        """ "12 images of 6 patients", or "12 images of unknown patients". `counted`: "images" or "volumes"."""
        return f"{images:,} {counted} of {self.people(patients)}"

    def sentences(self, images: str = "images") -> list[str]:
        """What a person should know of the patients; nothing where the data states all of them. `images`: what is counted."""
        found = []
        if self.unknown:
            total = self.stated + self.guessed + self.unknown
            whose = "Patients are unknown" if self.all_unknown else f"The patients of {self.unknown} of {total} {images} are unknown"
            each = f"each {self.instead.replace(' or ', ', or ')}{' without a study,' if ' or ' in self.instead else ''}"
            found.append(
                f"{whose}: {each} counts as a patient of its own, so {images} of one patient may stand on both sides of a split, and "
                "scores may be too good."
            )
        if self.guessed:
            found.append(
                f"The patients of {self.guessed} {images} are guessed from the names of their folders. Check their number; a table with a "
                "column patient says it for certain."
            )
        return found


def without_shared_ids(source: Source) -> Source:
    """The source without patient IDs that tell nobody apart: one that all images of several studies or files have, and words such as
    ANONYMOUS. A note says how many images that concerns."""
    if source.kind == "store" or len({record.study or record.locator for record in source.records}) < 2:
        return source
    stated = {(record.patient or "").strip() for record in source.records if record.patient_from != "itself"}
    alone = len(stated) == 1 and all(record.patient_from != "itself" for record in source.records)
    shared = stated - {""} if alone else {name for name in stated if _NO_ID.fullmatch(name)}
    concerned = sum((record.patient or "").strip() in shared for record in source.records)
    if not concerned:
        return source
    records = tuple(replace(record, patient=None) if (record.patient or "").strip() in shared else record for record in source.records)
    which = "All images have the same patient ID" if alone else f"{concerned} images have a patient ID such as ANONYMOUS"
    return replace(source, records=records, notes=(*source.notes, f"{which}, which is taken as no patient ID"))


def _is_unknown(record: Record) -> bool:
    return record.patient_from == "itself" or not (record.patient or "").strip()


def _stands_for_patient(unknown: Sequence[Record]) -> str:
    """What counts as a patient for these records."""
    if any(record.patient_from == "itself" for record in unknown):
        return "volume" if all(record.reader == "npz" for record in unknown) else "file"
    with_study = sum(bool((record.study or "").strip()) for record in unknown)
    alone = "file" if any(record.series for record in unknown if record.reader != "npz") else "image"
    return alone if not with_study else "study" if with_study == len(unknown) else f"study or {alone}"
