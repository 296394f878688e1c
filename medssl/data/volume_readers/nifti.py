"""NIfTI-1 and NIfTI-2: reads one whole volume in canonical axes (slices from the feet to the head, rows from anterior to posterior, columns
from the patient's right to the left), whichever way its file stores them."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from medssl.config import Limits, PluginConfig, Window
from medssl.data.formats import LastOpened, nifti_header
from medssl.data.formats.nifti_header import Header, Stream
from medssl.data.readers.nifti import LEAST_OF_CT, named_faults, open_stream, replace_non_finite, stored_bits
from medssl.data.volume_intensity import scale_volume
from medssl.data.volume_limits import check_shape
from medssl.errors import ReadError
from medssl.types import Decoded, VolumeFacts, VolumeGrid

_PERCENTILE = 0.5  # by which CT is told from other volumes
_SAMPLE = 2**22


class Config(PluginConfig):
    name: str = "nifti"
    window: Window = Field(
        default="header",
        description="How grey values are scaled, as data.window; header is the window from air to dense bone for CT, and percentile 0.5 to "
        "99.5 of the foreground for all else, as NIfTI files state no window.",
    )
    non_finite: Literal["skip", "zero"] = Field(
        default="skip", description="A volume with NaN or infinite values is left out, or these values become 0."
    )
    min_slices: int = Field(default=8, description="As data.min_slices.")
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


class Reader:
    """Reads volumes. A compressed file stays open for its next volume, so that a time series is unpacked once."""

    version = "volumes 1"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._headers = LastOpened[Header]()
        self._streams = LastOpened[Stream]()

    def read(self, path: Path, index: int = 0) -> Decoded:
        """Volume `index` of the file.

        Raises ReadError: what `nifti_header.read` and `volume_limits.check_shape` raise, no_such_volume, unreadable, crc, truncated,
        non_finite, constant, not_hounsfield, too_much_memory.
        """
        header = self._headers.get(path, lambda _: nifti_header.read(path, self._config.limits))
        if not 0 <= index < header.volumes:
            raise ReadError(f"no_such_volume: volume {index} of {header.volumes}")
        check_shape((header.depth, *header.plane), self._config.limits, self._config.min_slices, header.samples)
        with named_faults():
            stream = self._streams.get(header.data, lambda stack: open_stream(header.data, self._config.limits, stack))
            return self._decoded(nifti_header.voxels(header, stream, index), header)

    def grid(self, path: Path) -> VolumeGrid:
        """That of all volumes of the file, from its header. Raises ReadError as `nifti_header.read` does."""
        header = nifti_header.read(path, self._config.limits)
        return VolumeGrid((header.depth, *header.plane), header.volume_mm)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The file of the header, and that of the voxels where it is another one."""
        return nifti_header.files(path)

    def _decoded(self, voxels: np.ndarray, header: Header) -> Decoded:
        """`voxels`: stored values in LPS order, [x, y, z] or [x, y, z, samples]."""
        facts, bits = VolumeFacts(header.orientation, to_lps=header.to_lps), stored_bits(header)
        if header.samples > 1:  # the fourth sample is undefined, and programs write 0
            colours = np.ascontiguousarray(voxels[..., :3].transpose(3, 2, 1, 0), np.float32) / 255
            return Decoded(colours, bits, header.volume_mm, "unknown", volume=facts)
        stored = _stored_range(header)
        values = np.ascontiguousarray(voxels.transpose(2, 1, 0), np.float32)
        if not values.flags.writeable:  # float32 in the order of the file: the bytes that were read cannot be changed
            values = values.copy()
        del voxels
        if (header.slope, header.intercept) != (1, 0):
            values *= np.float32(header.slope)
            values += np.float32(header.intercept)
        if header.dtype.kind == "f":
            values = replace_non_finite(values, self._config.non_finite)
        is_ct = _is_ct(values)
        pixels, box = scale_volume(values, self._config.window, is_ct, stored=stored)
        modality = "CT" if is_ct else "MR"
        return Decoded(pixels, bits, header.volume_mm, modality, volume=replace(facts, foreground=box))


def build(config: Config) -> Reader:
    """The reader of whole volumes that `config` describes."""
    return Reader(config)


def _stored_range(header: Header) -> tuple[float, float] | None:
    """The least and the largest value that the file can store; None for floating-point numbers, which have none."""
    if header.dtype.kind == "f":
        return None
    limits = np.iinfo(header.dtype)
    low, high = sorted(end * header.slope + header.intercept for end in (limits.min, limits.max))
    return low, high


def _is_ct(values: np.ndarray) -> bool:
    """Whether the values look like HU: NIfTI states no modality."""
    sample = values.ravel()[:: max(1, values.size // _SAMPLE)]
    return LEAST_OF_CT[0] <= float(np.percentile(sample, _PERCENTILE)) <= LEAST_OF_CT[1]
