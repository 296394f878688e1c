"""Faulty files among many good ones: whether `prepare` finds each of them, for the right reason, and leaves out no good one.

    python benchmarks/faulty.py [--files 10000] [--folder FOLDER]

Three folders, of DICOM, NIfTI and raster files, of which 1 in 100 is faulty in one of 23 ways (each way at least once). What is
planted is compared with the operator's list that `prepare` writes.
"""

import argparse
import csv
import gzip
import io
import os
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless

from medssl import plugins
from medssl.config import Data
from medssl.data.prepare import prepare
from medssl.data.store import private_list

EDGE = 32
SHARE = {"dicom": 0.4, "nifti": 0.2, "folder": 0.4}  # of the files, by source


class Fault(NamedTuple):
    """One way to be faulty: the code that `prepare` should give, and the file's content from a good one's; None for a pipe."""

    reason: str
    suffix: str
    content: Callable[[], bytes | None]


class Found(NamedTuple):
    """What one folder's preparation came to: planted and listed files as {locator: (kind, expected reason)} and {locator: reason}."""

    source: str
    files: int
    planted: dict[str, tuple[str, str]]
    listed: dict[str, str]
    used: int
    seconds: float

    @property
    def false_alarms(self) -> list[str]:
        """Good files that were left out."""
        return sorted(self.listed.keys() - self.planted.keys())

    @property
    def missed(self) -> list[str]:
        """Faulty files that were taken for good ones."""
        return sorted(self.planted.keys() - self.listed.keys())

    @property
    def misnamed(self) -> list[str]:
        """Faulty files that were found for another reason than theirs, each with both."""
        both = {file: (*self.planted[file], self.listed[file]) for file in self.planted.keys() & self.listed.keys()}
        return [f"{kind}: {said}, not {reason}" for kind, reason, said in both.values() if said != reason]


def pixels(number: int) -> np.ndarray:
    """uint8 [32, 32], another picture for every number."""
    return np.random.default_rng(number).integers(0, 256, (EDGE, EDGE), np.uint8)


