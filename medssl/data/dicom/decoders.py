"""Which installed decoder decodes a compressed frame, and which package to install where none does."""

import contextlib
from typing import BinaryIO, NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit

from medssl.data import damage
from medssl.data.dicom import codestream
from medssl.errors import ReadError

_PLUGIN_ORDER = ("pydicom", "pylibjpeg", "pyjpegls", "pillow", "gdcm")
# Transfer syntaxes whose frames may hold other colours than the header states
JPEG_COLOURS = (JPEGBaseline8Bit, JPEGExtended12Bit)
_PACKAGES = {"4.5": "python-gdcm", "4.7": "python-gdcm", "4.8": "pyjpegls", "4.9": "pylibjpeg-openjpeg", "4.2": "pylibjpeg-openjpeg"}


class Pixels(NamedTuple):
    """The element that holds the pixels of a file: its keyword, its VR ("" where the file states none), and where its value starts."""

    keyword: str
    vr: str
    start: int


def syntax_name(syntax: UID) -> str:
    """The transfer syntax by its name in the standard. Any other text in that element may be private and is not repeated."""
    return syntax.name if syntax.name != str(syntax) else "an unknown transfer syntax"


def check_decoder(header: Dataset, syntax: UID) -> None:
    """Raises ReadError missing_decoder, with the package to install, where no installed decoder reads the transfer syntax; undecodable
    where pydicom knows no decoder at all."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ReadError(f"undecodable: pydicom knows no decoder for {syntax_name(syntax)}") from None
    package = _PACKAGES.get(str(syntax).removeprefix("1.2.840.10008.1.2.")[:3], "pylibjpeg")
    available = decoder.is_available
    if syntax == JPEGExtended12Bit and (header.get("BitsStored") or 0) > 8:  # GDCM and Pillow claim to decode it, but read 8 bits only
        package, available = "pylibjpeg-libjpeg", "pylibjpeg" in decoder.available_plugins
    if not available:
        raise ReadError(f"missing_decoder: {syntax.name} ({syntax}) needs: pip install {package}")


def decode(stream: BinaryIO, header: Dataset, syntax: UID, pixels: Pixels, index: int) -> tuple[np.ndarray, str]:
    """The stored values [H, W] or [H, W, 3] of frame `index`, by the first decoder that succeeds; and a sign of damage, or "".

    The values equal pydicom's `pixel_array(path, index=index)`, which would read the header once more. GDCM is tried last: some damaged
    frames make GDCM end the whole process, which only the worker processes survive (reason `crashed`). Raises ReadError undecodable for
    compressed frames, and what pydicom raises for others.
    """
    decoder = get_decoder(syntax)
    options = as_pixel_options(header, transfer_syntax_uid=syntax, pixel_keyword=pixels.keyword, pixel_vr=pixels.vr)
    if syntax in JPEG_COLOURS and header.PhotometricInterpretation == "RGB":
        frame = codestream.read_frame(stream, pixels.start, header, index)
        if codestream.colour_model(frame) == "YBR" and not codestream.has_adobe_marker(frame):  # pydicom obeys Adobe's marker itself
            options["photometric_interpretation"] = "YBR_FULL_422"
    if not syntax.is_encapsulated:
        stream.seek(pixels.start)
        return decoder.as_array(stream, index=index, **options)[0], ""
    for plugin in (name for name in _PLUGIN_ORDER if name in decoder.available_plugins):
        with contextlib.suppress(Exception):
            with damage.heard() as signs:
                stream.seek(pixels.start)
                stored = decoder.as_array(stream, index=index, decoding_plugin=plugin, **options)[0]
            frame = codestream.read_frame(stream, pixels.start, header, index)
            return stored, "; ".join(signs) or damage.sign_in_stream(frame) or (damage.sign_in_jpeg(frame) if plugin == "pillow" else "")
    raise ReadError(f"undecodable: {syntax.name} cannot be decoded")
