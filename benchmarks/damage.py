"""Damage inside compressed pictures that can be decoded all the same: how much of it `prepare` notices.

    python benchmarks/damage.py [--each 50] [--seed 0]

One picture, as JPEG and as DICOM in seven ways of compression, is damaged in five ways, each `--each` times at random places. A damaged
picture is refused (it cannot be decoded), suspect (its decoder notices the damage), or taken for a good one. Of the last kind those count
as unnoticed in which more than 1 in 100 pixels is wrong; in the others the damage has changed next to nothing.
"""

import argparse
import io
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import gdcm
import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medssl.config import Data, Limits
from medssl.data.decode import ImagePreparer
from medssl.data.workers import run_in_workers
from medssl.errors import ReadError
from medssl.types import Record

EDGE = 256
LIMITS = Limits(seconds=20)
HEADER = 0.25  # of the compressed bytes: tables and markers, in which damage is refused; what lies behind them is damaged here


class Seed(NamedTuple):
    """A good file: its reader, its bytes, and where in these the compressed picture lies."""

    name: str
    reader: str
    content: bytes
    start: int
    end: int


class Outcome(NamedTuple):
    """What became of one damaged file: "refused", "suspect", "unnoticed" or "unchanged", and the share of its pixels that are wrong."""

    name: str
    damage: str
    kind: str
    wrong: float


