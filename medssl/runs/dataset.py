"""From --data to a prepared store that is split into train, validation and test: shared by pretraining and fine-tuning."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl.config import Config, Data
from medssl.data.audit import looks_of
from medssl.data.cache import cache_folder
from medssl.data.names import readable
from medssl.data.patients import PatientOrigin
from medssl.data.prepare import prepare
from medssl.data.split import Leaks, Seen, describe_test, find_split, find_unseen_split, serves, unsearchable
from medssl.data.store import Store, StoredVolumes, damage_sentence
from medssl.data.volume_slices import whole_volumes
from medssl.data.volumes import Volumes
from medssl.data.workers import end_workers
from medssl.errors import UserError
from medssl.evaluate.task import class_indices, class_order
from medssl.runs.run_dir import load_config
from medssl.types import SPLITS, Reporter, Source

_STATISTICS_ROWS = 2000
_STATISTICS_VOXELS = 2**25  # 256 MB in float64


@dataclass(frozen=True)
class PreparedDataset:
    """A store and its split. `roles`: "train", "val" or "test" of each row, "" for rows that `data.leaks` leaves out. `holdout`: the rows
    that are held out to evaluate the encoder during pretraining. `stratum`: the label column of the split. `leaks`: the leaks that were
    found before rows were left out. `drawn_anew`: a sentence where the test is not that of the encoder's pretraining.
    `cautions`: sentences where the test is not what was asked for."""

    store: Store
    roles: np.ndarray
    holdout: np.ndarray
    stratum: str
    leaks: Leaks
    drawn_anew: str = ""
    cautions: tuple[str, ...] = ()

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
    def origin(self) -> PatientOrigin:
        """Where the patients come from, as the store's card says."""
        return PatientOrigin.by(self.store.card)

    @property
    def _names(self) -> list[str]:
        return self.store.table[f"label:{self.stratum}"].to_numpy(str).tolist() if self.stratum else [""] * len(self.roles)


def prepare_dataset(
    source: Source, config: Config, reporter: Reporter, card: Mapping[str, Any] | None = None, *, retry: bool = True
) -> PreparedDataset:
    """The store of a source, built or reused, split by patients. `card`: of the encoder whose split is repeated where it was pretrained on
    this data. `retry`: whether images are tried again that could not be read at an earlier time; a run that goes on needs the same images
    as before.

    Raises UserError if the split that comes with the data leaks and `data.leaks` does not say what to do.
    """
    progress = lambda done, total: reporter.progress("prepare", done, total)  # noqa: E731
    store = prepare(source, config.data, cache_folder(), progress, retry=retry, on_wait=reporter.say)
    end_workers()  # each worker process uses about 150 MB, and a training takes days
    return split_dataset(store, config.data, card)


def split_dataset(store: Store, data: Data, card: Mapping[str, Any] | None = None) -> PreparedDataset:
    """The store, split by patients. `card`: as in `prepare_dataset`, and errors as there."""
    stratum = _stratum(store, data, card)
    found = find_split(store, stratum, data, cache_folder())
    dataset = PreparedDataset(store, found.roles, found.holdout, stratum, found.leaks)
    return _with_cautions(dataset, [stratum] if stratum else [], data)


def _stratum(store: Store, data: Data, card: Mapping[str, Any] | None) -> str:
    """The label column to split by. That of the encoder's pretraining counts where this data has it, as the same split has the same test
    patients; but on data that the encoder has surely not seen, the column of `data.label` counts."""
    columns = [str(name).removeprefix("label:") for name in store.table.columns if str(name).startswith("label:")]
    several = data.label and data.label not in columns  # a list of columns: none to stratify by
    own = "" if several and "," in data.label else data.label or (columns[0] if len(columns) == 1 else "")
    if card is None or card["stratum"] not in ("", *columns):
        return own
    unseen = not unsearchable(card, store.table, store.card["site"]) and not Seen.by(card, store.table).rows.any()
    return own if data.label and card["stratum"] and unseen else card["stratum"]


def with_unseen_test(dataset: PreparedDataset, columns: Sequence[str], data: Data, card: Mapping[str, Any]) -> PreparedDataset:
    """The dataset with a test for the question of the label columns `columns` that the encoder of `card` has not seen.

    The split stays as it is where it came with the data, where `data.leaks` allows leaks, and where its test serves already, as on the data
    of the pretraining. Elsewhere, for instance where the labels came after the pretraining, the test is drawn anew among the patients that
    the encoder has not seen; then all others stay in training.
    """
    table = dataset.store.table
    if data.leaks == "allow" or not data.test_fraction or "test" in table["split"].to_numpy(str):
        return dataset
    seen = Seen.by(card, table).rows
    if serves(table, columns, dataset.roles, data.test_fraction, seen):
        return dataset
    found = find_unseen_split(dataset.store, columns, data, cache_folder(), seen)
    unseen = len(set(table["patient"].to_numpy(str)[~seen]))
    sentence = (
        f"the test is drawn anew: the encoder has not seen {unseen} {dataset.origin.units}, and those with a label are tested, up to "
        f"{data.test_fraction:.0%} of each class"
    )
    anew = replace(dataset, roles=found.roles, holdout=found.holdout, leaks=found.leaks, drawn_anew=sentence)
    return _with_cautions(anew, columns, data)


