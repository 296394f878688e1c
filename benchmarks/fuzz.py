"""Mutated files through the readers and the listings: none may end or hang the program, take its memory, or raise what nobody expected.

    python benchmarks/fuzz.py [--files 10000] [--seed 0] [--keep FOLDER]

Small good files of every format (made here, pydicom's own, and those of ../shared/data where they are there) are damaged, the same way
for the same seed, and read as `prepare` reads them, within 5 seconds and 1 GiB each. An exception that the readers do not turn into a
reason of their own ("failed") is a fault of theirs; a decoder that ends its process ("crashed") costs its file only, and is told.
"""

import argparse
import gzip
import io
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pydicom.data
from PIL import Image

from medssl import plugins
from medssl.config import Data, Limits
from medssl.data.decode import ImagePreparer
from medssl.data.workers import pool, run_in_workers
from medssl.errors import ReadError
from medssl.types import Record

SHARED = Path(__file__).resolve().parents[2] / "shared/data"
LIMITS = Limits(seconds=5, memory_bytes=2**30)
DATA = Data(size=64, limits=LIMITS)
UNEXPECTED = ("failed", "crashed", "timed_out", "too_much_memory")
SMALL = {"limits": LIMITS.model_dump()}
SOURCES = {"dicom": "dicom", "nifti": "nifti", "raster": "folder"}  # of each reader's files
_LARGEST = 200_000
_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# Where formats keep sizes, counts and offsets: behind a pattern, so many bytes on
_FIELDS = {
    "dicom": [(bytes((0x28, 0, low, 0)) + vr, 8) for low, vr in (
        (0x02, b"US"), (0x08, b"IS"), (0x10, b"US"), (0x11, b"US"), (0x00, b"US"), (0x01, b"US"), (0x02, b""), (0x03, b"US"))]
    + [(b"\xe0\x7f\x10\x00", 4), (b"\xe0\x7f\x10\x00", 8), (b"\xfe\xff\x00\xe0", 4), (b"\xff\x51", 4), (b"\xff\x51", 8), (b"\xff\xc0", 5),
       (b"\xff\xf7", 5)],
    "nifti": [(b"", at) for at in (0, 40, 42, 44, 46, 48, 70, 72, 76, 80, 108, 112, 116, 123, 168, 252, 254)],
    "raster": [(b"IHDR", 4), (b"IHDR", 8), (b"IHDR", 12), (b"IDAT", -4), (b"\xff\xc0", 5), (b"\xff\xc2", 5), (b"\xff\xda", 2)]
    + [(tag + b"\x00", at) for tag in (b"\x00\x01", b"\x01\x01", b"\x11\x01", b"\x15\x01", b"\x17\x01") for at in (4, 8)]
    + [(b"II*\x00", 4), (b"BM", 10), (b"BM", 14), (b"BM", 18), (b"BM", 22), (b"BM", 28)],
    "npz": [(b"PK\x01\x02", at) for at in (10, 20, 24, 28, 42)] + [(b"PK\x03\x04", at) for at in (8, 18, 22, 26)]
    + [(b"PK\x05\x06", at) for at in (8, 10, 12, 16)] + [(b"NUMPY", 3), (b"shape", 9)],
}  # fmt: skip


class Seed(NamedTuple):
    """A good file."""

    name: str
    reader: str
    suffix: str
    content: bytes


class Outcome(NamedTuple):
    """What became of one mutated file; `reason` is "read" for one that was an image all the same."""

    seed: str
    reader: str
    mutation: str
    reason: str
    detail: str


def seeds() -> list[Seed]:
    """Every good file, in one order."""
    real = sorted(Path(pydicom.data.__file__).with_name("test_files").rglob("*.dcm"))  # its own function would ask the network for more
    for folder, kinds in (("dicom", ("*.dcm", "CT1_*", "MR1_*", "*.seg")), ("nifti", ("*.nii", "*.nii.gz"))):
        real += [file for kind in kinds for file in sorted((SHARED / folder).rglob(kind))]
    small = {file.name: file for file in real if file.is_file() and file.stat().st_size < _LARGEST}
    found = [Seed(name, *_kind(name), file.read_bytes()) for name, file in sorted(small.items())]
    return [*found, *_niftis(), *_rasters(), *_archives()]


def _kind(name: str) -> tuple[str, str]:
    suffix = next((end for end in (".nii.gz", ".nii") if name.endswith(end)), "")
    return ("nifti", suffix) if suffix else ("dicom", ".dcm")


