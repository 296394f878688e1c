"""Batches as functions of (seed, step): a run that is resumed, or has another number of workers, sees the same ones.

Step s lies in epoch s // steps_per_epoch; an epoch is a permutation of the rows keyed by (seed, epoch), whose last, partial batch is left
out. The view v of row r in step s is made under the key (seed, s, r, v). So no generator has a state that would have to be saved.
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

from medssl.data.workers import cores
from medssl.errors import UserError
from medssl.types import Batch

MakeView = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
_AHEAD = 2  # batches that each worker keeps ready
_HUNG_SECONDS = 300
_ORDER = 2**31  # no row has this number: it sets the key of an epoch's order apart from those of views


@dataclass
class Batches(Dataset[Batch]):
    """Item s is the batch of step s. A pickled copy, in a worker that was spawned, opens the store's file again instead of carrying it.

    `images`: the store's, uint8 or uint16 [n, C, H, W]; None where the device has them, and batches name their rows only. `rows`: those to
    train on, int64. `make_views(image, key)` returns a view; None where the device makes them, and batches hold the images as stored.
    `labels` and `patients`: a number for each row of the store, where they are known. `share`: (rank, number of processes), the part of
    each batch that this process makes.

    Raises UserError for a batch that the rows cannot fill, or that the processes cannot share evenly.
    """

    images: np.ndarray | None
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
            up = -(-self.batch_size // self.share[1]) * self.share[1]
            raise UserError(
                f"A batch of {self.batch_size} cannot be shared evenly by {self.share[1]} processes. Use --set train.batch_size={up}."
            )

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, len(self.rows) // self.batch_size)
        order = _order(self.seed, epoch, len(self.rows))
        whole = self.rows[order[position * self.batch_size : (position + 1) * self.batch_size]]
        rank, processes = self.share
        part = self.batch_size // processes
        rows = whole[rank * part : (rank + 1) * part]
        labels, patients = (
            None if known is None else torch.from_numpy(np.asarray(known[rows], np.int64)) for known in (self.labels, self.patients)
        )
        return Batch(self._views(rows, step), torch.from_numpy(rows), step, self.seed, labels, patients)

    def _views(self, rows: Int[np.ndarray, " b"], step: int) -> tuple[torch.Tensor, ...]:
        if self.images is None:
            return ()
        images = self.images[rows]
        if self.make_views is None:
            return (torch.from_numpy(images),)
        pairs = list(zip(rows.tolist(), images, strict=True))
        return tuple(
            torch.from_numpy(np.stack([self.make_views(image, (self.seed, step, row, view)) for row, image in pairs]))
            for view in range(self.n_views)
        )

    def __getstate__(self) -> dict[str, Any]:
        file = getattr(self.images, "filename", None)  # of a memory map
        return self.__dict__ | ({"images": Path(file)} if file else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.images, Path):
            self.images = np.load(self.images, mmap_mode="r")


class Loader:
    """Iterates over the batches of the steps `start` to `steps`; every iteration gives the same ones. `pin`: in page-locked memory, for a
    GPU."""

    def __init__(self, batches: Batches, steps: int, start: int = 0, workers: int = 0, pin: bool = False) -> None:
        self._batches, self._steps, self._workers, self._pin = batches, range(start, steps), workers, pin

    @property
    def steps_per_epoch(self) -> int:
        return len(self._batches.rows) // self._batches.batch_size

    def __len__(self) -> int:
        return len(self._steps)

    def batch(self, step: int) -> Batch:
        """The batch of one step, made here and now."""
        return self._batches[step]

    def __iter__(self) -> Iterator[Batch]:
        """Raises UserError where a worker process dies or hangs."""
        loader = DataLoader(
            self._batches,
            batch_size=None,  # an item of the dataset is a whole batch
            sampler=self._steps,
            collate_fn=_as_it_is,
            num_workers=self._workers,
            prefetch_factor=_AHEAD if self._workers else None,
            timeout=_HUNG_SECONDS if self._workers else 0,
            worker_init_fn=_start_worker,
            pin_memory=self._pin,
            generator=torch.Generator(),  # it draws a seed for each iteration: not from the global generator
        )
        try:
            yield from loader
        except RuntimeError as error:
            if not str(error).startswith("DataLoader "):  # an error inside a worker starts with "Caught"
                raise
            raise UserError(f"Loading stopped: {error}. Memory or shared memory may be short; go on with --set train.workers=0.") from error


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, _ORDER))).permutation(n)


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """Ctrl-C reaches every process of the terminal, SLURM's signals every process of the job; the workers serve on while the main process
    saves its state, and heed its own SIGTERM only, which ends a worker that hangs."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS has none: there a SIGTERM to all ends the workers, too
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_when_told() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def workers_for(requested: int, cores: int, batch_bytes: int, shm_bytes: int) -> tuple[int, str]:
    """The number of loader processes to use, and a note for the user where it is not what was `requested` ("" otherwise).

    `requested` -1 chooses: none for up to 2 cores (a core makes some 3000 views of 224 pixels a second, ten times what training on two
    cores takes), else one for each core but one, 12 at most. `batch_bytes`: all views of a batch; each worker keeps two batches, and one
    is on its way, in shared memory of `shm_bytes`.
    """
    wanted = requested if requested >= 0 else (0 if cores <= 2 else min(cores - 1, 12))
    fitting = max(0, (shm_bytes // batch_bytes - 1) // _AHEAD)
    if wanted <= fitting:
        return wanted, ""
    return fitting, (
        f"Shared memory ({shm_bytes / 2**20:.0f} MB free in /dev/shm) holds the batches of {fitting} loader workers out of {wanted}. "
        f"In Docker, --shm-size={math.ceil(batch_bytes * (_AHEAD * wanted + 1) / 2**30)}g gives room for all."
    )


def workers_here(requested: int, batch_bytes: int) -> tuple[int, str]:
    """`workers_for` on this machine: the cores that the process may use, and /dev/shm where there is one."""
    shared = Path("/dev/shm")  # noqa: S108 - asked for its free space only
    return workers_for(requested, cores(), batch_bytes, shutil.disk_usage(shared).free if shared.is_dir() else 2**63)
