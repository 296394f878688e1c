"""Which DICOM transfer syntaxes can be decoded on this machine, by the same function that the DICOM reader uses."""

from collections.abc import Iterator

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder

from medssl.data.dicom import decoders
from medssl.doctor.check_result import CheckResult, make_result
from medssl.errors import ReadError

_SYNTAXES = {
    "JPEG": (uid.JPEGBaseline8Bit,),
    "JPEG 12 bit": (uid.JPEGExtended12Bit,),
    "JPEG lossless": (uid.JPEGLossless, uid.JPEGLosslessSV1),
    "JPEG-LS": tuple(uid.JPEGLSTransferSyntaxes),
    "JPEG 2000": (uid.JPEG2000Lossless, uid.JPEG2000),
    "HTJ2K": (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K),
    "RLE": (uid.RLELossless,),
    "uncompressed": tuple(uid.UncompressedTransferSyntaxes),
}
_GPL = "the reader for these files is under the GPL, so medssl does not bring it"


def check() -> Iterator[CheckResult]:
    """One result for each family of transfer syntaxes."""
    for name, syntaxes in _SYNTAXES.items():
        yield decoder(name, syntaxes)


def decoder(name: str, syntaxes: tuple[uid.UID, ...]) -> CheckResult:
    """ok if all of `syntaxes` can be decoded, else an error; for 12-bit JPEG a warning, as no decoder comes with medssl."""
    header = Dataset()
    header.BitsStored = 12
    missing = []
    for syntax in syntaxes:
        try:
            decoders.check_decoder(header, syntax)
        except ReadError as error:
            missing.append(error.detail)
    if not missing:
        by = sorted({plugin for syntax in syntaxes for plugin in get_decoder(syntax).available_plugins})
        return make_result(name, f"decoded by {', '.join(by) or 'pydicom'}")
    if syntaxes == (uid.JPEGExtended12Bit,):
        return make_result(name, "no decoder", warning=f"Only if you have such files: pip install pylibjpeg-libjpeg ({_GPL}).")
    return make_result(name, "no decoder", error=f"{missing[0]}. Or leave such files out: --set data.missing_decoder=skip.")