def _niftis() -> Iterator[Seed]:
    draw = np.random.default_rng(0)
    volume = draw.integers(0, 2000, (20, 16, 5))
    for kind, made in (("1", nibabel.Nifti1Image), ("2", nibabel.Nifti2Image)):  # pyright: ignore[reportPrivateImportUsage]
        for dtype in (np.int16, np.float32, np.uint8):
            content = made(volume.astype(dtype), np.diag((-1, 1, 2, 1))).to_bytes()
            yield Seed(f"nifti{kind} {np.dtype(dtype)}", "nifti", ".nii", content)
            yield Seed(f"nifti{kind} {np.dtype(dtype)} gz", "nifti", ".nii.gz", gzip.compress(content, mtime=0))


def _rasters() -> Iterator[Seed]:
    draw = np.random.default_rng(0)
    colours = Image.fromarray(draw.integers(0, 256, (40, 30, 3), np.uint8))
    deep = Image.fromarray(draw.integers(0, 65536, (40, 30), np.uint16))
    floats = Image.fromarray(draw.normal(size=(40, 30)).astype(np.float32))
    modes = {mode: colours.convert(mode) for mode in ("L", "RGB", "RGBA", "P", "1", "CMYK")} | {"I;16": deep, "F": floats}
    forms = {
        "PNG": ("L RGB RGBA P 1 I;16", [{}]),
        "JPEG": ("L RGB CMYK", [{}, {"progressive": True}]),
        "TIFF": ("L RGB RGBA 1 I;16 F", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}]),
        "BMP": ("L RGB 1", [{}]),
    }
    for form, (names, variants) in forms.items():
        for mode in names.split():
            for options in variants:
                file = io.BytesIO()
                modes[mode].save(file, form, **options)
                yield Seed(f"{form} {mode} {' '.join(map(str, options.values()))}".strip(), "raster", f".{form.lower()}", file.getvalue())
    pages = io.BytesIO()
    colours.save(pages, "TIFF", save_all=True, append_images=[colours, colours])
    yield Seed("TIFF of 3 pages", "raster", ".tiff", pages.getvalue())


def _archives() -> Iterator[Seed]:
    draw = np.random.default_rng(0)
    for shape in ((6, 20, 20), (6, 20, 20, 3), (2, 8, 16, 16)):
        for save in (np.savez, np.savez_compressed):
            file = io.BytesIO()
            save(file, images=draw.integers(0, 256, shape, np.uint8))
            yield Seed(f"{save.__name__} {shape}", "npz", ".npz", file.getvalue())


def mutated(seed: Seed, dice: random.Random) -> tuple[str, bytes]:
    """The name of what was done, and the damaged file. What is packed is damaged inside half the time, with right checksums after it."""
    inside = seed.suffix == ".nii.gz" and dice.random() < 0.7
    data = bytearray(gzip.decompress(seed.content) if inside else seed.content)
    name, change = dice.choice(
        (("flips", _flip), ("piece", _piece), ("cut", _cut), ("inserted", _insert), ("field", _field), ("field", _field))
    )
    change(data, dice, seed.reader)
    if seed.suffix == ".png" and dice.random() < 0.7:
        _mend_checksums(data)
    return name, gzip.compress(bytes(data), 1, mtime=0) if inside else bytes(data)


def _place(data: bytearray, dice: random.Random) -> int:
    """Anywhere, but more often where headers are."""
    return dice.randrange(max(1, min(len(data), dice.choice((64, 400, 2000, len(data))))))


def _flip(data: bytearray, dice: random.Random, _reader: str) -> None:
    for _ in range(dice.choice((1, 1, 3, 10, 50))):
        data[_place(data, dice)] ^= 1 << dice.randrange(8)


def _piece(data: bytearray, dice: random.Random, _reader: str) -> None:
    at, size = _place(data, dice), dice.choice((2, 4, 16, 256))
    data[at : at + size] = dice.choice((dice.randbytes(size), bytes(size), b"\xff" * size))


def _cut(data: bytearray, dice: random.Random, _reader: str) -> None:
    del data[dice.choice((_place(data, dice), max(0, len(data) - dice.randrange(1, 64)))) :]


def _insert(data: bytearray, dice: random.Random, _reader: str) -> None:
    at = _place(data, dice)
    data[at:at] = dice.randbytes(dice.choice((1, 2, 7, 64, 1000)))


