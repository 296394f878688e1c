"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz, .hdr and .img): reads one axial slice of a volume, oriented like DICOM's axial images.

Slices go from the feet to the head. In a slice, rows go from anterior to posterior and columns from the patient's right to the left, as
radiologists see it. All slices of a volume share one grey scale. `nifti_header` checks the header before any voxels are unpacked.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped
from pydantic import Field

from medssl.config import Limits, PluginConfig, Window, windows_hu
from medssl.data.formats import LastOpened, channels_first, nifti_header
from medssl.data.formats.nifti_header import Header, Stream
from medssl.data.intensity import percentile_ends
from medssl.errors import ReadError
from medssl.types import Decoded

# The 0.5th percentile of a CT in HU: air is -1000, and the padding around the scanner's circle -1024 to -3024. NIfTI states no modality.
LEAST_OF_CT = (-3030.0, -700.0)


class Config(PluginConfig):
    name: str = "nifti"
    window: Window = Field(
        default="header",
        description="How grey values are scaled, as data.window; header is percentile 0.5 to 99.5 of the volume, as NIfTI files state no "
        "window.",
    )
    non_finite: Literal["skip", "zero"] = Field(
        default="skip", description="A volume with NaN or infinite values is left out, or these values become 0."
    )
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


class Volume(NamedTuple):
    """`voxels`: stored values [x, y, z] or [x, y, z, samples] in LPS order; the real values are voxels * slope + intercept. `ranges`: for
    each channel the two real values that become 0 and 1; empty for colours. `modality`: CT where the values look like HU, else MR."""

    voxels: np.ndarray
    slope: float
    intercept: float
    ranges: tuple[tuple[float, float], ...]
    modality: str


class Reader:
    """Reads slices. The last volume is kept in memory, so it is unpacked once for all its slices."""

    version = "1"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._headers = LastOpened[Header]()
        self._streams = LastOpened[Stream]()
        self._volumes = LastOpened[Volume | ReadError]()  # the error is kept, too: a bad volume is unpacked once only

    def read(self, path: Path, index: int = 0) -> Decoded:
        """Slice `index` of the file; the slices of all volumes are numbered one after another: volume * depth + slice.

        Raises ReadError: what `nifti_header.read` raises, no_such_slice, unreadable, crc, truncated, non_finite, constant (all voxels of
        the volume are equal), empty_slice (those of the slice are, as at the ends of a volume).
        """
        header = self._headers.get(path, lambda _: nifti_header.read(path, self._config.limits))
        number, position = divmod(index, header.depth)
        if not 0 <= number < header.volumes:
            raise ReadError(f"no_such_slice: slice {index} of {header.volumes} x {header.depth}")
        volume = self._volumes.get((path, number), lambda _: self._load_volume(header, number))
        if isinstance(volume, ReadError):
            raise ReadError(str(volume))
        picture = np.swapaxes(volume.voxels[:, :, position], 0, 1)
        if picture.min() == picture.max():
            raise ReadError("empty_slice: all voxels of the slice are equal")
        return Decoded(_pixels(picture, volume), stored_bits(header), header.spacing_mm, volume.modality)

    def _load_volume(self, header: Header, number: int) -> Volume | ReadError:
        try:
            with named_faults():
                stream = self._streams.get(header.data, lambda stack: open_stream(header.data, self._config.limits, stack))
                return _scale_volume(nifti_header.voxels(header, stream, number), header, self._config)
        except ReadError as error:
            return error

    def files(self, path: Path) -> tuple[Path, ...]:
        """The file of the header, and that of the voxels where it is another one."""
        return nifti_header.files(path)


def build(config: Config) -> Reader:
    """The reader that `config` describes."""
    return Reader(config)


def recognises(head: bytes) -> bool:
    """Whether a file that starts with these bytes (544, or 4096 of a compressed one) is NIfTI-1 or NIfTI-2."""
    return nifti_header.version(nifti_header.inflated_head(head)) is not None


@contextmanager
def named_faults() -> Iterator[None]:
    """Turns what damaged files and a lack of memory raise into a ReadError: too_much_memory, crc or unreadable."""
    try:
        yield
    except MemoryError:
        raise ReadError("too_much_memory: there is too little memory for the volume") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ReadError("crc: the compressed data is damaged") from None
    except OSError as error:
        raise ReadError(f"unreadable: {error.strerror}") from None


def open_stream(data: Path, limits: Limits, stack: ExitStack) -> Stream:
    """A stream of the unpacked bytes of the file. Of a compressed file the checksum is compared first."""
    if not nifti_header.is_gzip(data):
        return stack.enter_context(data.open("rb"))
    nifti_header.check_gzip(data, limits)
    return stack.enter_context(gzip.open(data))


def _scale_volume(voxels: np.ndarray, header: Header, config: Config) -> Volume:
    """The volume with the grey scale of all its slices. `voxels`: stored values in LPS order. Raises ReadError non_finite, constant."""
    slope, intercept = header.slope, header.intercept
    if header.samples > 1:
        voxels = voxels[..., :3]  # NIfTI does not define the fourth sample; programs write 0
        percentile_ends(voxels)
        return Volume(voxels, 1, 0, (), "unknown")
    if voxels.dtype.kind == "f":
        scaled = (slope, intercept) != (1, 0)
        voxels = voxels.astype(np.float64 if scaled or voxels.dtype.itemsize > 4 else np.float32)
        if scaled:
            voxels = voxels * slope + intercept
        slope, intercept = 1.0, 0.0
        voxels = replace_non_finite(voxels, config.non_finite)
    low, high = percentile_ends(voxels)
    least = min(low * slope + intercept, high * slope + intercept)
    modality = "CT" if LEAST_OF_CT[0] <= least <= LEAST_OF_CT[1] else "MR"
    if windows := windows_hu(config.window):
        return Volume(voxels, slope, intercept, tuple((centre - width / 2, centre + width / 2) for centre, width in windows), modality)
    if config.window == "none" and voxels.dtype.kind != "f":
        low, high = np.iinfo(voxels.dtype).min, np.iinfo(voxels.dtype).max
    low, high = sorted(end * slope + intercept for end in (low, high))
    return Volume(voxels, slope, intercept, ((low, high),), modality)


def replace_non_finite(voxels: Shaped[np.ndarray, "x y z"], policy: Literal["skip", "zero"]) -> Shaped[np.ndarray, "x y z"]:
    """The voxels with 0 for NaN and infinity. Raises ReadError non_finite where the policy is to leave such volumes out."""
    bad = voxels.size - np.count_nonzero(np.isfinite(voxels))
    if bad and policy == "skip":
        raise ReadError(f"non_finite: {bad} of {voxels.size} voxels are NaN or infinite")
    return np.nan_to_num(voxels, copy=False, nan=0, posinf=0, neginf=0) if bad else voxels


def _pixels(picture: Shaped[np.ndarray, "h w *colours"], volume: Volume) -> np.ndarray:
    """The slice `picture` of stored values as float32 [C, H, W] in [0, 1]."""
    if not volume.ranges:
        return channels_first(picture) / 255
    values = picture * np.float64(volume.slope) + volume.intercept
    channels = [np.clip((values - low) / (high - low), 0, 1) for low, high in volume.ranges]
    return np.stack(channels).astype(np.float32)


def stored_bits(header: Header) -> int:
    """8 for unsigned bytes without a scale, else 16."""
    return 8 if header.dtype.itemsize == 1 and header.dtype.kind == "u" and (header.slope, header.intercept) == (1, 0) else 16
