"""NumPy archives of images in the form of MedMNIST: `file.npz#key` names an array [N, H, W] or [N, H, W, 3], uint8 or uint16, or an array
of volumes [N, D, H, W], whose slices are numbered one after another.

The zip directory and the array's header are compared with the limits before any image is unpacked: an archive of 2 MB can claim 2 GB.
Pickles are refused: they can run code. Images are unpacked one by one, never the whole array: MedMNIST has files of 13 GB.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import Shaped
from numpy.lib import format as npy
from pydantic import Field

from medssl.config import Limits, PluginConfig
from medssl.data.formats import LastOpened, channels_first, open_regular_file, raise_if_of_the_machine
from medssl.data.intensity import scale_used_bits, used_bits
from medssl.errors import ReadError
from medssl.types import Decoded, VolumeFacts

# unpacked bytes for each compressed byte: deflate reaches 1030 for constant bytes, images 10, volumes of two values (VesselMNIST3D) 200
_MAX_RATIO = 500
_SMALL_BYTES = 2**20  # arrays up to this size may have any ratio
_LARGEST_VALUE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


class Config(PluginConfig):
    name: str = "npz"
    used_bits: int | None = Field(default=None, description="As data.used_bits.")
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


class Images(NamedTuple):
    """An open array of `number` images of `shape` [H, W] or [H, W, 3]. `stream`: its unpacked bytes; `start`: the byte where the first
    image begins; `sliced`: whether the images are slices of volumes, of `depth` slices each."""

    stream: IO[bytes]
    start: int
    number: int
    shape: tuple[int, ...]
    dtype: np.dtype
    sliced: bool
    depth: int = 1


class Reader:
    """Reads images, fastest in their order: for an earlier image than the last one the archive is unpacked again from its start."""

    version = "1"

    def __init__(self, config: Config) -> None:
        self._used_bits, self._limits = config.used_bits, config.limits
        self._images = LastOpened[Images]()
        self._damage: tuple[Path, int] | None = None

    def read(self, path: Path, index: int = 0) -> Decoded:
        """Image `index` of the array that `path` names (`file.npz#key`); of volumes, slice `index`: row * D + slice.

        Raises ReadError: not_a_file, unreadable, empty, no_such_key, no_such_row, too_big, too_many_pixels, pickled_npz, bad_array,
        too_much_memory, more_bits, truncated (for the image in which the archive's damage is found and for all images after that),
        empty_slice.
        """
        stored = self.stored(path, index)[0]
        if self.images(path).sliced and stored.min() == stored.max():
            raise ReadError("empty_slice: all voxels of the slice are equal")
        return self.decoded(channels_first(stored), stored)

    def images(self, path: Path) -> Images:
        """The open array that `path` names. Raises ReadError as `read` does."""
        self._refuse_damaged(path, 0)
        with self._named_damage(path, 0):
            return self._images.get(path, lambda stack: _open_array(path, self._limits, stack))

    def stored(self, path: Path, index: int, count: int = 1) -> Shaped[np.ndarray, "count h w *colours"]:
        """The stored values of `count` images from number `index` on. Raises ReadError as `read` does."""
        self._refuse_damaged(path, index)
        images = self.images(path)
        if not 0 <= index <= images.number - count:
            raise ReadError(f"no_such_row: image {index} of {images.number}")
        with self._named_damage(path, index):
            return _read_images(images, index, count)

    def decoded(self, pixels: np.ndarray, stored: np.ndarray, volume: VolumeFacts | None = None) -> Decoded:
        """The image or volume with these `stored` values, of which `pixels` has the axes in their order."""
        largest = _LARGEST_VALUE[stored.dtype.newbyteorder("=")]
        bits = largest.bit_length()
        used = used_bits(float(stored.max())) if bits > 8 else 0
        return Decoded(scale_used_bits(pixels / largest, bits, used, self._used_bits), bits, used_bits=used, volume=volume)

    def _refuse_damaged(self, path: Path, index: int) -> None:
        if self._damage and self._damage[0] == path and index >= self._damage[1]:
            raise ReadError("truncated: the archive is damaged before this image")

    @contextmanager
    def _named_damage(self, path: Path, index: int) -> Iterator[None]:
        """Turns the exceptions of damaged bytes into a ReadError truncated, of this image and all behind it."""
        try:
            yield
        except ReadError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy raise many kinds of exceptions for damaged bytes, even tokenize.TokenError
            self._images.drop()
            raise_if_of_the_machine(error)
            self._damage = path, index
            raise ReadError(f"truncated: the archive is damaged ({type(error).__name__})") from error

    def files(self, path: Path) -> tuple[Path, ...]:
        """The archive that `path` (`file.npz#key`) names."""
        return (Path(str(path).rpartition("#")[0]),)


def build(config: Config) -> Reader:
    """The reader that `config` describes."""
    return Reader(config)


def recognises(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a zip archive, as every .npz is."""
    return head.startswith(b"PK\x03\x04")


def _read_images(images: Images, index: int, count: int) -> np.ndarray:
    size = math.prod(images.shape) * images.dtype.itemsize
    images.stream.seek(images.start + index * size)
    content = images.stream.read(count * size)  # at the end of the array zipfile compares the checksum
    return np.frombuffer(content, images.dtype).reshape(count, *images.shape)


def _open_array(path: Path, limits: Limits, stack: ExitStack) -> Images:
    """The open array that `file.npz#key` names. Its header is checked, its images are not."""
    name, _, key = str(path).rpartition("#")
    archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(open_regular_file(Path(name)))))
    if f"{key}.npy" not in archive.namelist():
        raise ReadError(f"no_such_key: the archive has {len(archive.namelist())} arrays, none of that name")
    info = archive.getinfo(f"{key}.npy")
    if info.file_size > limits.max_array_bytes or (info.file_size > _SMALL_BYTES and info.file_size > _MAX_RATIO * info.compress_size):
        raise ReadError(f"too_big: {info.compress_size} bytes unpack to {info.file_size}")
    stream = stack.enter_context(archive.open(info))
    shape, dtype = _read_header(stream, info.file_size)
    colours = len(shape) == 4 and shape[-1] in (1, 3)
    sliced = len(shape) == 4 and not colours
    number = shape[0] * shape[1] if sliced else shape[0]
    image = shape[2:] if sliced else shape[1:3] if shape[-1] == 1 and colours else shape[1:]
    if math.prod(image) > limits.max_pixels:
        raise ReadError(f"too_many_pixels: {list(image)}, the limit is {limits.max_pixels}")
    return Images(stream, stream.tell(), number, image, dtype, sliced, shape[1] if sliced else 1)


def _read_header(member: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(member)
    shape, fortran, dtype = npy.read_array_header_1_0(member) if version == (1, 0) else npy.read_array_header_2_0(member)
    if dtype.hasobject:
        raise ReadError("pickled_npz: the array holds Python objects; save it again as uint8")
    if dtype.newbyteorder("=") not in _LARGEST_VALUE or len(shape) not in (3, 4) or min(shape[1:]) < 1 or shape[0] < 0:
        raise ReadError(f"bad_array: {dtype} {list(shape)}; needed is uint8 or uint16 [N, H, W], [N, H, W, 3] or [N, D, H, W]")
    if fortran:  # the bytes of an image are spread over the whole array
        raise ReadError("bad_array: the array is in Fortran order; save it again with numpy.ascontiguousarray")
    if math.prod(shape) * dtype.itemsize != size - member.tell():
        raise ReadError(f"bad_array: {list(shape)} of {dtype} does not fill {size - member.tell()} bytes")
    return shape, dtype
