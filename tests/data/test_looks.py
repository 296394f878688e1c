"""What is noticed of the pixels: bits that no image uses, stacks, colour models, and stores that are black, constant, inverted or mixed."""

import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, JPEGBaseline8Bit, UltrasoundImageStorage, generate_uid

from medssl.config import Data, Transform
from medssl.data.audit import audit_lines, looks_of
from medssl.data.looks import find_looks, look_lines
from medssl.data.peek import peek
from medssl.data.preparation import Preparation
from medssl.data.prepare import prepare
from medssl.data.readers import dicom as dicom_reader
from medssl.data.readers import raster as raster_reader
from medssl.data.sources import dicom, folder
from medssl.data.store import Store
from medssl.data.store.fingerprint import SourceHash
from medssl.errors import ReadError
from medssl.runs.resolve_config import resolve_data_config
from medssl.types import Decoded, Record, Source

SIZE = 32
YY, XX = np.mgrid[:SIZE, :SIZE]
RNG = np.random.default_rng(0)
CHEST = np.where(((XX - 16) / 12) ** 2 + ((YY - 16) / 14) ** 2 < 1, 0.2, 0.8)


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def deep(bits: int) -> np.ndarray:
    return np.clip((CHEST + RNG.normal(0, 0.05, CHEST.shape)) * (2**bits - 1), 0, 2**bits - 1).astype(np.uint16)


def write_dicom(path: Path, stored: np.ndarray, bits_stored: int = 16, photometric: str = "MONOCHROME2", **elements: object) -> Path:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID, ds.Modality = ComputedRadiographyImageStorage, generate_uid(), path.name, "CR"
    ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.PixelRepresentation = photometric, 1, 0
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits_stored, bits_stored - 1
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)
    return path


SOURCE_HASH = "8f9f5654ab7d37758ebbd50312065c6d"


class Silent:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None: ...


def resolved(root: Path, **settings: object) -> tuple[Data, list[str]]:
    reporter = Silent()
    data, _ = resolve_data_config(reporter, str(root), "chest_xray_cpu", {"data": settings})
    return data, reporter.lines


@pytest.mark.parametrize("kind", ["png", "tif", "dicom"])
def test_twelve_bits_in_files_of_sixteen_are_noticed_said_and_scaled_away(tmp_path, kind):
    stored = [deep(12) for _ in range(6)]
    for n, pixels in enumerate(stored):
        if kind == "dicom":
            write_dicom(tmp_path / f"{n}", pixels)
        else:
            save(pixels, tmp_path / f"{n}.{kind}")
    data, lines = resolved(tmp_path)
    assert data.used_bits == 12
    assert any("use 12 of 16 bits" in line and "data.used_bits=16" in line for line in lines)
    config = {"used_bits": data.used_bits}
    if kind == "dicom":
        image = dicom_reader.build(dicom_reader.Config.model_validate(config)).read(tmp_path / "0")
    else:
        image = raster_reader.build(raster_reader.Config.model_validate(config)).read(tmp_path / f"0.{kind}")
    np.testing.assert_allclose(image.pixels[0], stored[0] / 4095, atol=1e-6)
    assert image.bits == 16


def test_inverted_dicom_is_scaled_by_its_used_bits_before_it_is_inverted(tmp_path):
    stored = deep(12)
    file = write_dicom(tmp_path / "0", stored, photometric="MONOCHROME1")
    image = dicom_reader.build(dicom_reader.Config(used_bits=12)).read(file)
    np.testing.assert_allclose(image.pixels[0], 1 - stored / 4095, atol=1e-6)


@pytest.mark.parametrize("largest", [2**13, 2**14, 2**16 - 1])
def test_one_image_of_more_bits_decides_for_all_and_one_unused_bit_is_no_fault(tmp_path, largest):
    for n in range(20):
        pixels = deep(12)
        pixels[3, 3] = largest if n == 19 else 7
        save(pixels, tmp_path / f"{n:02}.png")
    found = peek(folder.build(folder.Config(), str(tmp_path)), Data()).used_bits
    assert found == {2**13: 14, 2**14: None, 2**16 - 1: None}[largest]


def test_an_image_of_more_bits_than_said_is_refused_and_not_clipped(tmp_path):
    save(deep(14), tmp_path / "a.png")
    with pytest.raises(ReadError, match=r"more_bits: the image needs 14 bits, data.used_bits is 12"):
        raster_reader.build(raster_reader.Config(used_bits=12)).read(tmp_path / "a.png")


def test_windows_palettes_and_eight_bits_have_no_unused_bits(tmp_path):
    windowed = write_dicom(tmp_path / "a", deep(12), WindowCenter=2048, WindowWidth=4096)
    read = dicom_reader.build(dicom_reader.Config()).read
    assert read(windowed).used_bits == 0
    assert read(write_dicom(tmp_path / "b", deep(12), bits_stored=12)).used_bits == 12
    save((CHEST * 40).astype(np.uint8), tmp_path / "c.png")
    assert raster_reader.build(raster_reader.Config()).read(tmp_path / "c.png").used_bits == 0


