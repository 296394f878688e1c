"""Synthetic volumes as real NIfTI files, to try everything on volumes without data and without a network: a sphere, a cube or an ellipsoid
in each."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field

from medssl.config import PluginConfig
from medssl.data.cache import phantom_folder
from medssl.data.phantom_volumes import SHAPES, Shape, draw_volume, voxel_count
from medssl.data.sources import nifti
from medssl.types import Source

_VERSION = 1  # of the drawing; every version has its own folder in the cache
_EDGE_MM = 64.0  # of a whole volume
_WHITE = 1000


class Config(PluginConfig):
    name: str = "phantom_volumes"
    patients: int = Field(default=300, ge=6, description="The number of patients, each with one volume.")
    size: int = Field(default=32, ge=16, le=256, description="The edge of the volumes in voxels.")
    seed: int = Field(default=0, ge=0, description="The seed of the drawing.")


@dataclass(frozen=True, slots=True)
class Scan:
    """The volume of one patient. `twins`: the number that it shares with one volume of each other shape, which have as many voxels in
    their shape."""

    patient: int
    shape: Shape
    twins: int

    @property
    def file(self) -> str:
        return f"P{self.patient:05d}.nii"


def recognises(data: str) -> bool:
    """Whether --data names the phantom of volumes: the word itself."""
    return data == "phantom_volumes"


def build(config: Config, data: str) -> Source:
    """Draws the volumes into the cache, unless they exist there, and lists them like any folder of NIfTI files.

    The label "label" is the shape. The voxels are stored in the order of axial images: from the patient's right to the left, from front to
    back, from feet to head. Raises UserError where the cache cannot be written.
    """
    recipe = f"{_VERSION} {config.patients} {config.size} {config.seed}"
    folder = phantom_folder(f"volumes-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}", partial(_write, config), data)
    source = nifti.build(nifti.Config(), str(folder))
    return replace(source, kind="phantom_volumes", notes=("synthetic volumes: results on them say nothing about patients", *source.notes))


def scans(config: Config) -> Iterator[Scan]:
    """The volumes of all patients, in their order. All shapes are equally frequent."""
    order = np.random.default_rng([config.seed, 0]).permutation(config.patients).tolist()
    for patient, place in enumerate(order):
        yield Scan(patient, SHAPES[place % len(SHAPES)], place // len(SHAPES))


def voxels_of(scan: Scan, config: Config) -> np.ndarray:
    """The volume of a scan, float32 [slices, rows, columns] in [0, 1]."""
    number = voxel_count((config.seed, scan.twins), config.size)
    return draw_volume((config.seed, scan.patient), scan.shape, config.size, number)


def _write(config: Config, folder: Path) -> None:
    """Writes all files into `folder`."""
    import nibabel  # only where volumes are drawn: every command looks at all sources

    spacing = _EDGE_MM / config.size
    affine = np.diag([-spacing, -spacing, spacing, 1])  # NIfTI's own axes lead to the left, the front and the head
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(["path", "patient_id", "label"])
        for scan in scans(config):
            stored = np.rint(voxels_of(scan, config) * _WHITE).astype(np.int16)
            nibabel.Nifti1Image(stored.transpose(2, 1, 0), affine).to_filename(folder / scan.file)  # pyright: ignore
            rows.writerow([scan.file, f"P{scan.patient:05d}", scan.shape])
