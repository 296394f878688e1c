"""One small volume with marks, written as NIfTI and as DICOM in any orientation."""

from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

SPACING = (3.0, 2.0, 1.5)  # between slices, rows and columns of the volume in canonical axes
SHAPE = (10, 12, 14)
CODES = ["".join(code) for order in permutations(("RL", "AP", "IS")) for code in product(*order)]  # all 48
LEFT, FRONT, HEAD = (5, 6, 12), (5, 1, 7), (8, 6, 7)  # slice, row, column

PHANTOM = ("--data", "phantom_volumes", "--preset", "volume_mr_cpu")
SMALL = [  # a training on the phantom in seconds; the support set is no multiple of the batch
    *("data.source={name: phantom_volumes, patients: 40, size: 16}", "data.size=16", "backbone.width=4", "train.batch_size=8"),
    *("method.hidden=32", "method.width=16", "method.support_size=13", "train.save_every_steps=2", "monitor.log_every_steps=1"),
    *("monitor.knn_every_epochs=100", "train.steps=12"),
]


def marked(dtype: type = np.int16) -> np.ndarray:
    """[10, 12, 14] in canonical axes: noise from 100 to 199, with one bright voxel at the patient's left, in front, and at the head."""
    volume = np.random.default_rng(0).integers(100, 200, SHAPE).astype(dtype)
    for value, place in ((600, LEFT), (700, FRONT), (800, HEAD)):
        volume[place] = value
    return volume


def stored_as(volume: np.ndarray, code: str, spacing: Sequence[float] = SPACING) -> tuple[np.ndarray, np.ndarray]:
    """The array [i, j, k] whose axes point to `code`, of a volume in canonical axes, and its affine to RAS in mm."""
    slices, rows, columns = spacing
    voxels = volume.transpose(2, 1, 0)
    affine = np.diag([-columns, -rows, slices, 1.0])
    affine[:3, 3] = 40, 50, -60
    change = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(code))
    return apply_orientation(voxels, change), affine @ inv_ornt_aff(change, voxels.shape)


def write_nifti(path: Path, volume: np.ndarray, code: str = "RAS", spacing: Sequence[float] = SPACING) -> Path:
    """A NIfTI file whose array points to `code`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Nifti1Image(*stored_as(volume, code, spacing))
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


def write_dicom(
    folder: Path, volume: np.ndarray, code: str = "LPS", spacing: Sequence[float] = SPACING, shuffle: int = 0, **elements: Any
) -> list[Path]:
    """The slices of a series, in the order of their names, which is not that of their places. The columns of a slice follow each other to
    code[0], the rows to code[1]. `elements`: of all files; a function gets the number of the slice."""
    voxels, affine = stored_as(volume, code, spacing)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    edges = np.linalg.norm(to_lps[:3, :3], axis=0)
    across, down = to_lps[:3, 0] / edges[0], to_lps[:3, 1] / edges[1]
    names = np.random.default_rng(shuffle).permutation(voxels.shape[2])
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names.tolist()):
        known = {
            "ImagePositionPatient": apply_affine(to_lps, (0, 0, k)).tolist(),
            "ImageOrientationPatient": [*across.tolist(), *down.tolist()],
            "PixelSpacing": [edges[1], edges[0]],
            "InstanceNumber": name + 1,
        }
        header = _header(voxels[:, :, k].T, f"1.2.{shuffle}.{name}")
        for keyword, value in {**known, **elements}.items():
            setattr(header, keyword, value(k) if callable(value) else value)
        for keyword in [keyword for keyword, value in elements.items() if value is None]:
            delattr(header, keyword)
        header.save_as(folder / f"{name:03d}.dcm", enforce_file_format=True)
    return sorted(folder.glob("*.dcm"))


def _header(pixels: np.ndarray, uid: str) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.Modality, header.SOPClassUID, header.SOPInstanceUID = "MR", MRImageStorage, uid
    header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID = "p1", "1.2.3", "1.2.3.4"
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.PixelData = np.ascontiguousarray(pixels, "<i2").tobytes()
    header["PixelData"].VR = "OW"
    return header


CT = {"Modality": "CT", "SOPClassUID": CTImageStorage, "RescaleSlope": 1, "RescaleIntercept": 0}
