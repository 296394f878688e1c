"""docs/reference/dicom_files.md: what becomes of every DICOM file of ../shared/data, against the digests of pydicom's arrays
(expected_dicom.csv).

`pytest --write-docs` writes the page.
"""

import csv
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from medssl.config import Limits
from medssl.data.dicom.header import HeaderReader
from medssl.data.dicom.selection import Selection
from medssl.data.readers import dicom
from medssl.errors import ReadError

READER = dicom.build(dicom.Config())
# What is no picture, or cannot be decoded without a GPL package: by hand, from what the files are
LEFT_OUT = {
    "odd/DICOMDIR": "no_pixels",
    "odd/dwv-test_no-number-rows.dcm": "no_pixels",
    "pydicom-data/JPEG-LL.dcm": "not_primary",
    "pydicom-data/eCT_Supplemental.dcm": "not_primary",
    "pydicom-data/liver.dcm": "not_an_image",
    "pydicom-data/liver_deflate.dcm": "not_an_image",
    "pydicom-data/liver_nonbyte_aligned_j2k.dcm": "not_an_image",
    "pydicom-data/liver_rle.dcm": "not_an_image",
    "tiny-ct-23x38x3/seg/label.seg": "not_an_image",
    "tiny-ct-23x38x3/image/IMG0001.dcm": "empty_slice",
    "tiny-ct-23x38x3/image/IMG0003.dcm": "empty_slice",
    "wg04/MR1_JPLY": "missing_decoder",
}
# Files of which pydicom's whole-file reading makes nothing, and the file that holds the same picture
TWINS = {
    "chest/CR-MONO1-10-chest_noheader": "chest/CR-MONO1-10-chest.dcm",
    "pydicom-data/emri_small_jpeg_2k_lossless_too_short.dcm": "pydicom-data/emri_small.dcm",
}
# Lossy JPEG: the digest is that of libjpeg's inverse DCT (GPL-3), which is not installed. Pillow and GDCM agree bit for bit.
OTHER_DCT = "odd/jpeg_baseline_8bit.dcm"


@dataclass(frozen=True)
class Outcome:
    """`row`: of expected_dicom.csv. `left_out`: reason codes of frames, none for one that is read."""

    row: dict[str, str]
    left_out: tuple[str, ...]
    detail: str
    note: str

    @property
    def file(self) -> str:
        return self.row["path"].removeprefix("dicom/")


@pytest.fixture(scope="module")
def outcomes(shared_data: Path) -> list[Outcome]:
    with (shared_data / "expected_dicom.csv").open(newline="") as file:
        return [outcome(row, shared_data) for row in csv.DictReader(file)]


def outcome(row: dict[str, str], root: Path) -> Outcome:
    """As `medssl prepare` goes: the header is listed, then each frame is read."""
    try:
        frames = len(HeaderReader(root, Limits(), Selection())(row["path"]).planes)
    except ReadError as error:
        return Outcome(row, (error.reason,) * int(row["frames"] or 1), error.detail, "" if "pixels" in error.reason else note(row, root))
    reasons, detail = [], ""
    for index in range(frames):
        try:
            READER.read(root / row["path"], index)
            reasons.append("")
        except ReadError as error:
            reasons.append(error.reason)
            detail = error.detail
    return Outcome(row, tuple(reasons), detail, note(row, root))


def note(row: dict[str, str], root: Path) -> str:
    """How the stored numbers compare with what pydicom reads; "" where the reader refuses the file."""
    file = row["path"].removeprefix("dicom/")
    try:
        stored = numbers(root / row["path"], int(row["frames"] or 1))
        if file in TWINS:
            same = np.array_equal(stored, numbers(root / "dicom" / TWINS[file], int(row["frames"] or 1)))
            return f"pixels equal those of {TWINS[file]}" if same else "pixels differ"
    except ReadError:
        return ""
    assert stored.dtype == row["dtype"]
    assert "x".join(map(str, stored.shape)) == row["shape"]
    if hashlib.md5(np.ascontiguousarray(stored).tobytes(), usedforsecurity=False).hexdigest() == row["md5"]:
        return "pixels equal pydicom's"
    if file == OTHER_DCT:
        other = pixel_array(root / row["path"], decoding_plugin="gdcm")
        difference = int(np.abs(stored.astype(int) - other).max())
        return f"lossy: largest difference to GDCM {difference}; pydicom's digest is that of libjpeg, another inverse DCT"
    return "pixels differ"


