"""PNG, JPEG, TIFF, BMP, GIF, PGM, PPM, WebP and JPEG 2000. 8 and 16 bits are kept, the EXIF orientation is applied, palettes become RGB,
the background of transparent images becomes black.

The format is found by a file's content, and other formats are not opened. The size is checked before any pixels are unpacked.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field

from medssl.config import Limits, PluginConfig
from medssl.data import damage
from medssl.data.formats import (
    LastOpened,
    channels_first,
    contiguous_planes,
    open_regular_file,
    png,
    raise_if_of_the_machine,
    raster_files,
    sixteen_bit,
    size_and_time,
    tiff_pages,
)
from medssl.data.intensity import by_percentile, scale_used_bits, used_bits
from medssl.errors import ReadError
from medssl.types import Decoded


class Config(PluginConfig):
    name: str = "raster"
    used_bits: int | None = Field(default=None, description="As data.used_bits.")
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


@dataclass(frozen=True)
class _Opened:
    """An open picture file. `stack`: of a TIFF whose planes lie one after another."""

    file: BinaryIO
    picture: Image.Image
    stack: contiguous_planes.Stack | None

    @cached_property
    def positions(self) -> list[int]:
        """Of the directories of a TIFF, in bytes."""
        return tiff_pages.page_positions(self.file) if self.picture.format == "TIFF" else []

    @property
    def has_pages(self) -> bool:
        return getattr(self.picture, "is_animated", False)


class Reader:
    """Reads one page of a picture file."""

    version = "2"  # 2: colours of 16 bits are no longer reduced to 8

    def __init__(self, config: Config) -> None:
        self._config = config
        self._limits = config.limits
        self._files = LastOpened[_Opened]()  # Pillow walks from page to page: a file that was opened anew would be walked from its start

    def read(self, path: Path, index: int = 0) -> Decoded:
        """Page `index` of a file: a page of a TIFF, a plane of a stack, a frame of a GIF or WebP; 0 for others.

        Raises ReadError: not_a_file, unreadable, empty, not_an_image, too_many_pixels, too_much_memory, no_such_page, truncated,
        short_data, undecodable, more_bits, and for float pictures non_finite and constant.
        """
        keep = False
        try:
            with _faults_as_read_errors():
                key = path, size_and_time(path)
                opened = self._files.get(key, lambda stack: _open(stack.enter_context(open_regular_file(path)), stack))
                decoded = self._read(opened, index)
            keep = opened.has_pages
            return decoded
        finally:
            if not keep:
                self._files.drop()

    def read_stream(self, file: BinaryIO, index: int = 0) -> Decoded:
        """The same of an open file."""
        with _faults_as_read_errors(), ExitStack() as stack:
            return self._read(_open(file, stack), index)

    def _read(self, opened: _Opened, index: int) -> Decoded:
        file, picture = opened.file, opened.picture
        if opened.stack:
            return self._read_plane(file, opened.stack, index)
        self._check(picture, index)
        picture.load()
        png.check_length(picture, file)
        if sixteen_bit.has_16_bit_colours(picture, file):
            return self._scale_16_bit(channels_first(sixteen_bit.read_colours(picture, file, opened.positions[index] if index else None)))
        decoded = self._decode(ImageOps.exif_transpose(picture))
        return replace(decoded, suspect=_sign_of_damage(picture, file))

    def _check(self, picture: Image.Image, index: int) -> None:
        try:
            picture.seek(index)  # the number of pages is not asked for: Pillow would read all of them
        except EOFError:
            raise ReadError(f"no_such_page: page {index}") from None
        if picture.width * picture.height > self._limits.max_pixels:
            raise ReadError(f"too_many_pixels: {picture.width} x {picture.height}, the limit is {self._limits.max_pixels}")

    def files(self, path: Path) -> tuple[Path, ...]:
        """The file itself."""
        return (path,)

    def _read_plane(self, file: BinaryIO, stack: contiguous_planes.Stack, index: int) -> Decoded:
        if math.prod(stack.shape[:2]) > self._limits.max_pixels:
            raise ReadError(f"too_many_pixels: {stack.shape[1]} x {stack.shape[0]}, the limit is {self._limits.max_pixels}")
        if not 0 <= index < stack.planes:
            raise ReadError(f"no_such_page: plane {index} of {stack.planes}")
        plane = contiguous_planes.read_plane(file, stack, index)
        match plane.dtype:
            case np.uint8:
                return Decoded(channels_first(plane) / 255, 8)
            case np.uint16:
                return self._scale_16_bit(channels_first(plane) / 65535)
            case _:
                return Decoded(channels_first(by_percentile(plane.astype(np.float64))), 8 * plane.dtype.itemsize)

    def _decode(self, picture: Image.Image) -> Decoded:
        if picture.mode.startswith("I;16"):
            return self._scale_16_bit(_scale(picture, 65535))
        if picture.mode == "I" and picture.format == "PPM":
            return self._scale_16_bit(_scale(picture, 65535))
        if picture.mode in ("F", "I"):  # float and 32-bit TIFF state no range: percentiles of the pixels are used
            return Decoded(channels_first(by_percentile(np.asarray(picture, np.float64))), 32)
        if picture.mode == "1":
            return Decoded(_scale(picture, 1), 1)
        if picture.has_transparency_data:
            picture = _paste_on_black(picture.convert("RGBA"))
        elif picture.mode not in ("L", "RGB"):
            picture = picture.convert("RGB")
        return Decoded(_scale(picture, 255), 8)

    def _scale_16_bit(self, pixels: np.ndarray) -> Decoded:
        """The image of 16 bits, scaled by `used_bits` where that is less. `pixels`: in [0, 1] as 16 bits."""
        used = used_bits(float(pixels.max()) * 65535)
        return Decoded(scale_used_bits(pixels, 16, used, self._config.used_bits), 16, used_bits=used)


def build(config: Config) -> Reader:
    """The reader that `config` describes."""
    return Reader(config)


def recognises(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a picture that this reader reads."""
    return raster_files.is_raster(head)