def test_a_store_without_the_fault_keeps_its_fingerprint(tmp_path):
    """The hash was made before there was a setting used_bits."""
    (tmp_path / "0.png").write_bytes(b"0123456789")
    os.utime(tmp_path / "0.png", ns=(10**18, 10**18))
    source = Source("folder", tmp_path, (Record("0.png", "raster"),))
    assert SourceHash(source, Data(size=16)).of(source.records[0]) == SOURCE_HASH
    assert SourceHash(source, Data(size=16, used_bits=12)).of(source.records[0]) != SOURCE_HASH


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "u1"])
def test_every_plane_of_a_stack_with_one_directory_is_an_image(tmp_path, dtype):
    stack = RNG.integers(0, 200, (5, 12, 14)).astype(dtype)
    order = "<" if dtype[0] == "<" else ">"
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"}, byteorder=order)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff, (tmp_path / "a.tif").open("r+b") as file:
        page = tiff.pages.first
        file.seek(page.offset + 2 + 12 * len(page.tags))
        file.write(bytes(4))
    source = folder.build(folder.Config(), str(tmp_path))
    assert [record.index for record in source.records] == list(range(5))
    assert {record.series for record in source.records} == {"a.tif"}
    read = raster_reader.build(raster_reader.Config()).read
    largest = 255 if dtype == "u1" else 65535
    for n in range(5):
        np.testing.assert_allclose(read(tmp_path / "a.tif", n).pixels[0], stack[n] / largest, atol=1e-6)
    with pytest.raises(ReadError, match="no_such_page"):
        read(tmp_path / "a.tif", 5)


@pytest.mark.parametrize("how", ["jfif", "bare", "adobe", "right"])
def test_colours_are_those_of_the_compressed_data_and_a_contradiction_is_said(tmp_path, how):
    """A red box in grey. libjpeg converts to YBR; the header says RGB, but for `right`."""
    picture = np.full((32, 48, 3), 90, np.uint8)
    picture[8:24, 8:24] = 220, 30, 30
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95, subsampling=1)
    data = buffer.getvalue()
    end = 4 + int.from_bytes(data[4:6], "big")
    adobe = b"\xff\xee\x00\x0eAdobe\x00d\x00\x00\x00\x00\x01"
    data = {"bare": data[:2] + data[end:], "adobe": data[:2] + adobe + data[end:]}.get(how, data)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID, ds.Modality = UltrasoundImageStorage, generate_uid(), "p", "US"
    ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.PlanarConfiguration = "YBR_FULL_422" if how == "right" else "RGB", 3, 0
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 32, 48, 8, 8, 7, 0
    ds.PixelData = encapsulate([data])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "a", enforce_file_format=True)
    pixels = dicom_reader.build(dicom_reader.Config()).read(tmp_path / "a").pixels[:, 16, 16] * 255
    np.testing.assert_allclose(pixels, [220, 30, 30], atol=8)
    notes = dicom.build(dicom.Config(), str(tmp_path)).notes
    assert any(note.startswith("1 files hold other colours") for note in notes) == (how != "right")


def store_of(pictures: list[np.ndarray], cache: Path) -> Store:
    """A store that holds these pictures, uint8 or uint16 [H, W]."""
    deepest = max(picture.dtype.itemsize for picture in pictures)
    wide = [picture if picture.dtype.itemsize == deepest else picture.astype(np.uint16) * 257 for picture in pictures]
    np.save(cache / "images.npy", np.stack(wide)[:, None])
    table = pd.DataFrame({"bits": [8 * picture.dtype.itemsize for picture in pictures]})
    return Store(cache, np.load(cache / "images.npy", mmap_mode="r"), table, {"versions": {"readers": {"raster": "2"}}})


def looks(pictures: list[np.ndarray], cache: Path) -> list[str]:
    return list(look_lines(find_looks(store_of(pictures, cache))))


def chest(scale: float = 1.0) -> np.ndarray:
    return np.clip((CHEST + RNG.normal(0, 0.06, CHEST.shape)) * scale * 255, 0, 255).astype(np.uint8)


def test_a_store_without_a_fault_has_nothing_to_say(tmp_path):
    assert looks([chest() for _ in range(12)], tmp_path) == []


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (lambda: chest(0.08), ("50% of 20 images are nearly black", "ScaleIntensityRangePercentiles")),
        (lambda: (120 + CHEST * 5).astype(np.uint8), ("50% of 20 images are nearly constant", "ScaleIntensityRangePercentiles")),
        (lambda: np.where(CHEST > 0.5, 255, 0).astype(np.uint8), ("50% of 20 images have at most 8 grey values", "table")),
        (lambda: np.where((YY > 17) & (XX > 17), chest(), 0).astype(np.uint8), ("50% of 20 images show nothing", "crop_area")),
    ],
)
def test_a_fault_is_said_with_its_share_and_with_the_key_that_mends_it(tmp_path, picture, words):
    lines = looks([picture() if n % 2 else chest() for n in range(20)], tmp_path)
    assert [all(word in line for word in words) for line in lines].count(True) == 1


def test_mixed_bit_depths_are_said_with_the_difference_of_their_brightness(tmp_path):
    lines = looks([chest() if n % 2 else deep(13) for n in range(10)], tmp_path)
    assert any(line.startswith("bit depths are mixed (8 bits 5, 16 bits 5)") and "times as bright" in line for line in lines)


def test_prepare_writes_the_looks_into_the_audit_and_says_them(tmp_path):
    for n in range(6):
        save(chest(0.08), tmp_path / f"data/{n}.png")
    store = prepare(folder.build(folder.Config(), str(tmp_path / "data")), Data(size=32), tmp_path / "cache")
    found = json.loads((store.path / "audit.json").read_text("utf-8"))
    assert found["looks"] == {"checked": 6, "dark": 6}
    assert [sentence for heading, sentence in audit_lines(found) if heading == "look"] == looks_of(store)
    assert "100% of 6 images are nearly black" in looks_of(store)[0]


@pytest.mark.slow
def test_the_transform_that_is_named_mends_a_dark_store():
    """Slow: MONAI is imported."""
    step = re.search(r"data.transforms=\[(.*?)\]'", next(look_lines({"checked": 1, "dark": 1})))
    assert step
    data = Data(size=32, transforms=(Transform.model_validate(yaml.safe_load(step[1])),))
    assert Preparation(data)(Decoded(chest(0.08)[None] / np.float32(255), 8)).max() == 255
