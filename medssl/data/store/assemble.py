"""Joining the chunks of a plan into a store: images, table, list of what was left out, and card. Keyed hashes replace identities here."""

import hashlib
import json
import os
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from medssl import __version__
from medssl.data import volume_preparation
from medssl.data.decode import PreparedImage, preparation_version
from medssl.data.patients import PatientOrigin
from medssl.data.pseudonyms import pixel_key, pseudonymize
from medssl.data.store.chunks import count_suspect, count_voxels, read_chunk, spacing_columns, volume_columns
from medssl.data.store.descriptions import site_without_identity, without_identity
from medssl.data.store.fingerprint import ContentHash, reader_versions
from medssl.data.store.plan import Chunk, Plan
from medssl.data.store.skipped import Skipped, check_faults, skipped_by_source, skipped_record, write_private_list
from medssl.data.store.store import STORED_EDGES, SUSPECT, TO_LPS, deciding_settings, store_format
from medssl.data.store.writer import ImageWriter, create_private, csv_text, write_private
from medssl.errors import ReadError
from medssl.types import Record

_TEXT = ("key", "patient", "study", "series", "site", "split", "pixel_hash", "pixel_key", "perceptual_hash", "made")
_NUMBERS = ("bits", "height", "width")
_LENGTHS = ("row_mm", "column_mm")
_OF_VOLUMES = {
    "depth": pa.int32(),
    "slice_mm": pa.float64(),
    "orientation": pa.string(),
    "filled": pa.int32(),
    "tilt_degrees": pa.float64(),
}


def write_store(plan: Plan, folder: Path) -> None:
    """Writes the store of a plan into `folder`, from the plan's chunks, which must all exist. The card is written last.

    Raises UserError where no image is usable, too many files are faulty, or the disk has too little space; OSError for a chunk that is
    missing, DamagedChunk for one that is damaged.
    """
    store = _Assembly(plan, folder)
    try:
        for chunk in plan.chunks:
            store.add(chunk)
        write_private_list(plan, [*store.skipped, *store.used_suspects])
        check_faults(plan, store.used, store.skipped)
        store.finish()
    finally:
        store.close()