def _with_cautions(dataset: PreparedDataset, columns: Sequence[str], data: Data) -> PreparedDataset:
    table, origin = dataset.store.table, dataset.origin
    return replace(dataset, cautions=tuple(describe_test(table, columns, dataset.roles, data.test_fraction, origin.units)))


def open_store_of_run(run: Path, fingerprint: str) -> Store:
    """The prepared images of a finished run, without a look at what they were made from: those in the cache, or those that the run was
    given. Raises UserError where they are not there, damaged, or have another fingerprint."""
    data = load_config(run).data
    path = Path(data.path) if data.source.name == "store" else cache_folder() / "stores" / fingerprint
    if not path.is_dir():
        raise UserError(f"The prepared images are not there: {path}. Name the right cache with MEDSSL_CACHE.")
    store = Store.open(path)
    if store.card["fingerprint"] != fingerprint:
        raise UserError(f"{path} has other images than the run.")
    return store


def report_dataset(dataset: PreparedDataset, source: Source, reporter: Reporter, volumes: Volumes | None = None) -> None:
    """Say what was found, skipped and held out, before the training starts. `volumes`: what the split counts, if it is not images."""
    card, table = dataset.store.card, dataset.store.table
    shape = "x".join(str(n) for n in dataset.store.images.shape[1:])
    skipped = card["counts"]["skipped"]
    people = dataset.origin.people(len(set(table["patient"])))
    images = "volumes" if whole_volumes(dataset.store) else "images"
    shape = f"in patches of {shape}" if isinstance(dataset.store.images, StoredVolumes) else shape
    reporter.say(f"data      {len(table)} {images} {shape} {dataset.store.images.dtype} of {people} ({source.kind})")
    for note in source.notes:
        reporter.say(f"          {note}")
    if skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        reporter.warn(f"{sum(skipped.values())} {images} were left out ({reasons}); medssl prepare says where they are named")
    if suspect := card.get("suspect"):
        reporter.warn(f"damage    {damage_sentence(suspect, 'suspect' in skipped)}")
    for sentence in looks_of(dataset.store):
        reporter.warn(f"look      {sentence}")
    roles, patient_of, counted = dataset.roles, dataset.patients, images
    if volumes is not None:
        roles, patient_of, counted = volumes.roles(roles, table), patient_of[volumes.first_rows], "volumes"
    patients = {role: patient_of[roles == role] for role in SPLITS}
    who = "" if dataset.origin.all_unknown else " / {} patients"
    counts = [f"{role} {len(found)} {counted}{who.format(len(set(found)))}" for role, found in patients.items() if len(found)]
    drawn_here = (dataset.roles == "test").any() and "test" not in table["split"].to_numpy(str)
    by = f" (split by {dataset.origin.instead})" if dataset.origin.all_unknown and drawn_here else ""
    reporter.say("split     " + ", ".join(counts) + by)
    if dataset.drawn_anew:
        reporter.say(f"          {dataset.drawn_anew}")
    for sentence in (*dataset.cautions, *dataset.leaks.sentences(images)):
        reporter.warn(sentence)
    if out := int((dataset.roles == "").sum()):
        reporter.say(f"          {out} {images} of train and val are left out: they leak, or are flat copies of a test image")


def data_name(config: Config, dataset: PreparedDataset) -> str:
    """The name of the data, without the folders above it."""
    return readable(Path(config.data.path).stem) or dataset.store.card["source"]


def data_tags(config: Config, dataset: PreparedDataset) -> dict[str, str]:
    """What a tracker says of the data: its name and its fingerprint."""
    return {"dataset": data_name(config, dataset), "data": dataset.store.card["fingerprint"]}


def channel_statistics(store: Store, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation [C] of the training images in [0, 1], over at most 2000 evenly spaced images; over fewer volumes, whose
    voxels fit into the memory, or boxes of them."""
    most = max(_STATISTICS_VOXELS // math.prod(store.images.shape[1:]), 8) if whole_volumes(store) else _STATISTICS_ROWS
    rows = np.sort(evenly_spaced(rows, most))
    stored = store.images.draw(rows, 0, 0) if isinstance(store.images, StoredVolumes) else store.images[rows]
    images = stored.astype(np.float64) / np.iinfo(stored.dtype).max
    but_channels = (0, *range(2, images.ndim))
    return torch.from_numpy(images.mean(axis=but_channels)).float(), torch.from_numpy(images.std(axis=but_channels) + 1e-6).float()


def evenly_spaced(rows: np.ndarray, number: int) -> np.ndarray:
    """At most `number` of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), number)).astype(int)]
