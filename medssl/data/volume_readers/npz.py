"""NumPy archives in the form of MedMNIST: reads one whole volume of an array [N, D, H, W] that `file.npz#key` names.

The archives do not say how their axes lie in the patient: they stay as they are, and the orientation is unknown. Nothing is cropped."""

from pathlib import Path

import numpy as np
from pydantic import Field

from medssl.config import Limits, PluginConfig
from medssl.data.readers import npz
from medssl.data.volume_limits import check_shape
from medssl.errors import ReadError
from medssl.types import Decoded, VolumeFacts, VolumeGrid


class Config(PluginConfig):
    name: str = "npz"
    used_bits: int | None = Field(default=None, description="As data.used_bits.")
    min_slices: int = Field(default=8, description="As data.min_slices.")
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


class Reader:
    """Reads volumes, fastest in their order."""

    version = "volumes 1"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._slices = npz.Reader(npz.Config(used_bits=config.used_bits, limits=config.limits))

    def read(self, path: Path, index: int = 0) -> Decoded:
        """Volume `index` of the array that `path` names. Raises ReadError as the reader of slices does, no_volume for an array of images,
        constant, and what `volume_limits.check_shape` raises."""
        images = self._slices.images(path)
        if not images.sliced:
            raise ReadError("no_volume: the array holds images")
        check_shape((images.depth, *images.shape), self._config.limits, self._config.min_slices)
        stored = self._slices.stored(path, index * images.depth, images.depth)
        if stored.min() == stored.max():
            raise ReadError("constant: all voxels are equal")
        return self._slices.decoded(stored[None].astype(np.float32), stored, VolumeFacts())

    def grid(self, path: Path) -> VolumeGrid:
        """The archives do not say the spacing. Raises ReadError as the reader of slices does."""
        images = self._slices.images(path)
        rows, columns = images.shape[:2]
        return VolumeGrid((images.depth, rows, columns), None)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The archive."""
        return self._slices.files(path)


def build(config: Config) -> Reader:
    """The reader of whole volumes that `config` describes."""
    return Reader(config)