class _Assembly:
    """A store that is written into `folder`, chunk by chunk."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self.skipped, self.used = skipped_by_source(plan), 0
        self._suspect = sum(count_suspect(chunk.file) for chunk in plan.chunks)
        self._leaves_out = plan.leaves_out(self._suspect)
        self.used_suspects: list[Skipped] = []
        self._signs: list[tuple[str, str]] = []  # of the used suspects: the value of the column `made`, and the sign
        records = plan.source.records
        self._labels = sorted({name for record in records for name in record.labels})
        self._extra = sorted({name for record in records for name in record.extra})
        self._schema = pa.schema(
            [(name, pa.string()) for name in _TEXT]
            + [(name, pa.int32()) for name in _NUMBERS]
            + [(name, pa.float64()) for name in _LENGTHS]
            + (list(_OF_VOLUMES.items()) if plan.data.volumetric else [])
            + ([*((name, pa.int32()) for name in STORED_EDGES), (TO_LPS, pa.list_(pa.float64()))] if plan.data.volumes == "patches" else [])
            + [(name, pa.string()) for name in (*(f"label:{n}" for n in self._labels), *(f"extra:{n}" for n in self._extra))]
        )
        self._content = ContentHash()
        expected, shape = len(records), plan.data.shape
        if plan.data.volumes == "patches":  # volumes of any shapes: one row of voxels, of one byte or two
            expected, shape = plan.data.channels * sum(count_voxels(chunk.file) for chunk in plan.chunks), ()
        self._images = ImageWriter(folder / "images.npy", expected, shape)
        self._file = create_private(folder / "table.parquet")
        self._table = parquet.ParquetWriter(self._file, self._schema)

    def add(self, chunk: Chunk) -> None:
        """Adds the records of a chunk: each as a row with its image, or to `skipped` with the reason why it has none."""
        rows = []
        for record, made, outcome in zip(chunk.records, chunk.made, read_chunk(chunk.file, self._plan.data), strict=True):
            key = pseudonymize(record, self._plan.key).key
            if isinstance(outcome, ReadError):
                self.skipped.append(skipped_record(record, key, outcome))
            elif outcome.suspect and self._leaves_out:
                self.skipped.append(Skipped(key, record.locator, "suspect", outcome.suspect, fault=False))
            else:
                if outcome.suspect:
                    self.used_suspects.append(Skipped(key, record.locator, "suspect", f"used; {outcome.suspect}", fault=False))
                    self._signs.append((made, outcome.suspect))
                self._images.append(outcome.image)
                self._content.add(outcome.pixel_hash, record.labels)
                rows.append(self._row(record, made, outcome))
        self.used += len(rows)
        if rows:
            self._table.write_table(pa.Table.from_pylist(rows, self._schema))

    def finish(self) -> None:
        """Completes the images and the table, and writes skipped.csv and card.json."""
        self._images.finish()
        self.close()
        table = self._folder / "table.parquet"
        with table.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        write_private(
            self._folder / "skipped.csv", csv_text([("key", "reason", "detail"), *((s.key, s.reason, s.detail) for s in self.skipped)])
        )
        if self._signs:
            write_private(self._folder / SUSPECT, csv_text([("made", "sign"), *self._signs]))
        write_private(self._folder / "card.json", json.dumps(self._card(digest), indent=1))

    def close(self) -> None:
        """Closes the files of the images and the table."""
        self._images.close()
        if not self._file.closed:
            self._table.close()
            self._file.close()

    def _row(self, record: Record, made: str, outcome: PreparedImage) -> dict[str, Any]:
        pseudonyms = pseudonymize(record, self._plan.key)
        return {
            "key": pseudonyms.key,
            "patient": pseudonyms.patient,
            "study": pseudonyms.study,
            "series": pseudonyms.series,
            "site": site_without_identity(record.site or "", self._plan.key),
            "split": record.split or "",
            "pixel_hash": outcome.pixel_hash,
            "pixel_key": pixel_key(self._plan.key, outcome.pixel_hash),
            "perceptual_hash": outcome.perceptual_hash,
            "made": made,
            **{name: getattr(outcome, name) for name in _NUMBERS},
            **spacing_columns(outcome),
            **volume_columns(outcome),
            **{f"label:{name}": record.labels.get(name, "") for name in self._labels},
            **{f"extra:{name}": without_identity(name, record.extra.get(name, "")) for name in self._extra},
        }

    def _card(self, table_digest: str) -> dict[str, Any]:
        plan, data = self._plan, self._plan.data
        resize, padding = "square pixels, longer side to size, bilinear, antialiased", "black, on both sides of the shorter side"
        if data.volumetric:
            resize, padding = volume_preparation.RESIZE[data.volumes], volume_preparation.PADDING
        return {
            "format": store_format(data),
            "content": str(self._content),
            "source": plan.source.kind,
            "shape": [self.used, *data.shape],
            "dtype": str(self._images.dtype),
            "channels": data.channels,
            "size": data.size,
            "patients": PatientOrigin.of(plan.source.records).to_dict(),
            "settings": deciding_settings(data.model_dump(mode="json")),
            "preparation": {
                "version": preparation_version(data),
                "resize": resize,
                "padding": padding,
            },
            "counts": {
                "records": len(plan.source.records),
                "used": self.used,
                "skipped": dict(Counter(item.reason for item in self.skipped).most_common()),
            },
            "versions": {
                "medssl": __version__,
                "readers": reader_versions(plan.source, data),
                **{package: version(package) for package in ("pydicom", "nibabel", "pillow", "numpy")},
            },
            **({"suspect": self._suspect} if self._suspect else {}),
            "fingerprint": plan.fingerprint,
            "site": plan.site,
            "place": plan.place,
            "table_sha256": table_digest,
        }
