"""Synthetic chest radiographs as real DICOM files, to try everything on a machine without data and without a network."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from medssl.config import PluginConfig
from medssl.data.cache import phantom_folder
from medssl.data.phantom import Finding, radiograph
from medssl.data.sources import dicom
from medssl.types import Source

_VERSION = 1  # of the drawing; every version has its own folder in the cache
_NORMAL = "normal"


class Config(PluginConfig):
    name: str = "phantom"
    patients: int = Field(default=200, ge=4, description="The number of patients.")
    size: int = Field(default=256, ge=64, le=2048, description="The edge of the images in pixels.")
    prevalence: float = Field(default=0.4, gt=0, lt=1, description="The share of the patients with the finding.")
    finding: Finding = Field(
        default="nodule", description="The finding: nodule is a small shadow somewhere, interstitial a texture all over the lungs."
    )
    variation: float = Field(
        default=1.0,
        ge=0,
        le=4,
        description="How much position, turn, zoom and exposure differ from image to image; from 1 on the window and the tube's voltage "
        "differ, too.",
    )
    seed: int = Field(default=0, ge=0, description="The seed of the drawing.")


@dataclass(frozen=True, slots=True)
class Scanner:
    """A made-up scanner. `gamma` (exponent) and `noise` (standard deviation, as a share of the full range): its image processing;
    `windowed`: whether its headers state a window."""

    maker: str
    model: str
    site: str
    modality: str
    bits: int
    photometric: str
    gamma: float
    noise: float
    windowed: bool


SCANNERS = (
    Scanner("Alder", "Plate 10", "Harbour Hospital", "CR", 10, "MONOCHROME1", 0.85, 0.012, True),
    Scanner("Birch", "Panel 12", "Hill Hospital", "DX", 12, "MONOCHROME2", 1.0, 0.006, True),
    Scanner("Cedar", "Panel 14", "Hill Hospital", "DX", 14, "MONOCHROME2", 1.2, 0.004, False),
)


@dataclass(frozen=True, slots=True)
class Exposure:
    """One image to be drawn: number `image` of a patient, from one scanner, with or without nodules (`lesion`)."""

    patient: int
    image: int
    lesion: bool
    scanner: Scanner

    @property
    def file(self) -> str:
        return f"P{self.patient:05d}/{self.image}.dcm"


def recognises(data: str) -> bool:
    """Whether --data names the phantom: the word itself."""
    return data == "phantom"


def build(config: Config, data: str) -> Source:
    """Draws the radiographs into the cache, unless they exist there, and lists them like any folder of DICOM files.

    The label "label" is the finding or "normal". Raises UserError where the cache cannot be written.
    """
    recipe = f"{_VERSION} {config.patients} {config.size} {config.prevalence} {config.seed} {config.finding} {config.variation}"
    folder = phantom_folder(hashlib.sha256(recipe.encode()).hexdigest()[:16], partial(_write, config), data)
    source = dicom.build(dicom.Config(), str(folder))
    return replace(source, kind="phantom", notes=("synthetic radiographs: results on them say nothing about patients", *source.notes))


def exposures(config: Config) -> Iterator[Exposure]:
    """The images of all patients. Each patient has one to three images from one scanner, all with the patient's label."""
    draw = np.random.default_rng([config.seed, 0])
    ill = set(draw.permutation(config.patients)[: max(1, round(config.prevalence * config.patients))].tolist())
    for patient in range(config.patients):
        scanner = SCANNERS[draw.integers(len(SCANNERS))]
        for image in range(draw.choice(3, p=(0.6, 0.3, 0.1)) + 1):
            yield Exposure(patient, image, patient in ill, scanner)


def header_and_pixels(exposure: Exposure, config: Config) -> Dataset:
    """One radiograph as a DICOM data set. The same configuration gives the same bytes: the data set holds no date and no random UID."""
    scanner, key = exposure.scanner, (config.seed, exposure.patient)
    draw = np.random.default_rng([*key, 6, exposure.image])
    image = radiograph(key, exposure.image, config.size, exposure.lesion, config.finding, config.variation)
    more = np.random.default_rng([*key, 9, exposure.image]).normal(0, max(0.0, config.variation - 1), 3)  # gamma, gain, offset
    image = image ** (scanner.gamma * float(np.exp(0.12 * more[0]))) + scanner.noise * draw.standard_normal(image.shape, dtype=np.float32)
    low, high = draw.uniform(0.02, 0.10), draw.uniform(0.70, 0.95)  # the exposure decides which part of the range the image uses
    top = 2**scanner.bits - 1
    stored = np.rint((low + (high - low) * np.clip(image, 0, 1)) * top).astype("<u2")
    width = (high - low) * np.exp(0.12 * more[1]) * top
    centre = (low + high) / 2 * top + 0.06 * more[2] * width
    inverted = scanner.photometric == "MONOCHROME1"

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ComputedRadiographyImageStorage if scanner.modality == "CR" else DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = _uid(config.seed, exposure.patient, exposure.image)
    ds.StudyInstanceUID = _uid(config.seed, exposure.patient)
    ds.SeriesInstanceUID = _uid(config.seed, exposure.patient, "series")
    ds.PatientID = f"PHANTOM{config.seed}-{exposure.patient:05d}"
    ds.PatientName = "Phantom"
    ds.PatientSex = "O"
    ds.PatientBirthDate = ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ds.ReferringPhysicianName = ds.StudyID = ""
    ds.InstitutionName, ds.Manufacturer, ds.ManufacturerModelName = scanner.site, scanner.maker, scanner.model
    ds.Modality, ds.ViewPosition, ds.BodyPartExamined, ds.PatientOrientation = scanner.modality, "PA", "CHEST", ["L", "F"]
    ds.ImageType, ds.BurnedInAnnotation = ["DERIVED", "PRIMARY"], "NO"
    ds.SeriesNumber, ds.InstanceNumber = 1, exposure.image + 1
    ds.Rows = ds.Columns = config.size
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, scanner.photometric, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, scanner.bits, scanner.bits - 1
    if scanner.windowed:
        ds.WindowCenter, ds.WindowWidth = round(top - centre if inverted else centre), round(width) + 1
    ds.PixelData = (top - stored if inverted else stored).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def _uid(*key: object) -> str:
    """A UID made of a hash of `key` (PS3.5 B.2: 2.25 and a number of up to 128 bits)."""
    return f"2.25.{int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:15])}"


def _write(config: Config, folder: Path) -> None:
    """Writes all files into `folder`."""
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(["path", "label"])
        for exposure in exposures(config):
            file = folder / exposure.file
            file.parent.mkdir(exist_ok=True)
            header_and_pixels(exposure, config).save_as(file, enforce_file_format=True)
            rows.writerow([exposure.file, config.finding if exposure.lesion else _NORMAL])
