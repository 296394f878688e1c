"""Which of the installed decoders decodes a frame, and what to install where there is none."""

import contextlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID, JPEGExtended12Bit

from medssl.data.dicom.gdcm import Gdcm
from medssl.errors import ReadError

_ORDER = ("pydicom", "pylibjpeg", "pyjpegls", "pillow", "gdcm")
_PACKAGES = {"4.5": "python-gdcm", "4.7": "python-gdcm", "4.8": "pyjpegls", "4.9": "pylibjpeg-openjpeg", "4.2": "pylibjpeg-openjpeg"}


class Pixels(NamedTuple):
    """The element that holds the pixels of a file: its keyword, its VR ("" where the file states none), and where its value starts."""

    keyword: str
    vr: str
    start: int


def syntax_name(syntax: UID) -> str:
    """The transfer syntax by the standard's name; what a file writes in its place is not repeated."""
    return syntax.name if syntax.name != str(syntax) else "an unknown transfer syntax"


def check_decoder(header: Dataset, syntax: UID) -> None:
    """Raises ReadError missing_decoder with the package that decodes the transfer syntax, undecodable where there is none."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ReadError(f"undecodable: pydicom knows no decoder for {syntax_name(syntax)}") from None
    package = _PACKAGES.get(str(syntax).removeprefix("1.2.840.10008.1.2.")[:3], "pylibjpeg")
    available = decoder.is_available
    if syntax == JPEGExtended12Bit and (header.get("BitsStored") or 0) > 8:  # GDCM and Pillow list it, and decode its 8-bit form only
        package, available = "pylibjpeg-libjpeg", "pylibjpeg" in decoder.available_plugins
    if not available:
        raise ReadError(f"missing_decoder: {syntax.name} ({syntax}) needs: pip install {package}")


def decode(stream: BinaryIO, path: Path, header: Dataset, syntax: UID, pixels: Pixels, index: int, gdcm: Gdcm) -> np.ndarray:
    """The stored values [H, W] or [H, W, 3] of frame `index`, by the first decoder that can. GDCM comes last, in a process of its own.

    The same as pydicom's `pixel_array(path, index=index)`, which would read the header once more. Raises ReadError undecodable, or
    what the decoder raises.
    """
    decoder = get_decoder(syntax)
    options = as_pixel_options(header, transfer_syntax_uid=syntax, pixel_keyword=pixels.keyword, pixel_vr=pixels.vr)

    def by(plugin: str) -> np.ndarray:
        stream.seek(pixels.start)
        return decoder.as_array(stream, index=index, decoding_plugin=plugin, **options)[0]

    if not syntax.is_encapsulated:
        return by("")
    available = decoder.available_plugins
    for plugin in (name for name in _ORDER if name in available and name != "gdcm"):
        with contextlib.suppress(Exception):
            return by(plugin)
    if "gdcm" in available:
        return gdcm.decode(path, index)
    raise ReadError(f"undecodable: {syntax.name} cannot be decoded")
