"""A small CT file, with any element changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

WriteSlice = Callable[..., None]


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
