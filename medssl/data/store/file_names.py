"""A store's images under the names that their files have, for the operator who brought them; a store itself knows keys only."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from medssl.data.pseudonyms import pseudonymize
from medssl.data.store.store import Store
from medssl.types import Source


@dataclass(frozen=True, slots=True)
class NamedImage:
    """`file`: the path below the source's root, of an array in an .npz file `file.npz#key`; the key where the source is a store. `index`:
    frame, page, slice or row inside it, from 0. `patient`: the key, "" where it is not known. `row`: the image's row in the store, None
    where there is none, for the reason `left_out`."""

    file: str
    index: int
    patient: str
    row: int | None
    left_out: str


def list_named_images(store: Store, source: Source, site: bytes) -> Iterator[NamedImage]:
    """Every image of the source, in its order, and then every file that was left out while listing.

    `store` is what the source was prepared as, `site` the site's key.
    """
    with (store.path / "skipped.csv").open(encoding="utf-8", newline="") as file:
        reasons = {row["key"]: row["reason"] for row in csv.DictReader(file)}
    table = store.table
    if source.kind == "store":
        for row, (key, patient) in enumerate(zip(table["key"], table["patient"], strict=True)):
            yield NamedImage(key, 0, patient, row, "")
        yield from (NamedImage(key, 0, "", None, reason) for key, reason in reasons.items())
        return
    row = 0
    for record in source.records:
        identity = pseudonymize(record, site)
        if identity.key in reasons:
            yield NamedImage(record.locator, record.index, identity.patient, None, reasons[identity.key])
        else:
            assert table["key"].iat[row] == identity.key, "the store is not of this source"
            yield NamedImage(record.locator, record.index, identity.patient, row, "")
            row += 1
    assert row == len(table), "the store has more images than this source"
    for file, reason, _ in source.skipped:
        yield NamedImage(file, 0, "", None, reason)