def _field(data: bytearray, dice: random.Random, reader: str) -> None:
    """Extreme values of 16 or 32 bits where the format keeps a size."""
    for _ in range(dice.choice((1, 1, 2))):
        pattern, offset = dice.choice([field for field in _FIELDS[reader] if field[0] in data] or [(b"", 2 * dice.randrange(100))])
        at = data.index(pattern) + offset
        form, value = dice.choice(("<H", ">H", "<I", ">I")), dice.choice(_EXTREMES)
        data[at : at + struct.calcsize(form)] = struct.pack(form, value & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))


def _mend_checksums(data: bytearray) -> None:
    """Gives every chunk of a PNG the checksum of what it holds now."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4


def usable(folder: Path) -> dict[str, list[Seed]]:
    """The seeds that are images before they are damaged, by reader, each written once below `folder`."""
    good = defaultdict(list)
    found = seeds()
    records = [_written(folder, seed, n, seed.content) for n, seed in enumerate(found)]
    for seed, result in zip(found, run_in_workers(ImagePreparer, (folder, DATA), records, LIMITS), strict=True):
        if not isinstance(result, ReadError):
            good[seed.reader].append(seed)
    return good


def _written(folder: Path, seed: Seed, number: int, content: bytes) -> Record:
    locator = f"{seed.reader}/{number:06}{seed.suffix}"
    (folder / seed.reader).mkdir(parents=True, exist_ok=True)
    (folder / locator).write_bytes(content)
    return Record(f"{locator}#images" if seed.reader == "npz" else locator, seed.reader)


def read(folder: Path, files: int, start: int) -> Iterator[Outcome]:
    """Writes the mutated files, a folder for each reader, and reads them: two in five are DICOM."""
    good = usable(folder / "good")
    told, records = [], []
    for n in range(files):
        own = good[("dicom", "nifti", "raster", "dicom", "npz")[n % 5]]
        seed, dice = own[n // 5 % len(own)], random.Random(f"{start} {n}")  # noqa: S311 - the same damage every time
        name, content = mutated(seed, dice)
        told.append((seed, f"{n} {name}"))
        records.append(_written(folder, seed, n, content))
    for (seed, name), result in zip(told, run_in_workers(ImagePreparer, (folder, DATA), records, LIMITS), strict=True):
        if isinstance(result, ReadError):
            reason, detail = result.reason, result.detail
        else:
            reason, detail = ("suspect" if result.suspect else "read"), result.suspect
        yield Outcome(seed.name, seed.reader, name, reason, detail)


def listings(folder: Path) -> Iterator[str]:
    """Has the sources list the mutated files from their headers, as `prepare` does first. Raises whatever ends a listing."""
    for reader, name in SOURCES.items():
        settings = Data.model_validate({"path": str(folder / reader), "source": {"name": name, **({} if name == "folder" else SMALL)}})
        began = time.monotonic()
        source = plugins.find("data.sources", name).build(settings.source, settings.path)
        reasons = Counter(reason for _, reason, _ in source.skipped)
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        yield f"listing {name:7} {len(source.records)} images in {time.monotonic() - began:.1f} s; left out: {said or 'none'}"


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """How many files of each reader were read, refused, and what else; the reasons; what nobody expected, each with its seed."""
    for reader in sorted({outcome.reader for outcome in outcomes}):
        own = Counter(outcome.reason for outcome in outcomes if outcome.reader == reader)
        others = ", ".join(f"{own[reason]} {reason}" for reason in UNEXPECTED)
        refused = own.total() - own["read"] - own["suspect"] - sum(own[reason] for reason in UNEXPECTED)
        yield f"{reader:7} {own.total():6} files: {own['read']} read, {own['suspect']} suspect, {refused} refused, {others}"
        yield "        " + ", ".join(f"{count} {reason}" for reason, count in own.most_common() if reason != "read")
    for outcome in outcomes:
        if outcome.reason in UNEXPECTED:
            yield f"{outcome.reason}: {outcome.reader}, {outcome.seed}, {outcome.mutation}: {outcome.detail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the mutated files there")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    began = time.monotonic()
    outcomes = list(read(folder, given.files, given.seed))
    seconds = time.monotonic() - began
    pool.end_workers()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(*table(outcomes), sep="\n")
    print(f"{len(outcomes)} files in {seconds:.0f} s; the largest worker took {peak / 2**20:.0f} MiB")
    print(*listings(folder), sep="\n")
    if not given.keep:
        shutil.rmtree(folder)
    if peak > 1.5 * LIMITS.memory_bytes or any(outcome.reason == "failed" for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