def numbers(path: Path, frames: int) -> np.ndarray:
    """As pydicom's `pixel_array` shapes them, in the byte order of this machine."""
    stored = np.stack([READER.stored(path, index) for index in range(frames)])
    return stored if frames > 1 else stored[0]


def page(outcomes: list[Outcome]) -> str:
    """The page, as Markdown."""
    counts = Counter("read" if not any(o.left_out) else "left out" if all(o.left_out) else "read in part" for o in outcomes)
    lines = [
        "---\nhide: [toc]\n---\n\n# Decoding of 90 DICOM files",
        "",
        "medssl was tested with 90 real DICOM files of many kinds. This table says for each file whether medssl reads it, or why it is "
        "left out. The stored numbers of each frame, before any window, are compared with the digest of pydicom's array in "
        "`expected_dicom.csv`. The decoders are those that `pip install medssl` installs, without decoders under the GPL.",
        "",
        "The table is generated by `pytest tests/data/readers/test_dicom_files.py --write-docs`. The files and their sources are in "
        "`shared/data/README.md`.",
        "",
        f"{len(outcomes)} files: " + ", ".join(f"{number} {what}" for what, number in counts.most_common()) + ".",
        "",
        "| file | transfer syntax | modality | photometric | frames | bits | outcome | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(line, outcomes)]) + "\n"


def line(o: Outcome) -> str:
    codes, frames = Counter(filter(None, o.left_out)), len(o.left_out)
    result = ", ".join(f"left out: {code}" for code in codes) or "read"
    result = result if codes.total() in (0, frames) else f"{frames - codes.total()} of {frames} frames read; {result}"
    syntax = UID(o.row["transfer_syntax"]).name if o.row["transfer_syntax"] else "none stated"
    bits = o.row["bits"].strip("/").replace("/", " allocated, ") + " stored" * o.row["bits"][-1:].isdigit()
    cells = [o.file, syntax, o.row["modality"], o.row["photometric"], str(frames), bits, result]
    return "| " + " | ".join([*cells, "; ".join(filter(None, (o.detail, o.note)))]) + " |"


def test_every_file_is_read_or_left_out_for_the_right_reason(outcomes: list[Outcome]) -> None:
    assert len(outcomes) == 90
    assert {o.file: o.left_out[0] for o in outcomes if all(o.left_out)} == LEFT_OUT
    assert {o.file: o.left_out for o in outcomes if any(o.left_out) and not all(o.left_out)} == {
        "tiny-ct-23x38x3/multiframe/mf.dcm": ("empty_slice", "", "empty_slice")
    }


def test_every_decoded_number_is_the_one_that_pydicom_reads(outcomes: list[Outcome]) -> None:
    """Files left out for what they show are compared too, all but masks and what has no pixels."""
    others = {o.file: o.note for o in outcomes if o.note != "pixels equal pydicom's"}
    assert others.pop(OTHER_DCT).startswith("lossy: largest difference to GDCM 0;")
    assert {others.pop(file) for file in TWINS} == {f"pixels equal those of {twin}" for twin in TWINS.values()}
    assert others == {file: "" for file, reason in LEFT_OUT.items() if reason in ("no_pixels", "not_an_image", "missing_decoder")}


def test_the_page_says_what_happens(outcomes: list[Outcome], repository: Path, request: pytest.FixtureRequest) -> None:
    file = repository / "docs/reference/dicom_files.md"
    if request.config.getoption("--write-docs"):
        file.write_text(page(outcomes), "utf-8")
    assert file.read_text("utf-8") == page(outcomes), "run pytest tests/data/readers/test_dicom_files.py --write-docs"
