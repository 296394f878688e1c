"""Which of the installed decoders decodes a frame, and what to install where there is none."""

import contextlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, JPEGExtended12Bit

from medssl.data.readers._gdcm import Gdcm
from medssl.errors import ReadError

_ORDER = ("pydicom", "pylibjpeg", "pyjpegls", "pillow", "gdcm")
_PACKAGES = {"4.5": "python-gdcm", "4.7": "python-gdcm", "4.8": "pyjpegls", "4.9": "pylibjpeg-openjpeg", "4.2": "pylibjpeg-openjpeg"}


def check(header: Dataset, syntax: UID) -> None:
    """Raises ReadError missing_decoder with the package that decodes the transfer syntax, undecodable where there is none."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ReadError(f"undecodable: pydicom knows no decoder for {syntax.name} ({syntax})") from None
    package = _PACKAGES.get(str(syntax).removeprefix("1.2.840.10008.1.2.")[:3], "pylibjpeg")
    available = decoder.is_available
    if syntax == JPEGExtended12Bit and header.BitsStored > 8:  # GDCM and Pillow list it, and decode its 8-bit form only
        package, available = "pylibjpeg-libjpeg", "pylibjpeg" in decoder.available_plugins
    if not available:
        raise ReadError(f"missing_decoder: {syntax.name} ({syntax}) needs: pip install {package}")


def decode(stream: BinaryIO, path: Path, syntax: UID, index: int, gdcm: Gdcm) -> np.ndarray:
    """The stored values [H, W] or [H, W, 3] of frame `index`, by the first decoder that can. GDCM comes last, in a process of its own.

    Raises ReadError undecodable, or what the decoder raises.
    """
    if not syntax.is_encapsulated:
        return pixel_array(stream, index=index, transfer_syntax_uid=syntax)
    available = get_decoder(syntax).available_plugins
    for plugin in (name for name in _ORDER if name in available and name != "gdcm"):
        with contextlib.suppress(Exception):
            return pixel_array(stream, index=index, decoding_plugin=plugin)
    if "gdcm" in available:
        return gdcm.decode(path, index)
    raise ReadError(f"undecodable: {syntax.name} cannot be decoded")
