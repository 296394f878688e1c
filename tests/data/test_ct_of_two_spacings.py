"""One body scanned as CT with thin and with thick slices: after the preparation an encoder sees nearly the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from whole_volumes import CT, write_dicom, write_nifti

from medssl.config import Data
from medssl.data.prepare import prepare
from medssl.data.sources import dicom, nifti
from medssl.data.volume_records import as_volumes
from medssl.encoder.artefact import build_encoder

BODY_MM = (100.0, 140.0, 160.0)  # slices, rows, columns of the field of view
SCANS = {"thin": (1.0, 1.0, 1.0), "thick": (5.0, 0.7, 0.7)}
SIZE, SPACING_MM = 32, 5.0


def scan(body: int, spacing: tuple[float, ...]) -> np.ndarray:
    """HU of the body number `body`: soft tissue with lungs and some dense balls at places of its own. A voxel is a mean over its length
    through the slices, as a scanner's is."""
    rng = np.random.default_rng(body)
    balls = [(rng.uniform(0.25, 0.75, 3) * BODY_MM, rng.uniform(8, 22), value) for value in (400, 700, 250, 900)]
    fine = 1 if spacing[0] == 1 else 5
    axes = [(np.arange(round(length / step)) + 0.5) * step for length, step in zip(BODY_MM, (spacing[0] / fine, *spacing[1:]), strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    values = np.full((len(axes[0]), len(axes[1]), len(axes[2])), -1000.0, np.float32)
    inside = ((y - 70) / 60) ** 2 + ((x - 80) / 70) ** 2 < 1
    values[np.broadcast_to(inside, values.shape)] = 40
    for side in (45, 115):
        values[((z - 50) / 40) ** 2 + ((y - 70) / 35) ** 2 + ((x - side) / 22) ** 2 < 1] = -800
    for centre, radius, value in balls:
        values[(z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2] = value
    values = values.reshape(-1, fine, *values.shape[1:]).mean(axis=1)
    return (values + rng.normal(0, 10, values.shape)).astype(np.int16)


def features(folder: Path, kind: str, body: int, **settings: object) -> dict[str, torch.Tensor]:
    """Of each scan of the body the features of a random encoder."""
    data = Data.model_validate({"volumes": "whole", "size": SIZE, **settings})
    found = {}
    for name, spacing in SCANS.items():
        path = folder / f"{kind}-{body}-{name}"
        if kind == "nifti":
            write_nifti(path / "a.nii", scan(body, spacing), "RAS", spacing)
            source = nifti.build(nifti.Config(), str(path))
        else:
            write_dicom(path, scan(body, spacing), "LPS", spacing, **CT)
            source = dicom.build(dicom.Config(), str(path))
        store = prepare(as_volumes(source, data), data, folder / "cache")
        image = torch.from_numpy(store.images[0].astype(np.float32) / 65535)
        mean, std = image.mean().reshape(1), image.std().reshape(1)
        network = {"name": "monai", "model": "resnet10", "stem": "auto", "width": 16}
        with torch.inference_mode():
            found[name] = build_encoder(network, 1, (SIZE, SIZE, SIZE), mean, std, seed=0).eval()(image[None])[0]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_features_of_thin_and_thick_slices_of_one_body_are_alike(tmp_path: Path, kind: str) -> None:
    """Features of a random encoder are alike in all bodies (0.99). Without their mean, what tells bodies apart is left."""
    found = [features(tmp_path, kind, body, spacing_mm=SPACING_MM) for body in range(3)]
    thin, thick = (torch.stack([each[name] for each in found]) for name in SCANS)
    assert torch.cosine_similarity(thin, thick).min() > 0.9
    assert torch.cosine_similarity(thin - thin.mean(0), thick - thin.mean(0)).min() > 0.9


@pytest.mark.slow
def test_without_a_spacing_they_are_alike_too(tmp_path: Path) -> None:
    found = features(tmp_path, "nifti", 0)
    assert torch.cosine_similarity(found["thin"], found["thick"], dim=0) > 0.9
