"""One scene, written as DICOM in many ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

WriteDicom = Callable[..., Path]


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
