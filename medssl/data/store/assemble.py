"""Putting a store together from its parts: images, table, what was left out, and the card. Keys take the place of identities here."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from medssl import __version__
from medssl.config import Data
from medssl.data.decode import PreparedImage
from medssl.data.dicom import SLICES
from medssl.data.preparation import VERSION
from medssl.data.pseudonyms import pseudonym, pseudonymize
from medssl.data.store.chunks import Outcome
from medssl.data.store.fingerprint import ContentHash, reader_versions
from medssl.data.store.store import SETTINGS, STORE_FORMAT
from medssl.data.store.writer import ImageWriter, create_private, csv_text, write_private
from medssl.errors import ReadError
from medssl.types import Record, Source

# What an archive holds beside its usable images, and what lies at the ends of a volume: left out, counted, and no fault
EXPECTED_REASONS = ("no_pixels", "not_an_image", "not_dicom", "not_primary", "burned_in", "empty_slice", "linked_folder", "missing_decoder")
_BY_SUFFIX = ("raster",)  # its files are told by their suffix: "not_an_image" is a fault there
_TEXT = ("key", "patient", "study", "series", "site", "split", "pixel_hash", "perceptual_hash", "made")
_NUMBERS = ("bits", "height", "width")
_LENGTHS = ("row_mm", "column_mm")


class Skipped(NamedTuple):
    """`file` is for the operator's list only."""

    key: str
    file: str
    reason: str
    detail: str
    fault: bool


@dataclass
class Assembly:
    """A store that grows in `folder`, part by part."""

    folder: Path
    source: Source
    data: Data
    site: bytes
    skipped: list[Skipped] = field(default_factory=list)
    used: int = 0

    def __post_init__(self) -> None:
        key = lambda file: pseudonym(self.site, "sample", f"{file}#0")  # noqa: E731
        self.skipped += [
            Skipped(key(file), file, reason, detail, reason not in EXPECTED_REASONS) for file, reason, detail in self.source.skipped
        ]
        self._labels = sorted({name for record in self.source.records for name in record.labels})
        self._extra = sorted({name for record in self.source.records for name in record.extra})
        self._schema = pa.schema(
            [(name, pa.string()) for name in _TEXT]
            + [(name, pa.int32()) for name in _NUMBERS]
            + [(name, pa.float64()) for name in _LENGTHS]
            + [(name, pa.string()) for name in (*(f"label:{n}" for n in self._labels), *(f"extra:{n}" for n in self._extra))]
        )
        self._content = ContentHash()
        shape = (self.data.channels, self.data.size, self.data.size)
        self._images = ImageWriter(self.folder / "images.npy", len(self.source.records), shape)
        self._file = create_private(self.folder / "table.parquet")
        self._table = parquet.ParquetWriter(self._file, self._schema)

    def add(self, records: Sequence[Record], made: Sequence[str], outcomes: Iterable[Outcome]) -> None:
        """The next part's records with what became of them."""
        rows = []
        for record, digest, outcome in zip(records, made, outcomes, strict=True):
            if isinstance(outcome, ReadError):
                key = pseudonymize(record, self.site).key
                self.skipped.append(Skipped(key, record.locator, outcome.reason, outcome.detail, _is_fault(record, outcome.reason)))
            else:
                self._images.append(outcome.image)
                self._content.add(outcome.pixel_hash, record.labels)
                rows.append(self._row(record, digest, outcome))
        self.used += len(rows)
        if rows:
            self._table.write_table(pa.Table.from_pylist(rows, self._schema))

    def finish(self, more: dict[str, Any]) -> None:
        """Writes what is missing; the card, with `more` in it, comes last."""
        self._images.finish()
        self.close()
        table = self.folder / "table.parquet"
        with table.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        write_private(
            self.folder / "skipped.csv", csv_text([("key", "reason", "detail"), *((s.key, s.reason, s.detail) for s in self.skipped)])
        )
        card = {**self._card(), **more, "table_sha256": digest}
        write_private(self.folder / "card.json", json.dumps(card, indent=1))

    def close(self) -> None:
        """Gives the files up."""
        self._images.close()
        if not self._file.closed:
            self._table.close()
            self._file.close()

    def _row(self, record: Record, made: str, outcome: PreparedImage) -> dict[str, Any]:
        identity = pseudonymize(record, self.site)
        row_mm, column_mm = outcome.spacing_mm or (None, None)
        return {
            "key": identity.key,
            "patient": identity.patient,
            "study": identity.study,
            "series": identity.series,
            "site": record.site or "",
            "split": record.split or "",
            "pixel_hash": outcome.pixel_hash,
            "perceptual_hash": outcome.perceptual_hash,
            "made": pseudonym(self.site, "made", made),
            **{name: getattr(outcome, name) for name in _NUMBERS},
            "row_mm": row_mm,
            "column_mm": column_mm,
            **{f"label:{name}": record.labels.get(name, "") for name in self._labels},
            **{f"extra:{name}": _no_identity(name, record.extra.get(name, "")) for name in self._extra},
        }

    def _card(self) -> dict[str, Any]:
        data = self.data
        return {
            "format": STORE_FORMAT,
            "content": str(self._content),
            "source": self.source.kind,
            "shape": [self.used, data.channels, data.size, data.size],
            "dtype": str(self._images.dtype),
            "channels": data.channels,
            "size": data.size,
            "settings": {name: data.model_dump(mode="json")[name] for name in SETTINGS},
            "preparation": {
                "version": VERSION,
                "resize": "square pixels, longer side to size, bilinear, antialiased",
                "padding": "black, on both sides of the shorter side",
            },
            "counts": {
                "records": len(self.source.records),
                "used": self.used,
                "skipped": dict(Counter(item.reason for item in self.skipped).most_common()),
            },
            "versions": {
                "medssl": __version__,
                "readers": reader_versions(self.source, data),
                **{package: version(package) for package in ("pydicom", "nibabel", "pillow", "numpy")},
            },
        }


def _is_fault(record: Record, reason: str) -> bool:
    if reason == "constant":
        return record.extra.get("modality") not in SLICES  # a volume may begin and end with empty slices
    return reason not in EXPECTED_REASONS or record.reader in _BY_SUFFIX


def _no_identity(name: str, value: str) -> str:
    """An age above 89 is a step towards a person: "90+" (45 CFR 164.514(b)(2)(i)(C))."""
    digits = value.rstrip("Yy").split(".")[0]
    return "90+" if name == "age" and digits.isdigit() and int(digits) > 89 and value[-1:] not in "DWMdwm" else value
