"""Batches as functions of (seed, step): a resumed run, or a run with another number of workers, gets the same batches.

Step s is in epoch s // steps_per_epoch. An epoch is a permutation of the rows that depends on (seed, epoch); its last, incomplete batch is
left out. View v of row r in step s depends on the key (seed, s, r, v). So there is no state of a random generator to save.
"""

import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import DataLoader, Dataset

from medssl.data.store.images import CheckedImages
from medssl.data.store.stored_volumes import StoredVolumes, Windows
from medssl.data.workers import cores
from medssl.errors import UserError
from medssl.types import Batch

MakeView = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
_PREFETCHED_BATCHES = 2  # batches that each worker keeps ready
_HUNG_SECONDS = 300
_ORDER_KEY = 2**31  # larger than any row: the key of an epoch's order never equals the key of a view


@dataclass
class Batches(Dataset[Batch]):
    """Item s is the batch of step s. A pickled copy, in a spawned worker, opens the store's file again instead of holding the images.

    `images`: of the store, uint8 or uint16 [n, C, H, W], or volumes of which a box is read for each step; None where the device holds them
    and batches only name their rows. `rows`: the training rows, int64. `make_views(image, key)` returns one view; None where the device
    makes the views and batches hold stored images. `labels` and `patients`: a number for each row of the store, None where unknown.
    `share`: (rank, number of processes); this process makes its part of each batch.

    Raises UserError for a batch size that is larger than the number of rows, or that the processes cannot divide evenly.
    """

    images: np.ndarray | StoredVolumes | Windows | None
    rows: np.ndarray
    make_views: MakeView | None
    seed: int
    batch_size: int
    labels: np.ndarray | None = None
    patients: np.ndarray | None = None
    n_views: int = 2
    share: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.batch_size < 2 or len(self.rows) < self.batch_size:
            remedy = f"Use a batch size from 2 to {len(self.rows)}." if len(self.rows) >= 2 else "At least 2 are needed."
            raise UserError(f"A batch of {self.batch_size} cannot be filled from {len(self.rows)} training images. {remedy}")
        if self.batch_size % self.share[1]:
            multiple = -(-self.batch_size // self.share[1]) * self.share[1]
            raise UserError(
                f"A batch of {self.batch_size} cannot be shared evenly by {self.share[1]} processes. Use --set train.batch_size={multiple}."
            )

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, len(self.rows) // self.batch_size)
        order = _order(self.seed, epoch, len(self.rows))
        batch_rows = self.rows[order[position * self.batch_size : (position + 1) * self.batch_size]]
        rank, processes = self.share
        share_size = self.batch_size // processes
        rows = batch_rows[rank * share_size : (rank + 1) * share_size]
        labels, patients = (
            None if values is None else torch.from_numpy(np.asarray(values[rows], np.int64)) for values in (self.labels, self.patients)
        )
        return Batch(self._views(rows, step), torch.from_numpy(rows), step, self.seed, labels, patients)

    def _views(self, rows: Int[np.ndarray, " b"], step: int) -> tuple[torch.Tensor, ...]:
        if self.images is None:
            return ()
        images = self.images.draw(rows, self.seed, step) if isinstance(self.images, StoredVolumes) else self.images[rows]
        if self.make_views is None:
            return (torch.from_numpy(images),)
        pairs = list(zip(rows.tolist(), images, strict=True))
        return tuple(
            torch.from_numpy(np.stack([self.make_views(image, (self.seed, step, row, view)) for row, image in pairs]))
            for view in range(self.n_views)
        )

    def __getstate__(self) -> dict[str, Any]:
        file = None if isinstance(self.images, CheckedImages) else getattr(self.images, "filename", None)  # of a memory map
        return self.__dict__ | ({"images": Path(file)} if file else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.images, Path):
            self.images = np.load(self.images, mmap_mode="r")


class Loader:
    """Iterates over the batches of the steps `start` to `steps` - 1. Every iteration gives the same batches. `workers`: processes that make
    them, at most one for each core that this process may use. `pin`: whether they are in page-locked memory, for a GPU."""

    def __init__(self, batches: Batches, steps: int, start: int = 0, workers: int = 0, pin: bool = False) -> None:
        self._batches, self._steps, self._workers, self._pin = batches, range(start, steps), min(workers, cores()), pin

    @property
    def steps_per_epoch(self) -> int:
        return len(self._batches.rows) // self._batches.batch_size

    def __len__(self) -> int:
        return len(self._steps)

    def batch(self, step: int) -> Batch:
        """The batch of one step, made by this process."""
        return self._batches[step]

    def __iter__(self) -> Iterator[Batch]:
        """The batches in order. Raises UserError where a worker process ends or hangs, and where images of a store are damaged."""
        loader = DataLoader(
            self._batches,
            batch_size=None,  # an item of the dataset is a whole batch
            sampler=self._steps,
            collate_fn=_return_unchanged,
            num_workers=self._workers,
            prefetch_factor=_PREFETCHED_BATCHES if self._workers else None,
            timeout=_HUNG_SECONDS if self._workers else 0,
            worker_init_fn=_start_worker,
            pin_memory=self._pin,
            generator=torch.Generator(),  # for the seed that DataLoader draws: the global generator stays unchanged
        )
        try:
            yield from loader
        except UserError as error:  # torch puts the traceback of the worker before the message
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from error
        except RuntimeError as error:
            if not str(error).startswith("DataLoader "):  # an error inside a worker starts with "Caught"
                raise
            raise UserError(f"Loading stopped: {error}. Memory or shared memory may be short: --set train.workers=0 helps.") from error


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, _ORDER_KEY))).permutation(n)


def _return_unchanged(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """Sets the signals of a worker. Ctrl-C reaches every process of the terminal, SLURM's signals every process of the job. Workers ignore
    them, because the main process still needs batches while it saves its state. Only a SIGTERM from the main process ends a worker."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS does not have it: there any SIGTERM ends the workers
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_on_parents_signal, daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_on_parents_signal() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def workers_for(requested: int, cores: int, batch_bytes: int, shm_bytes: int) -> tuple[int, str]:
    """The number of loader workers, and a note for the user where shared memory allows fewer ("" otherwise).

    With `requested` -1 the number is 0 for up to 2 cores (one core makes about 3000 views of 224 pixels a second, ten times what training
    on two cores needs), else one less than the cores, 12 at most. No more than the cores are ever used, without a note. `batch_bytes`: of
    all views of a batch. Shared memory of `shm_bytes` must hold two batches of each worker and one more.
    """
    number = min(requested, cores) if requested >= 0 else (0 if cores <= 2 else min(cores - 1, 12))
    most = max(0, (shm_bytes // batch_bytes - 1) // _PREFETCHED_BATCHES)
    if number <= most:
        return number, ""
    return most, (
        f"Shared memory ({shm_bytes / 2**20:.0f} MB free in /dev/shm) holds the batches of {most} loader workers out of {number}. "
        f"In Docker, --shm-size={math.ceil(batch_bytes * (_PREFETCHED_BATCHES * number + 1) / 2**30)}g gives room for all."
    )


def workers_here(requested: int, batch_bytes: int) -> tuple[int, str]:
    """`workers_for` with the cores that this process may use and the free space of /dev/shm, where that exists."""
    shared = Path("/dev/shm")  # noqa: S108 - only its free space is read
    return workers_for(requested, cores(), batch_bytes, shutil.disk_usage(shared).free if shared.is_dir() else 2**63)
