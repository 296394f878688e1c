"""The images of a store with the names of their files, for the operator who has the files. The store itself holds keys only."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from medssl.data.pseudonyms import pseudonymize
from medssl.data.store.store import Store
from medssl.types import Source


@dataclass(frozen=True, slots=True)
class NamedImage:
    """`file`: the path below the source's root (`file.npz#key` for an array in an .npz file), or the image's key where the source is a
    store. `index`: the frame, page, slice or row in the file, from 0. `patient`: the patient's key, "" where it is unknown. `row`: the
    image's row in the store, None for an image that was left out, for the reason `left_out`. `series`: the key of its series, "" for
    none."""

    file: str
    index: int
    patient: str
    row: int | None
    left_out: str
    series: str = ""


def list_named_images(store: Store, source: Source, site: bytes) -> Iterator[NamedImage]:
    """Every image of the source, in its order, and then every file that was left out when the source was listed.

    `store`: the store of that source; `site`: the site's secret key.
    """
    with (store.path / "skipped.csv").open(encoding="utf-8", newline="") as file:
        reasons = {row["key"]: row["reason"] for row in csv.DictReader(file)}
    table = store.table
    if source.kind == "store":
        for row, (key, patient, series) in enumerate(zip(table["key"], table["patient"], table["series"], strict=True)):
            yield NamedImage(key, 0, patient, row, "", series)
        yield from (NamedImage(key, 0, "", None, reason) for key, reason in reasons.items())
        return
    row = 0
    for record in source.records:
        identity = pseudonymize(record, site)
        if identity.key in reasons:
            yield NamedImage(record.locator, record.index, identity.patient, None, reasons[identity.key], identity.series)
        else:
            assert table["key"].iat[row] == identity.key, "the store is not of this source"
            yield NamedImage(record.locator, record.index, identity.patient, row, "", identity.series)
            row += 1
    assert row == len(table), "the store has more images than this source"
    for file, reason, _ in source.skipped:
        yield NamedImage(file, 0, "", None, reason)
