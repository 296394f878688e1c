"""NumPy archives of images as MedMNIST has them: `file.npz#key` names an array [N, H, W] or [N, H, W, 3], uint8 or uint16.

The zip directory and the array's header are checked against the limits before a byte of it is unpacked, and pickles are
refused: an archive of 2 MB can otherwise claim 2 GB, or run code.
"""

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from medssl.config import Limits, PluginConfig
from medssl.data.readers._channels import channels_first
from medssl.data.readers._file import opened
from medssl.errors import ReadError
from medssl.types import Decoded

_MAX_RATIO = 200  # deflate reaches 1030 on constant bytes; pictures stay far below
_SMALL = 2**20
_RANGES = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


class Config(PluginConfig):
    """Options of the npz reader: it has none beside the limits."""

    name: str = "npz"
    limits: Limits = Limits()


class Reader:
    """Reads rows of one array after another: the array read last is kept, so that 5000 rows unpack it once."""

    version = "1"

    def __init__(self, config: Config) -> None:
        self._limits = config.limits
        self._path: Path | None = None
        self._images = np.empty(0)

    def read(self, path: Path, index: int = 0) -> Decoded:
        """Row `index` of the array that `path` names (`file.npz#key`).

        Raises ReadError: not_an_image, no_such_key, no_such_row, too_big, pickled_npz, bad_array, truncated.
        """
        if path != self._path:
            self._images = _array(path, self._limits)
            self._path = path
        if not 0 <= index < len(self._images):
            raise ReadError(f"no_such_row: row {index} of {len(self._images)}")
        stored = self._images[index]
        full = _RANGES[stored.dtype.newbyteorder("=")]
        return Decoded(channels_first(stored) / full, full.bit_length())


def build(config: Config) -> Reader:
    """The reader that `config` describes."""
    return Reader(config)


def recognises(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a zip archive, as every .npz is."""
    return head.startswith(b"PK\x03\x04")


def _array(path: Path, limits: Limits) -> np.ndarray:
    """The array [N, H, W] or [N, H, W, 3] behind `file.npz#key`."""
    name, _, key = str(path).rpartition("#")
    try:
        with opened(Path(name)) as file, zipfile.ZipFile(file) as archive:
            if f"{key}.npy" not in archive.namelist():
                raise ReadError(f"no_such_key: {key!r}; the archive has {', '.join(sorted(archive.namelist())[:20])}")
            info = archive.getinfo(f"{key}.npy")
            if info.file_size > limits.max_array_bytes or (info.file_size > _SMALL and info.file_size > _MAX_RATIO * info.compress_size):
                raise ReadError(f"too_big: {info.compress_size} bytes unpack to {info.file_size}")
            with archive.open(info) as member:
                _check_header(member, info.file_size)
            with archive.open(info) as member:
                images = npy.read_array(member, allow_pickle=False)
    except ReadError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header each raise their own kinds, tokenize.TokenError among them
        raise ReadError(f"truncated: the archive is damaged ({type(error).__name__})") from error
    return images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images


def _check_header(member: IO[bytes], size: int) -> None:
    version = npy.read_magic(member)
    shape, _, dtype = npy.read_array_header_1_0(member) if version == (1, 0) else npy.read_array_header_2_0(member)
    if dtype.hasobject:
        raise ReadError("pickled_npz: the array holds Python objects; save it again as uint8")
    if dtype.newbyteorder("=") not in _RANGES or len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3)):
        raise ReadError(f"bad_array: {dtype} {list(shape)}; needed is uint8 or uint16 [N, H, W] or [N, H, W, 3]")
    if math.prod(shape) * dtype.itemsize != size - member.tell():
        raise ReadError(f"bad_array: {list(shape)} of {dtype} does not fill {size - member.tell()} bytes")
