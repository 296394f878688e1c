"""What the parts hand to each other: records, sources, decoded images, batches and training steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

_NOTHING: Mapping[str, str] = {}  # one for all records: there may be millions
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a source: where its pixels are and what is known of it. Listing records reads headers and tables, never pixels.

    `locator` is the file's path relative to the source's root (POSIX form); `index` the frame, page, slice or row inside it.
    Identities are those of the source, in the clear; the store replaces them by keyed hashes. Images of one `series` (slices of
    a volume, frames of a cine) follow each other in their order in space.
    """

    locator: str
    reader: str
    index: int = 0
    labels: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    site: str | None = None
    split: str | None = None
    extra: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Source:
    """All records below one root, and what a person should know of how they were found.

    `skipped` lists files that were seen and left out while listing, as (locator, reason code, detail). Neither notes nor
    details name a file, a folder or a person: they are printed and stored.
    """

    kind: str
    root: Path
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image after the pixel contract: float32 [C, H, W] in [0, 1], brighter is more, and the bits that its source stored.

    `spacing_mm`: between the centres of neighbouring rows, and of neighbouring columns; None where the file does not say.
    """

    pixels: np.ndarray
    bits: int
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """`views`: tensors [B, C, H, W], uint8 (0..255) or float32 in [0, 1], one per view of the same B samples.
    `rows`: int64 [B], the samples' rows in the store. `labels`: int64 [B] where the task has them."""

    views: tuple[Tensor, ...]
    rows: Tensor
    step: int
    seed: int
    labels: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a method returns for one batch. `push`: unit rows [n, D] for the support set once the step has been applied."""

    loss: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)
    push: Tensor | None = None


class Method(Protocol):
    """What the training loop needs of a method: `nn.Module` behaviour, a step, and what follows an applied update.

    `after_update(step, progress)` is called only for a finite step; `progress` runs from 0 to 1 over the training.
    """

    encoder: nn.Module

    def __call__(self, batch: Batch) -> Step: ...
    def after_update(self, step: Step, progress: float) -> None: ...


class Reporter(Protocol):
    """Where a running command speaks: lines, warnings, and the state of the task (a bar on a terminal, plain lines elsewhere)."""

    def say(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def progress(self, task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None: ...
