"""From --data to a prepared store that is split into train, validation and test: shared by pretraining and fine-tuning."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from medssl.config import Config, Data
from medssl.data.audit import looks_of
from medssl.data.cache import cache_folder
from medssl.data.prepare import prepare
from medssl.data.split import Leaks, find_split
from medssl.data.store import Store
from medssl.data.workers import end_workers
from medssl.errors import UserError
from medssl.evaluate.task import class_indices, class_order
from medssl.runs.run_dir import load_config
from medssl.types import SPLITS, Reporter, Source

_STATISTICS_ROWS = 2000


@dataclass(frozen=True)
class PreparedDataset:
    """A store and its split. `roles`: "train", "val" or "test" of each row, "" for rows that `data.leaks` leaves out. `holdout`: the rows
    that are held out to evaluate the encoder during pretraining. `stratum`: the label column of the split. `leaks`: the leaks that were
    found before rows were left out."""

    store: Store
    roles: np.ndarray
    holdout: np.ndarray
    stratum: str
    leaks: Leaks

    @property
    def pretraining(self) -> np.ndarray:
        """The rows for pretraining: those of training patients who are not held out."""
        return np.flatnonzero((self.roles == "train") & ~self.holdout)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes of the split's label column, in the order of their numbers; empty without such a column."""
        return class_order(name for name in self._names if name) if self.stratum else ()

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 [n]: the class of each row, -1 if it is unknown."""
        return class_indices(self._names, self.classes)

    @cached_property
    def patients(self) -> np.ndarray:
        """int64 [n]: the patient of each row, as a number."""
        return self.store.table["patient"].factorize()[0]

    @property
    def _names(self) -> list[str]:
        return self.store.table[f"label:{self.stratum}"].to_numpy(str).tolist() if self.stratum else [""] * len(self.roles)


def prepare_dataset(source: Source, config: Config, reporter: Reporter, stratum: str | None = None) -> PreparedDataset:
    """The store of a source, built or reused, split by patients. `stratum`: the label column that an earlier run stratified by.

    Raises UserError if the split that comes with the data leaks and `data.leaks` does not say what to do.
    """
    store = prepare(source, config.data, cache_folder(), lambda done, total: reporter.progress("prepare", done, total))
    end_workers()  # each worker process uses about 150 MB, and a training takes days
    return split_dataset(store, config.data, stratum)


def split_dataset(store: Store, data: Data, stratum: str | None = None) -> PreparedDataset:
    """The store, split by patients. `stratum`: as in `prepare_dataset`, and errors as there."""
    if stratum is None:
        columns = [str(name).removeprefix("label:") for name in store.table.columns if str(name).startswith("label:")]
        several = data.label and data.label not in columns  # a list of columns: none to stratify by
        stratum = "" if several and "," in data.label else data.label or (columns[0] if len(columns) == 1 else "")
    found = find_split(store, stratum, data, cache_folder())
    return PreparedDataset(store, found.roles, found.holdout, stratum, found.leaks)


def open_store_of_run(run: Path, fingerprint: str) -> Store:
    """The prepared images of a finished run, without a look at what they were made from: those in the cache, or those that the run was
    given. Raises UserError where they are not there, damaged, or have another fingerprint."""
    data = load_config(run).data
    path = Path(data.path) if data.source.name == "store" else cache_folder() / "stores" / fingerprint
    if not path.is_dir():
        raise UserError(f"The prepared images are not there: {path}. Name the cache that holds them with MEDSSL_CACHE.")
    store = Store.open(path)
    if store.card["fingerprint"] != fingerprint:
        raise UserError(f"{path} holds other images than those of the run.")
    return store


def report_dataset(dataset: PreparedDataset, source: Source, reporter: Reporter) -> None:
    """Say what was found, skipped and held out, before the training starts."""
    card, table = dataset.store.card, dataset.store.table
    shape = "x".join(str(n) for n in dataset.store.images.shape[1:])
    skipped = card["counts"]["skipped"]
    reporter.say(
        f"data      {len(table)} images {shape} {dataset.store.images.dtype} of {table['patient'].nunique()} patients ({source.kind})"
    )
    for note in source.notes:
        reporter.say(f"          {note}")
    if skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        reporter.warn(f"{sum(skipped.values())} files were skipped ({reasons}); medssl prepare says where they are named")
    for sentence in looks_of(dataset.store):
        reporter.warn(f"look      {sentence}")
    patients = {role: dataset.patients[dataset.roles == role] for role in SPLITS}
    reporter.say("split     " + ", ".join(f"{role} {len(p)} images / {len(set(p))} patients" for role, p in patients.items() if len(p)))
    for sentence in dataset.leaks.sentences():
        reporter.warn(sentence)
    if out := int((dataset.roles == "").sum()):
        reporter.say(f"          {out} images of train and val are left out: they leak, or are flat copies of a test image")


def data_name(config: Config, dataset: PreparedDataset) -> str:
    """The name of the data, without the folders above it."""
    return Path(config.data.path).stem or dataset.store.card["source"]


def data_tags(config: Config, dataset: PreparedDataset) -> dict[str, str]:
    """What a tracker says of the data: its name and its fingerprint."""
    return {"dataset": data_name(config, dataset), "data": dataset.store.card["fingerprint"]}


def channel_statistics(store: Store, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation [C] of the training images in [0, 1], over at most 2000 evenly spaced images."""
    chosen = evenly_spaced(rows, _STATISTICS_ROWS)
    images = store.images[np.sort(chosen)].astype(np.float64) / np.iinfo(store.images.dtype).max
    return torch.from_numpy(images.mean(axis=(0, 2, 3))).float(), torch.from_numpy(images.std(axis=(0, 2, 3)) + 1e-6).float()


def evenly_spaced(rows: np.ndarray, number: int) -> np.ndarray:
    """At most `number` of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), number)).astype(int)]