def picture(bits: int) -> np.ndarray:
    """uint8 or uint16 [256, 256], smooth with some noise, as radiographs are."""
    draw = np.random.default_rng(0)
    smooth = Image.fromarray(draw.uniform(0, 1, (16, 16)).astype(np.float32)).resize((EDGE, EDGE), Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(smooth) + draw.normal(0, 0.01, (EDGE, EDGE)), 0, 1)
    return (noisy * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def picture_file(form: str) -> bytes:
    """The picture of 8 bits in one of Pillow's formats."""
    file = io.BytesIO()
    Image.fromarray(picture(8)).save(file, form, quality=90)  # lossless in JPEG 2000
    return file.getvalue()


def dicom(bits: int, syntax: UID) -> bytes:
    """The picture as a radiograph in that transfer syntax."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = ComputedRadiographyImageStorage, "1.2.3", "CR"
    header.PatientID, header.StudyInstanceUID = "1", "1.2"
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows = header.Columns = EDGE
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8 if bits <= 8 else 16, bits, bits - 1, 0
    header.PixelData = picture(bits).tobytes()
    header["PixelData"].VR = "OB" if bits <= 8 else "OW"
    if syntax == JPEGBaseline8Bit:
        header.file_meta.TransferSyntaxUID, header.PixelData = syntax, encapsulate([picture_file("JPEG")])
        header["PixelData"].is_undefined_length = True
    elif syntax != JPEGLosslessSV1:
        header.compress(syntax, generate_instance_uid=False)
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return _to_jpeg_lossless(file.getvalue()) if syntax == JPEGLosslessSV1 else file.getvalue()


def _to_jpeg_lossless(whole: bytes) -> bytes:
    """pydicom has no encoder for JPEG lossless; GDCM has."""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder, "plain.dcm"), Path(folder, "packed.dcm")
        plain.write_bytes(whole)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(packed))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return packed.read_bytes()


def seeds() -> Iterator[Seed]:
    """A JPEG and a JPEG 2000 file, and the same picture in DICOM files."""
    for name, form in (("JPEG file", "JPEG"), ("JPEG 2000 file", "JPEG2000")):
        yield Seed(name, "raster", whole := picture_file(form), 0, len(whole))
    for name, bits, syntax in (
        ("DICOM, JPEG baseline, 8 bits", 8, JPEGBaseline8Bit),
        ("DICOM, JPEG lossless, 8 bits", 8, JPEGLosslessSV1),
        ("DICOM, JPEG lossless, 12 bits", 12, JPEGLosslessSV1),
        ("DICOM, JPEG-LS, 12 bits", 12, JPEGLSLossless),
        ("DICOM, RLE, 8 bits", 8, RLELossless),
        ("DICOM, RLE, 12 bits", 12, RLELossless),
        ("DICOM, JPEG 2000, 12 bits", 12, JPEG2000Lossless),
    ):
        whole = dicom(bits, syntax)
        frame = get_frame(dcmread(io.BytesIO(whole)).PixelData, 0, number_of_frames=1)
        start = whole.index(frame)
        yield Seed(name, "dicom", whole, start, start + len(frame))


def _flip(data: bytearray, first: int, end: int, dice: random.Random, bits: int) -> None:
    for _ in range(bits):
        data[dice.randrange(first, end - 2)] ^= 1 << dice.randrange(8)


def _zeros(data: bytearray, first: int, end: int, dice: random.Random) -> None:
    length = (end - first) // 8
    at = dice.randrange(first, end - length - 2)
    data[at : at + length] = bytes(length)


def _early_end(data: bytearray, first: int, end: int, dice: random.Random) -> None:
    """The rest is zeros, as in a file whose transfer broke off; a JPEG file ends there with its end marker, as some programs mend it."""
    at = dice.randrange(first, end - 2)
    if end == len(data):
        data[at:] = b"\xff\xd9"
    else:
        data[at:end] = bytes(end - at)


DAMAGES: dict[str, Callable[[bytearray, int, int, random.Random], None]] = {
    "1 bit": lambda *where: _flip(*where, bits=1),
    "5 bits": lambda *where: _flip(*where, bits=5),
    "50 bits": lambda *where: _flip(*where, bits=50),
    "zeros": _zeros,
    "early end": _early_end,
}


def damaged(seed: Seed, damage: str, dice: random.Random) -> bytes:
    """The file with one damage behind the first quarter of the compressed picture."""
    data = bytearray(seed.content)
    DAMAGES[damage](data, seed.start + int(HEADER * (seed.end - seed.start)), seed.end, dice)
    return bytes(data)


def measure(folder: Path, each: int, start: int) -> Iterator[Outcome]:
    """Damages every seed in every way `each` times, and reads what has become of it."""
    told, records, good = [], [], {}
    for seed in seeds():
        for number, damage in enumerate(["", *(damage for damage in DAMAGES for _ in range(each))]):
            file = folder / f"{len(records):06}"
            dice = random.Random(f"{start} {seed.name} {number}")  # noqa: S311 - the same damage every time
            file.write_bytes(damaged(seed, damage, dice) if damage else seed.content)
            told.append((seed.name, damage))
            records.append(Record(file.name, seed.reader))
    data = Data(size=EDGE, window="none", limits=LIMITS)
    for (name, damage), result in zip(told, run_in_workers(ImagePreparer, (folder, data), records, LIMITS), strict=True):
        if not damage:
            assert not isinstance(result, ReadError) and not result.suspect, f"{name}: the good file is refused or suspect"
            good[name] = result.image / np.iinfo(result.image.dtype).max
        elif isinstance(result, ReadError):
            yield Outcome(name, damage, "refused", 0)
        else:
            wrong = float((np.abs(result.image / np.iinfo(result.image.dtype).max - good[name]) > 0.01).mean())
            yield Outcome(name, damage, "suspect" if result.suspect else "unnoticed" if wrong > 0.01 else "unchanged", wrong)


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """A row for each format: of the pictures that the damage has changed, the share that was refused or suspect, by damage."""
    found: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for outcome in outcomes:
        found[outcome.name][outcome.damage][outcome.kind] += 1
    yield f"| format | {' | '.join(DAMAGES)} |"
    yield "|---|" + "---|" * len(DAMAGES)
    for name, damages in found.items():
        yield f"| {name} | {' | '.join(_cell(damages[damage]) for damage in DAMAGES)} |"
    total = Counter(outcome.kind for outcome in outcomes)
    yield ""
    yield f"{total['refused'] + total['suspect']} of {total.total() - total['unchanged']} damaged pictures were noticed."


def _cell(kinds: Counter[str]) -> str:
    noticed = kinds["refused"] + kinds["suspect"]
    return f"{noticed} of {noticed + kinds['unnoticed']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(*table(list(measure(Path(folder), given.each, given.seed))), sep="\n")


if __name__ == "__main__":
    main()