def _open(file: BinaryIO, stack: ExitStack) -> _Opened:
    picture = stack.enter_context(Image.open(file, formats=raster_files.FORMATS))
    return _Opened(file, picture, contiguous_planes.find_stack(file) if picture.format == "TIFF" else None)


@contextmanager
def _faults_as_read_errors() -> Iterator[None]:
    """Within the block, what Pillow raises becomes a ReadError, and its warnings of damaged EXIF and odd TIFF tags are silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _without_size_limit():
                yield
        except UnidentifiedImageError as error:
            raise ReadError(f"not_an_image: none of {', '.join(raster_files.FORMATS)}") from error
        except ReadError:
            raise
        except Exception as error:  # a damaged file makes Pillow's plugins raise any exception
            raise_if_of_the_machine(error)
            reason = "truncated" if "truncated" in str(error).lower() else "undecodable"
            raise ReadError(f"{reason}: the picture's data is damaged ({type(error).__name__})") from error


@contextmanager
def _without_size_limit() -> Iterator[None]:
    """Within the block Pillow opens pictures of any size: the limit is that of the configuration."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _sign_of_damage(picture: Image.Image, file: BinaryIO) -> str:
    """Pillow reads a JPEG file to its end marker; what follows that, as in files of cameras, is no damage."""
    if picture.format not in ("JPEG", "MPO", "JPEG2000"):
        return ""
    file.seek(0)
    content = file.read()
    return damage.sign_in_stream(content) if picture.format == "JPEG2000" else damage.sign_in_jpeg(content)


def _paste_on_black(layer: Image.Image) -> Image.Image:
    alpha = layer.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return layer.convert("RGB")
    picture = Image.new("RGB", layer.size)
    picture.paste(layer, mask=alpha)
    return picture


def _scale(picture: Image.Image, largest: int) -> np.ndarray:
    pixels = channels_first(np.asarray(picture))
    pixels /= largest
    return pixels