@cache
def dicom(compressed: bool = False) -> bytes:
    """A radiograph of 8 bits."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = ComputedRadiographyImageStorage, "1.2.3", "CR"
    header.PatientID, header.StudyInstanceUID = "10000000", "1.2.10000000"
    header.SamplesPerPixel, header.PhotometricInterpretation, header.NumberOfFrames = 1, "MONOCHROME2", "01"
    header.Rows = header.Columns = EDGE
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    header.RescaleIntercept, header.RescaleSlope = "0", "1 "
    header.PixelData = pixels(0).tobytes()
    header["PixelData"].VR = "OB"
    if compressed:
        header.compress(JPEG2000Lossless, generate_instance_uid=False)
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def dicom_of(number: int) -> bytes:
    """The radiograph with a patient and pixels of its own."""
    whole = dicom()
    named = whole.replace(b"10000000", str(10_000_000 + number).encode())
    return named[: -EDGE * EDGE] + pixels(number).tobytes()


def deflated_bomb() -> bytes:
    """300 MB of zeros behind the file meta of a deflated data set."""
    whole = dicom()
    meta = whole[132 : whole.index(b"\x08\x00\x16\x00UI")]
    old, new = (uid.encode() + b"\0" * (len(uid) % 2) for uid in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian))
    meta = meta.replace(b"UI" + len(old).to_bytes(2, "little") + old, b"UI" + len(new).to_bytes(2, "little") + new)
    packer = zlib.compressobj(wbits=-15)
    return bytes(128) + b"DICM" + meta + b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()


def without(whole: bytes, tag: bytes) -> bytes:
    """A DICOM file without one element of two bytes."""
    at = whole.index(tag)
    return whole[:at] + whole[at + 10 :]


def damaged_codestream() -> bytes:
    """JPEG 2000 whose coding style (the marker COD and what follows it in the main header) is overwritten."""
    whole = dicom(compressed=True)
    at = whole.index(b"\xff\x52")
    return whole[:at] + b"\xaa" * 40 + whole[at + 40 :]


def with_zeros(whole: bytes, start: bytes) -> bytes:
    """200 bytes of zeros in the compressed data behind a marker. Decoders read on, and the picture is wrong from there."""
    at = whole.index(start) + 100
    return whole[:at] + bytes(200) + whole[at + 200 :]


def nifti(number: int = 0, values: np.ndarray | None = None) -> bytes:
    """A volume of 16 x 16 x 3 voxels."""
    voxels = np.random.default_rng(number).integers(0, 2000, (16, 16, 3), np.int16) if values is None else values
    return nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes()  # pyright: ignore[reportPrivateImportUsage]


def nifti_changed(at: int, new: bytes) -> bytes:
    whole = nifti()
    return whole[:at] + new + whole[at + len(new) :]


def with_nan() -> bytes:
    values = np.random.default_rng(0).normal(size=(16, 16, 3)).astype(np.float32)
    values[3, 4, 1] = np.nan
    return nifti(values=values)


def gzip_flipped() -> bytes:
    """One bit of the checksum is wrong."""
    packed = bytearray(gzip.compress(nifti(), mtime=0))
    packed[-6] ^= 1
    return bytes(packed)


def picture(form: str, number: int = 0) -> bytes:
    """The picture as PNG, JPEG or TIFF."""
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, form)
    return file.getvalue()


def png(edge: int, rows: int) -> bytes:
    """A grey PNG that claims `edge` rows and columns and holds `rows` of them, with right checksums."""
    header = edge.to_bytes(4, "big") * 2 + bytes((8, 0, 0, 0, 0))
    body = zlib.compress(bytes(rows * (edge + 1)))
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big") for kind, content in chunks
    )


def half(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


FAULTS = {
    "dicom": {
        "pixels cut short": Fault("truncated_pixels", ".dcm", lambda: dicom()[:-10]),
        "JPEG 2000 stream damaged": Fault("undecodable", ".dcm", damaged_codestream),
        "JPEG 2000 stream with zeros": Fault("suspect", ".dcm", lambda: with_zeros(dicom(compressed=True), b"\xff\x93")),
        "no Rows": Fault("bad_header", ".dcm", lambda: without(dicom(), b"\x28\x00\x10\x00US")),
        "NumberOfFrames is no number": Fault("bad_header", ".dcm", lambda: dicom().replace(b"IS\x02\x0001", b"IS\x02\x001A")),
        "slope of zero": Fault("constant", ".dcm", lambda: dicom().replace(b"DS\x02\x001 ", b"DS\x02\x000 ")),
        "deflated bomb": Fault("deflated_too_big", ".dcm", cache(deflated_bomb)),
        "text named .dcm": Fault("not_dicom", ".dcm", lambda: b"a radiograph was here\n" * 20),
    },
    "nifti": {
        "header bigger than the file": Fault(
            "header_bigger_than_file", ".nii", lambda: nifti_changed(40, np.array([3, 1000, 1000, 1000], "<i2").tobytes())
        ),
        "gzip cut in half": Fault("truncated", ".nii.gz", lambda: half(gzip.compress(nifti(), mtime=0))),
        "gzip with a flipped bit": Fault("crc", ".nii.gz", gzip_flipped),
        "NaN": Fault("non_finite", ".nii", with_nan),
        "one value": Fault("constant", ".nii", lambda: nifti(values=np.full((16, 16, 3), 7, np.int16))),
        "no voxels": Fault("bad_header", ".nii", lambda: nifti_changed(42, bytes(2))),
    },
    "folder": {
        "empty": Fault("empty", ".png", lambda: b""),
        "half a PNG": Fault("truncated", ".png", lambda: half(picture("PNG"))),
        "half a JPEG": Fault("truncated", ".jpg", lambda: half(picture("JPEG"))),
        "JPEG with an early end": Fault("suspect", ".jpg", lambda: half(picture("JPEG")) + b"\xff\xd9"),
        "JPEG with zeros": Fault("suspect", ".jpg", lambda: with_zeros(picture("JPEG"), b"\xff\xda")),
        "text named .png": Fault("not_an_image", ".png", lambda: b"a radiograph was here\n" * 20),
        "PNG with 10 of 64 rows": Fault("short_data", ".png", lambda: png(64, 10)),
        "PNG of 144 million pixels": Fault("too_many_pixels", ".png", cache(lambda: png(12_000, 12_000))),
        "a pipe": Fault("not_a_file", ".png", lambda: None),
    },
}
GOOD: dict[str, Callable[[int], tuple[str, bytes]]] = {
    "dicom": lambda number: (".dcm", dicom_of(number)),
    "nifti": lambda number: (".nii", nifti(number)) if number % 2 else (".nii.gz", gzip.compress(nifti(number), 1)),
    "folder": lambda number: ((".png", picture("PNG", number)), (".jpg", picture("JPEG", number)), (".tif", picture("TIFF", number)))[
        number % 3
    ],
}


def make(folder: Path, source: str, files: int, each: int) -> dict[str, tuple[str, str]]:
    """Writes `files` files, among them `each` of every fault at random places; {name: (fault, its reason)}."""
    folder.mkdir(parents=True)
    kinds = [name for name in FAULTS[source] for _ in range(each)]
    places = dict(zip(np.random.default_rng(0).choice(files, len(kinds), replace=False).tolist(), kinds, strict=True))
    planted = {}
    for number in range(files):
        if kind := places.get(number):
            fault = FAULTS[source][kind]
            suffix, content = fault.suffix, fault.content()
            planted[f"{number:06}{suffix}"] = kind, fault.reason
        else:
            suffix, content = GOOD[source](number)
        file = folder / f"{number:06}{suffix}"
        os.mkfifo(file) if content is None else file.write_bytes(content)
    return planted


def measure(folder: Path, files: int) -> Iterator[Found]:
    """Makes the three folders below `folder`, prepares each, and compares."""
    each = max(1, files // 100 // sum(map(len, FAULTS.values())))
    for source, share in SHARE.items():
        number = round(files * share)
        planted = make(folder / source, source, number, each)
        began = time.monotonic()
        settings = Data.model_validate({"path": str(folder / source), "source": source, "size": EDGE, "max_bad_fraction": 1})
        records = plugins.find("data.sources", source).build(settings.source, settings.path)
        store = prepare(records, settings, folder / "cache")
        with private_list(folder / "cache", store.card["fingerprint"]).open(newline="") as table:
            listed = {row["file"]: row["reason"] for row in csv.DictReader(table)}
        yield Found(source, number, planted, listed, len(store.images), time.monotonic() - began)


def table(found: list[Found]) -> Iterator[str]:
    """What was found, fault by fault, and the sums."""
    for one in found:
        for kind, fault in FAULTS[one.source].items():
            files = [file for file, (planted, _) in one.planted.items() if planted == kind]
            said = Counter(one.listed[file] for file in files if file in one.listed)
            reasons = ", ".join(f"{number} {reason}" for reason, number in said.items())
            yield f"{one.source:7} {kind:28} {said.total()} of {len(files)} found; {reasons} (expected {fault.reason})"
    planted, missed, false = (sum(map(len, sets)) for sets in zip(*((f.planted, f.missed, f.false_alarms) for f in found), strict=True))
    yield f"{sum(f.files for f in found)} files in {sum(f.seconds for f in found):.0f} s ({', '.join(_rate(f) for f in found)})"
    misnamed = sum(len(one.misnamed) for one in found)
    yield f"{planted - missed} of {planted} faulty files found, {misnamed} for another reason, {false} false positives"


def _rate(found: Found) -> str:
    return f"{found.source} {found.files / found.seconds:.0f} a second"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where to make them  [default: a temporary folder]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = list(measure(given.folder or Path(temporary), given.files))
    print(*table(found), sep="\n")
    if any(one.missed or one.misnamed or one.false_alarms for one in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
