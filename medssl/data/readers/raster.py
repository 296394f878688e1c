"""PNG, JPEG, TIFF and BMP. 8 and 16 bits are kept, the EXIF orientation is applied, palettes become RGB, the background of transparent
images becomes black.

The format is found by a file's content, and other formats are not opened. The size is checked before any pixels are unpacked.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field

from medssl.config import Limits, PluginConfig
from medssl.data.formats import channels_first, open_regular_file, png, raise_if_of_the_machine, sixteen_bit
from medssl.data.intensity import by_percentile
from medssl.errors import ReadError
from medssl.types import Decoded

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_FIRST_BYTES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")


class Config(PluginConfig):
    name: str = "raster"
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


class Reader:
    """Reads one page of a picture file."""

    version = "2"  # 2: colours of 16 bits are no longer reduced to 8

    def __init__(self, config: Config) -> None:
        self._limits = config.limits

    def read(self, path: Path, index: int = 0) -> Decoded:
        """Page `index` of a file (0 unless it is a TIFF of many pages).

        Raises ReadError: not_a_file, unreadable, empty, not_an_image, too_many_pixels, too_much_memory, no_such_page, truncated,
        short_data, undecodable, and for float pictures non_finite and constant.
        """
        with open_regular_file(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF, and odd TIFF tags
            try:
                with _without_size_limit(), Image.open(file, formats=_FORMATS) as picture:
                    self._check(picture, index)
                    picture.load()
                    png.check_length(picture, file)
                    if sixteen_bit.has_16_bit_colours(picture, file):
                        return Decoded(channels_first(sixteen_bit.read_colours(picture, file, index)), 16)
                    return _decode(ImageOps.exif_transpose(picture))
            except UnidentifiedImageError as error:
                raise ReadError("not_an_image: neither PNG, JPEG, TIFF nor BMP") from error
            except ReadError:
                raise
            except Exception as error:  # a damaged file makes Pillow's plugins raise any exception
                raise_if_of_the_machine(error)
                reason = "truncated" if "truncated" in str(error).lower() else "undecodable"
                raise ReadError(f"{reason}: the picture's data is damaged ({type(error).__name__})") from error

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


def build(config: Config) -> Reader:
    """The reader that `config` describes."""
    return Reader(config)


def recognises(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a PNG, JPEG, TIFF or BMP."""
    return head.startswith(_FIRST_BYTES)


@contextmanager
def _without_size_limit() -> Iterator[None]:
    """Within the block Pillow opens pictures of any size: the limit is that of the configuration."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _decode(picture: Image.Image) -> Decoded:
    if picture.mode.startswith("I;16"):
        return Decoded(_scale(picture, 65535), 16)
    if picture.mode in ("F", "I"):  # float and 32-bit TIFF state no range: percentiles of the pixels are used
        return Decoded(channels_first(by_percentile(np.asarray(picture, np.float64))), 32)
    if picture.mode == "1":
        return Decoded(_scale(picture, 1), 1)
    if picture.has_transparency_data:
        picture = _paste_on_black(picture.convert("RGBA"))
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    return Decoded(_scale(picture, 255), 8)


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
