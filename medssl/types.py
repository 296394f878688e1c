"""What the parts hand to each other: records, sources, decoded images, batches and training steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

_NOTHING: Mapping[str, str] = {}  # one for all records: there may be millions
SPLITS = ("train", "val", "test")
Size = int | tuple[int, int, int]  # the edge of a square image in pixels, or the slices, rows and columns of a volume


def edges(size: Size) -> tuple[int, ...]:
    """(rows, columns) of an image, or (slices, rows, columns) of a volume."""
    return (size, size) if isinstance(size, int) else size


def counted(size: Size) -> str:
    """What images of that size are called where they are counted: "images" or "volumes"."""
    return "images" if isinstance(size, int) else "volumes"


def describe_size(size: Size) -> str:
    """The size in words, such as "224 pixels" or "64 x 64 x 64 voxels"."""
    return f"{size} pixels" if isinstance(size, int) else f"{' x '.join(map(str, size))} voxels"


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a source: where its pixels are and what is known of it. Listing records reads headers and tables, never pixels.

    `locator` is the file's path relative to the source's root (POSIX form); `index` the frame, page, slice or row inside it.
    Identities are those of the source, in the clear; the store replaces them by keyed hashes. Images of one `series` (slices of
    a volume, frames of a cine) follow each other in their order in space. `patient_from`: "data" where a table, a header or a published
    form of names states the patient, "names" where it is guessed from names of folders, "itself" where the file or volume stands for it.
    `stack`: the number of the volume in its series, where a series has several. A record of a whole volume has its number in the file as
    `index`; where many files make the volume, `parts` are their locators with the frame of each slice, and `locator` is the first of them.
    `sequences`: where several volumes of one examination are its channels, the record of each.
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
    patient_from: str = "data"
    stack: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    sequences: tuple[Record, ...] = ()

    @property
    def place(self) -> Record:
        """Where the pixels are, and nothing else: what processes get that decode files of strangers."""
        sequences = tuple(record.place for record in self.sequences)
        return Record(self.locator, self.reader, self.index, parts=self.parts, sequences=sequences)


@dataclass(frozen=True, slots=True)
class Source:
    """All records below one root, and what a person should know of how they were found.

    `skipped` lists files that were seen and left out while listing, as (locator, reason code, detail). `table_error`: why the table beside
    the images could not be used; the records are then those of the images alone. Neither notes nor details nor this error name a file, a
    folder or a person: they are printed and stored. `whole`: whether each record is a whole volume.
    """

    kind: str
    root: Path
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str, str], ...] = ()
    table_error: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """What is known of a whole volume besides its voxels. `orientation`: where the axes of the source's array point to, such as "RAS"; ""
    where the source does not say it. `filled`: the slices that were missing in the source, and interpolated. `tilt_degrees`: the tilt of
    the gantry that was sheared back. `foreground`: for each axis the first voxel and the end of the part that is no air (CT) and not zero;
    None where the whole volume is. `to_lps`: float64 [4, 4], from (slice, row, column) to the patient's (x, y, z) in mm, as DICOM has
    them; None where the source does not say where the volume lies."""

    orientation: str = ""
    filled: int = 0
    tilt_degrees: float = 0.0
    foreground: tuple[tuple[int, int], ...] | None = None
    to_lps: np.ndarray | None = field(default=None, compare=False)


class VolumeGrid(NamedTuple):
    """What headers say of a volume in canonical axes: the numbers of slices, rows and columns, and the distances between them, None where
    one of these is not known."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image after the pixel contract: float32 [C, H, W] in [0, 1], brighter is more, and the bits that its source stored. Of a whole
    volume: [C, D, H, W], slices from the feet to the head, rows from anterior to posterior, columns from the patient's right to the left.

    `spacing_mm`: between the centres of neighbouring rows, and of neighbouring columns; of a volume, of neighbouring slices, rows and
    columns; None where the file does not say. `modality`: the
    code that DICOM has for it (CT, MR, DX, ...), where CT means values in HU; "" for formats that know of no modality. `used_bits`: those
    that the values need, where the image is scaled by the range of more than 8 stored bits; 0 where it is scaled in another way. `suspect`:
    a sign by which the compressed data seem to be damaged; "" where the decoder noticed none. `volume`: None for an image.
    """

    pixels: np.ndarray
    bits: int
    spacing_mm: tuple[float, ...] | None = None
    modality: str = ""
    used_bits: int = 0
    suspect: str = ""
    volume: VolumeFacts | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """`views`: tensors [B, C, H, W], of volumes [B, C, D, H, W], uint8 (0..255) or float32 in [0, 1], one per view of the same B samples;
    smaller crops, where the method asks for them, come after the two whole views. On its way to the device, where views are made there, it
    has one: the images as they are stored; or none, where those are on the device already.

    `rows`: int64 [B], the samples' rows in the store. `labels`: int64 [B], -1 where there is none; they watch, and train nothing but
    `supervised` and fine-tuning. `patients`: int64 [B], equal numbers for images of one patient.

    `tags` and `drawn`: what depends on seed and step, the tags of `nn.support_set.tags_of` and the random numbers of the method's `draw`,
    where they are made before the forward pass (`train/one_graph.py`). Elsewhere they are None, and the method makes them itself.
    """

    views: tuple[Tensor, ...]
    rows: Tensor
    step: int
    seed: int
    labels: Tensor | None = None
    patients: Tensor | None = None
    tags: Tensor | None = None
    drawn: Any = None

    def to(self, device: torch.device) -> Batch:
        """The batch with its tensors on `device`, from pinned memory without waiting; nothing moves where they are there already."""
        return self._each(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """torch's DataLoader calls this in a thread of its own."""
        return self._each(lambda x: x.pin_memory())

    def _each(self, changed: Callable[[Tensor], Tensor]) -> Batch:
        labels, patients = (None if known is None else changed(known) for known in (self.labels, self.patients))
        return replace(self, views=tuple(map(changed, self.views)), rows=changed(self.rows), labels=labels, patients=patients)


