"""The operator's list of images to label: those whose patients an encoder has not seen. Labels on some of them make it testable."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from medssl.data.cache import cache_folder, private_folder, site_key
from medssl.data.pseudonyms import pseudonymize
from medssl.data.split import Seen
from medssl.data.store import csv_text, write_private
from medssl.runs.dataset import PreparedDataset
from medssl.types import Source


def name_unseen(dataset: PreparedDataset, source: Source, card: Mapping[str, Any]) -> str:
    """The end of a sentence: where the files of the patients are named that the encoder of `card` has not seen and that have no label."""
    path = write_list(dataset, source, ~Seen.by(card, dataset.store.table).rows)
    return f", named in {path}" if path else ""


def has_labels(dataset: PreparedDataset) -> Bool[np.ndarray, " rows"]:
    """For each row of the store whether it has a label, in any column."""
    labels = dataset.store.table.filter(like="label:").to_numpy(str)
    return (labels != "").any(axis=1)


def write_list(dataset: PreparedDataset, source: Source, unseen: Bool[np.ndarray, " rows"]) -> Path | None:
    """Writes the names of the files of the rows `unseen` that have no label into <cache>/private, which must not leave the site, and
    returns the path of the list. None where there is no such file, and for a store or an .npz file, whose images have no names."""
    cache = cache_folder()
    wanted = set(dataset.store.table["key"].to_numpy(str)[unseen & ~has_labels(dataset)].tolist())
    key = site_key(cache)
    files = dict.fromkeys(record.locator for record in source.records if record.reader != "npz" and pseudonymize(record, key).key in wanted)
    if not files:
        return None
    path = cache / "private" / f"{dataset.store.card['fingerprint']}-to-label.csv"
    private_folder(path.parent)
    path.unlink(missing_ok=True)
    write_private(path, csv_text([("file",), *((file,) for file in files)]))
    return path
