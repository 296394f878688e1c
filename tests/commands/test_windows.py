"""CT with several windows in HU: each is a channel, from the file to the encoder's card."""

import json

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medssl.commands.prepare import prepare
from medssl.commands.pretrain import pretrain
from medssl.data.store import Store


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """16 patients with 3 slices of 24 x 24: air (-1000 HU) around a disk of 40 HU with a core of 700 HU."""
    root = tmp_path_factory.mktemp("ct")
    rows, columns = np.mgrid[:24, :24] - 11.5
    radius = np.hypot(rows, columns)
    for number in range(48):
        hu = np.where(radius < 3, 700, np.where(radius < 9, 40, -1000)) + np.random.default_rng(number).integers(-20, 20, (24, 24))
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.SOPClassUID, header.SOPInstanceUID, header.Modality = CTImageStorage, generate_uid(), "CT"
        header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID = f"{number // 3}", f"1.2.{number // 3}", f"1.3.{number // 3}"
        header.ImageType, header.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "AXIAL"], [1, 0, 0, 0, 1, 0]
        header.ImagePositionPatient, header.PixelSpacing = [0, 0, 5 * (number % 3)], [1, 1]
        header.Rows = header.Columns = 24
        header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
        header.RescaleSlope, header.RescaleIntercept = 1, -1024
        header.PixelData = (hu + 1024).astype("<u2").tobytes()
        header.save_as(root / f"{number}.dcm", enforce_file_format=True)
    return root


def test_windows_become_the_channels_of_the_store_by_the_formula_of_the_standard(slices, reporter, tmp_path):
    path = prepare(
        reporter(), data=str(slices), preset="chest_xray", out=tmp_path / "store", sets=["data.window=[lung,bone]", "data.size=24"]
    )
    assert path
    store = Store.open(path)
    assert store.images.shape == (48, 2, 24, 24)
    lung, bone = (np.median(store.images[:, channel, 11:13, 5] / 65535) for channel in (0, 1))  # soft tissue, about 40 HU
    assert abs(lung - ((40 - -600.5) / 1499 + 0.5)) < 0.02
    assert abs(bone - ((40 - 399.5) / 1799 + 0.5)) < 0.02


@pytest.mark.parametrize(
    ("window", "channels"),
    [
        pytest.param("soft_tissue", 1, marks=pytest.mark.slow),
        pytest.param("[lung, soft_tissue]", 2, marks=pytest.mark.slow),
        ("lung,soft_tissue,bone,40/80", 4),
    ],
)
def test_an_encoder_is_pretrained_on_one_to_four_windows(slices, reporter, small, tmp_path, window, channels):
    sets = [*small, f"data.window={window}", "train.steps=2", "method.support_size=8", "tracking.mlflow=false"]
    pretrain(reporter(), data=str(slices), out=tmp_path / "run", sets=sets)
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert card["channels"] == channels
    assert (tmp_path / "run/views.png").is_file()