@dataclass(frozen=True, slots=True)
class Rows:
    """Embeddings with what is known of them: `values` [n, D] of unit length, `tags` int64 [n, 4] as in `nn.support_set.tags_of`."""

    values: Tensor
    tags: Tensor


@dataclass(frozen=True, slots=True)
class LookUp:
    """What a look-up in the support set found, for those who watch: unit rows [n, D] of the queries `z`, of their nearest neighbours
    `nn` and of their pseudo neighbours `pnn`; `index` [n], the neighbours' rows in the set; tags [n, 4] of the queries and neighbours."""

    z: Tensor
    nn: Tensor
    pnn: Tensor
    index: Tensor
    z_tags: Tensor
    nn_tags: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """What a method returns for one batch.

    `logs`: single numbers. `embeddings`: unit rows [B, D] of the two views, without gradient, by which the run's health is judged.
    `push`: rows for the support set once the step has been applied. `lookup`: what was found in the support set. `carry`: what else
    `after_update` needs of the forward pass.
    """

    loss: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)
    embeddings: tuple[Tensor, Tensor] | None = None
    push: Rows | None = None
    lookup: LookUp | None = None
    carry: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalViews:
    """Small crops beside the two whole views: how many; their edge as a share of a whole view's; the shares of the image's area that
    they and the whole views show."""

    number: int
    edge: float
    area: tuple[float, float]
    whole_area: tuple[float, float]


class Method(Protocol):
    """What the training loop needs of a method: `nn.Module` behaviour, a step, and what follows an applied update.

    `after_update(step, progress)` is called only for a finite step; `progress` runs from 0 to 1 over the training. A method may have a
    `support` (an `nn.SupportSet`, for those who watch it), `local_views` (LocalViews: its batches then hold such crops, too), and
    `draw(batch)`: the random numbers of its forward pass, which takes them from `Batch.drawn` where they are there.
    """

    encoder: nn.Module

    def __call__(self, batch: Batch) -> Step: ...
    def after_update(self, step: Step, progress: float) -> None: ...


class Reporter(Protocol):
    """Where a running command speaks: lines, warnings, and the state of the task (a bar on a terminal, plain lines elsewhere)."""

    def say(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def progress(self, task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None: ...
