"""Signs of damage that a decoder notices in a compressed picture and decodes all the same: libjpeg fills what is missing with grey, and
only writes a line to the standard error of the process.

Pillow silences libjpeg. So a JPEG is unpacked once more by OpenCV, at an eighth of its size, which reads every compressed byte. No decoder
notices a changed bit after which the stream can still be read to its end: of JPEG 2000 that is nearly every one.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# libjpeg's warnings of damaged data (jerror.h). Others, as of unknown revisions and colour profiles, are of no consequence
_LIBJPEG = re.compile(rb"Corrupt JPEG data: (?!bad ICC)[^\n]*|Premature end of JPEG[^\n]*|Inconsistent progression[^\n]*")
_LENGTHS = re.compile(r"non-conformant padding - \d+ vs\. \d+ bytes")  # pydicom, of a run-length encoded segment that is too long
_END, _TAIL = b"\xff\xd9", 256  # EOI of JPEG, EOC of JPEG 2000: compressed data never hold it. Some bytes may follow
_ZEROS = 64
_listening: list[int] = []  # the end of the pipe into which decoders write


def listen() -> None:
    """From now on this process reads what decoders write to its standard error. For processes whose standard error is nobody else's."""
    ours, theirs = os.pipe()
    for end in (ours, theirs):
        os.set_blocking(end, False)  # what does not fit into the pipe is lost, and no decoder waits
    os.dup2(theirs, 2)
    os.close(theirs)
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - open as long as the process
    _listening.append(ours)


@contextmanager
def heard() -> Iterator[list[str]]:
    """A list that has, after the block, what decoders said within it of damaged data. In a process that does not `listen`, only what they
    say as Python warnings."""
    signs: list[str] = []
    _drain()
    with warnings.catch_warnings(record=True, action="always") as said:
        yield signs
    signs += [found[0] for warning in said if (found := _LENGTHS.search(str(warning.message)))]
    signs += [found.decode("ascii", "replace").strip() for found in _LIBJPEG.findall(_drain())]


def sign_in_jpeg(content: bytes) -> str:
    """What libjpeg says of the compressed data of a JPEG; "" for nothing, and in a process that does not `listen`."""
    if not _listening:
        return ""
    try:
        import cv2
        import numpy as np
    except ImportError:  # too little memory is left for it
        return ""
    with heard() as signs:
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    return "; ".join(signs)


def sign_in_stream(content: bytes) -> str:
    """What the bytes of a JPEG, JPEG-LS or JPEG 2000 show by themselves: no end, or zeros in the place of compressed data, as a storage
    system or a broken transfer leaves them. Decoders take them for pixels. "" for a whole stream, and for other formats."""
    body = content.rstrip(b"\0")
    if content.startswith(b"\xff\xd8"):
        return "" if _END in body[-_TAIL:] else "the compressed data have no end marker"
    if content.find(b"\xff\x4f\xff\x51", 0, 4096) < 0:  # JPEG 2000: SOC and SIZ, ITU-T T.800 A.5.1
        return ""
    if bytes(_ZEROS) in body[body.find(b"\xff\x93") :]:  # SOD: from here on the stream is arithmetically coded, without long runs
        return "zeros stand where compressed data should"
    position = content.find(b"\xff\x90\0\x0a")  # SOT, the first tile part, A.4.2
    while content[position : position + 2] == b"\xff\x90" and (length := int.from_bytes(content[position + 6 : position + 10], "big")):
        position += length
    complete = _END in body[-_TAIL:] or len(content) - len(body) < _ZEROS  # some encoders write no end marker
    return "" if complete and position <= len(content) else "a tile of the compressed data has no end"


def _drain() -> bytes:
    """What has been written since the last call."""
    written = b""
    while _listening:
        try:
            written += os.read(_listening[0], 2**16)
        except BlockingIOError:
            break
    return written
