"""A small source of pictures, one scene written as DICOM in many ways, and a small CT file with any element changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medssl.types import Record, Source

MakeSource = Callable[..., Source]
WriteDicom = Callable[..., Path]
WriteSlice = Callable[..., None]


@pytest.fixture
def pictures() -> np.ndarray:
    """uint8 [5, 20, 20]"""
    return np.random.default_rng(0).integers(0, 256, (5, 20, 20), np.uint8)


@pytest.fixture
def make_source(tmp_path: Path, pictures: np.ndarray) -> MakeSource:
    """make_source(deep=(1,), broken=(2,)): writes the pictures below tmp_path/data, some with 16 bits, some cut in half."""

    def make(deep: tuple[int, ...] = (), broken: tuple[int, ...] = (), skipped: tuple[tuple[str, str, str], ...] = ()) -> Source:
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        records = []
        for number, picture in enumerate(pictures):
            file = root / f"doe_{number}.png"
            Image.fromarray(picture.astype(np.uint16) * 257 + number if number in deep else picture).save(file)
            if number in broken:
                file.write_bytes(file.read_bytes()[:200])
            records.append(
                Record(
                    file.name,
                    "raster",
                    labels={"finding": "no" if number % 2 else "yes"},
                    patient=f"DOE^{number // 2}" if number < 4 else None,
                    study=f"1.2.{number}" if number < 2 else None,
                    site="north",
                    split="train" if number else "test",
                    extra={"view": "PA"} if number else {},
                )
            )
        return Source("folder", root, tuple(records), skipped=skipped)

    return make


@pytest.fixture
def scene() -> np.ndarray:
    """float64 [24, 40] in [0, 1], neither square nor symmetric: a slope with a bright and a dark block."""
    image = np.add.outer(np.linspace(0, 0.5, 24), np.linspace(0, 0.5, 40))
    image[4:9, 5:20], image[15:20, 30:38] = 1, 0
    return image


@pytest.fixture
def write_dicom(tmp_path: Path) -> WriteDicom:
    """write_dicom(stored, bits=12, ...): a file with these pixels [H, W], [F, H, W] or [.., H, W, 3] and any further elements."""

    def write(stored: np.ndarray, bits: int, name: str = "image.dcm", colour: bool = False, syntax: Any = None, **elements: Any) -> Path:
        header = dataset(stored, bits, colour)
        for keyword, value in elements.items():
            setattr(header, keyword, value)
        if syntax is None:
            header.save_as(tmp_path / name, enforce_file_format=True)
        elif syntax.is_encapsulated:
            header.compress(syntax)
            header.save_as(tmp_path / name, enforce_file_format=True)
        else:
            header.file_meta.TransferSyntaxUID = syntax
            if not syntax.is_little_endian:
                header.PixelData = stored.byteswap().tobytes()
            header.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return write


def dataset(stored: np.ndarray, bits: int, colour: bool) -> Dataset:
    shape = stored.shape[:-1] if colour else stored.shape
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = ComputedRadiographyImageStorage
    header.SOPInstanceUID = generate_uid()
    header.PatientName = "CANARY^NAME"
    header.Modality = "CR"
    header.Rows, header.Columns = shape[-2:]
    if len(shape) == 3:
        header.NumberOfFrames = shape[0]
    header.SamplesPerPixel = 3 if colour else 1
    if colour:
        header.PlanarConfiguration = 0
    header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    header.BitsAllocated = 8 * stored.dtype.itemsize
    header.BitsStored, header.HighBit = bits, bits - 1
    header.PixelRepresentation = int(stored.dtype.kind == "i")
    header.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    header["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 else "OW"
    return header


@pytest.fixture
def write() -> WriteSlice:
    """write(file, **tags): a 4 x 4 CT file of 8 bits, with the given elements changed, or taken out where None."""

    def write(file: Path, pixels: bytes = b"\0" * 16, **tags: Any) -> None:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        values = {
            "SOPClassUID": CTImageStorage, "SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "PatientID": "p", "Modality": "CT",
            "Rows": 4, "Columns": 4, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 1, "PixelRepresentation": 0,
            "PhotometricInterpretation": "MONOCHROME2", **tags,
        }  # fmt: skip
        for name, value in values.items():
            if value is not None:
                setattr(ds, name, value)
        ds.PixelData = pixels
        ds["PixelData"].VR = "OB"
        file.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(file, enforce_file_format=True)

    return write
