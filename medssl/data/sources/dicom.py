"""A folder of DICOM files, at any depth, with or without suffix and preamble; every frame of an image is a record."""

from __future__ import annotations

from itertools import islice
from pathlib import Path, PurePosixPath

from medssl.config import Limits
from medssl.data.sources import _dicom_headers, _walk
from medssl.data.sources._beside import BesideConfig, joined
from medssl.data.sources._tables import SUFFIXES, first_few
from medssl.errors import UserError
from medssl.types import Source

_RASTER = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
_SAMPLE = 50


class Config(BesideConfig):
    name: str = "dicom"
    limits: Limits = Limits()


def recognises(data: str) -> bool:
    """A folder that holds, among its first 50 files, a DICOM file, and no fewer of them than raster images."""
    root = Path(data).expanduser()
    files = [root / found.locator for found in islice(_walk.below(root), _SAMPLE) if not found.reason] if root.is_dir() else []
    rasters = [file for file in files if file.suffix.lower() in _RASTER]
    dicoms = sum(_dicom_headers.is_dicom(file) for file in files if file not in rasters)
    return dicoms > 0 and dicoms >= len(rasters)


def build(config: Config, data: str) -> Source:
    """Lists the images below the folder `data` from their headers: patient, study, site, sex, age, view, scanner and modality.

    A labels.csv, or the only CSV or Parquet file in the folder, is joined by path. What is no image is in `skipped`, with its reason.
    Raises UserError where there is no image, and for a table that is wrong.
    """
    root = _walk.folder_of(data)
    found = list(_walk.below(root))
    problems = [item for item in found if item.reason]
    locators = [item.locator for item in found if not item.reason and PurePosixPath(item.locator).suffix.lower() not in SUFFIXES]
    headers = _dicom_headers.listed(root, locators, config.limits)
    skipped = (*problems, *headers.skipped)
    if not headers.records:
        reasons = first_few([f"{locator}: {reason}, {detail}" for locator, reason, detail in skipped])
        raise UserError(f"There is no DICOM image below {root}. Check --data. Files left out: {len(skipped)}{reasons}")
    records, notes = joined(headers.records, root, config, [locator for locator, _, _ in skipped])
    return Source("dicom", root, tuple(records), (*headers.notes, *notes), skipped)
