"""What medssl understands of data, in the few numbers by which a layout is judged; and the files that layouts consist of."""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from medssl import plugins
from medssl.data.detect import detect
from medssl.types import Source

TWO = {"label": {"ill": 12, "well": 12}}  # what is right of 24 pictures of two classes


@dataclass(frozen=True)
class Understood:
    """`images`; `labels`: {label: {class: images}}, without images that have none; `patients`: how many images each named patient has,
    sorted; `splits`: {split: images}. `refused`: a part of the message where the data is refused or its table cannot be used."""

    images: int
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    patients: Sequence[int] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""


def list_images(data: Path, options: Mapping[str, object] | None = None) -> Source:
    """The source that medssl finds for the data."""
    source = plugins.find("data.sources", detect(str(data)))
    return source.build(source.Config.model_validate({"name": detect(str(data)), **(options or {})}), str(data))


def understood(source: Source) -> Understood:
    """The numbers of a source. `refused` is its whole table error."""
    labels: dict[str, Counter[str]] = {}
    for record in source.records:
        for name, value in record.labels.items():
            labels.setdefault(name, Counter())[value] += 1
    patients = Counter(record.patient for record in source.records if record.patient)
    splits = Counter(record.split for record in source.records if record.split)
    counted = {name: dict(sorted(values.items())) for name, values in sorted(labels.items())}
    return Understood(len(source.records), counted, sorted(patients.values()), dict(sorted(splits.items())), source.table_error)


def picture(file: Path, seed: int = 0) -> None:
    """A grey picture of noise, 12 x 12 pixels; as PNG or JPEG by its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 12), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG" if file.suffix.lower() in (".jpg", ".jpeg") else "PNG")


def pictures(root: Path, count: int = 24, name: str = "{:03d}.png") -> list[str]:
    """So many pictures in a folder; their names."""
    names = [name.format(n) for n in range(count)]
    for n, each in enumerate(names):
        picture(root / each, n)
    return names


def mask(file: Path, seed: int = 0) -> None:
    """A mask for a picture: a white rectangle on black, 12 x 12 pixels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((12, 12), np.uint8)
    pixels[2 + seed % 3 : 8, 3:9] = 255
    Image.fromarray(pixels).save(file)


def dicom(file: Path, patient: str, study: str, seed: int = 0) -> None:
    """A radiograph of noise, 8 x 8 pixels, whose header names patient and study."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = ComputedRadiographyImageStorage, f"1.2.3.{seed}"
    header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID = patient, study, f"{study}.1"
    header.Modality, header.PhotometricInterpretation, header.SamplesPerPixel = "CR", "MONOCHROME2", 1
    header.Rows = header.Columns = header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation, header.BurnedInAnnotation = 7, 0, "NO"
    header.PixelData = np.random.default_rng(seed).integers(0, 255, 64, np.uint8).tobytes()
    header["PixelData"].VR = "OB"
    header.save_as(file, enforce_file_format=True)


def volume(file: Path, seed: int = 0) -> None:
    """A NIfTI volume of noise with two slices."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 900, (6, 5, 2), np.int16)
    Nifti1Image(pixels, np.diag([-1.0, -1.0, 1.0, 1.0])).to_filename(file)


def mask_volume(file: Path, seed: int = 0) -> None:
    """A mask for a volume: labels 0, 1 and 2."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((6, 5, 2), np.uint8)
    pixels[1:4, 1 + seed % 2 : 4] = 1
    pixels[2, 2] = 2
    Nifti1Image(pixels, np.diag([-1.0, -1.0, 1.0, 1.0])).to_filename(file)


def table(file: Path, header: Sequence[str] | None, rows: Iterable[Sequence[object]], separator: str = ",") -> None:
    """A table of text; packed where the file is called .gz, with tabs where it is called .tsv. `header`: None for a table without one."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if ".tsv" in file.name else separator)
    writer.writerows([*([header] if header else []), *rows])
    file.parent.mkdir(parents=True, exist_ok=True)
    raw = text.getvalue().encode()
    file.write_bytes(gzip.compress(raw, mtime=0) if file.suffix == ".gz" else raw)
