"""Situations as `situations` has them, of what hospitals export: spreadsheets, network storage, numbers of examinations, sequences."""

from pathlib import Path

import pydicom
from layouts.understood import TWO, Understood, dicom, picture, pictures, table, volume


def _of_two(number: int) -> str:
    return ("ill", "well")[number % 2]


def _dicoms(root: Path, count: int = 24) -> None:
    for n in range(count):
        dicom(root / f"{n // 2:02d}/{n:02d}.dcm", f"{1000 + n // 2}", f"1.9.{n}", n)


def numbers_of_a_spreadsheet(root: Path) -> Understood:
    """IDs that a spreadsheet has changed: 00012.png became 12.0."""
    pictures(root, name="{:05d}.png")
    table(root / "labels.csv", ["image_id", "label"], [[f"{n}.0", _of_two(n)] for n in range(24)])
    return Understood(24, TWO)


def german_columns(root: Path) -> Understood:
    """A German table, with semicolons. The number of a patient could be the name of a file, too: 3 and 003.png."""
    rows = [[name, n, n // 3, _of_two(n), "mw"[n // 3 % 2]] for n, name in enumerate(pictures(root))]
    table(root / "liste.csv", ["Bild", "Fallnummer", "Patienten-ID", "Diagnose", "Geschlecht"], rows, ";")
    return Understood(24, TWO, [3] * 8)


def site_and_image(root: Path) -> Understood:
    """Images of two sites with the same names. The table has a column for the site and one for the name."""
    for site in ("north", "south"):
        pictures(root / site, 12)
    rows = [[f"{n:03d}.png", site, _of_two(n)] for site in ("north", "south") for n in range(12)]
    table(root / "labels.csv", ["image", "site", "label"], rows)
    return Understood(24, TWO)


def patient_and_side(root: Path) -> Understood:
    """Files called PATIENT_SIDE, and a row for each side: the patient alone names two images."""
    pictures(root, 12, "{:02d}_L.png")
    pictures(root, 12, "{:02d}_R.png")
    rows = [[f"{n:02d}", side, _of_two(n + (side == "R"))] for n in range(12) for side in "LR"]
    table(root / "birads.csv", ["PatientID", "Laterality", "label"], rows)
    return Understood(24, TWO, [2] * 12)


def instances(root: Path) -> Understood:
    """A table that names DICOM files by their SOPInstanceUID."""
    _dicoms(root)
    table(root / "labels.csv", ["SOPInstanceUID", "label"], [[f"1.2.3.{n}", _of_two(n)] for n in range(24)])
    return Understood(24, TWO, [2] * 12)


def accession_numbers(root: Path) -> Understood:
    """Reports from the information system: the accession number of the examination, and the finding."""
    _dicoms(root)
    for n in range(24):
        file = root / f"{n // 2:02d}/{n:02d}.dcm"
        header = pydicom.dcmread(file)
        header.AccessionNumber = f"A{500 + n}"
        header.save_as(file)
    table(root / "reports.csv", ["Accession Number", "finding"], [[f"A{500 + n}", _of_two(n)] for n in range(24)])
    return Understood(24, TWO, [2] * 12)


def patients_of_a_spreadsheet(root: Path) -> Understood:
    """Labels by patient, whose number a spreadsheet has written as 1000.0."""
    _dicoms(root)
    table(root / "labels.csv", ["patient", "label"], [[f"{1000 + n}.0", _of_two(n)] for n in range(12)])
    return Understood(24, TWO, [2] * 12)


def network_storage(root: Path) -> Understood:
    """A folder of a network storage, which keeps a thumbnail of every picture in @eaDir, and its waste in #recycle."""
    for name in ("ill", "well"):
        for each in pictures(root / name, 12):
            picture(root / name / "@eaDir" / each / "THUMB_M.jpg")
        picture(root / name / "#recycle/000.png")
    return Understood(24, TWO)


def a_folder_without_labels(root: Path) -> Understood:
    """Class folders, and one called unlabelled."""
    for name in ("ill", "well", "unlabelled"):
        pictures(root / name, 12)
    return Understood(36, TWO)


def folders_of_days(root: Path) -> Understood:
    """A folder for each day: no classes."""
    for day in (3, 4, 5):
        pictures(root / f"2024-06-{day:02d}", 8)
    return Understood(24)


def day_then_class(root: Path) -> Understood:
    """DATE/CLASS."""
    for day in (3, 4, 5):
        for name in ("ill", "well"):
            pictures(root / f"202406{day:02d}/{name}", 4)
    return Understood(24, TWO)


def spreadsheet(root: Path) -> Understood:
    """The labels are in a spreadsheet, which medssl does not read: the images are used, and medssl says what to do."""
    pictures(root)
    (root / "labels.xlsx").write_bytes(b"PK\x03\x04")
    return Understood(24)


def sequences(root: Path) -> Understood:
    """Volumes named CASE_SEQUENCE in one folder: the files of a case are of one patient."""
    for case in range(4):
        for sequence in ("t1", "flair", "t2"):
            volume(root / f"{case:03d}_{sequence}.nii.gz", case)
    return Understood(24, patients=[6] * 4)


def channels(root: Path) -> Understood:
    """nnU-Net's names: case_0000 and case_0001 are two channels of one case. The table has a row for each case."""
    for case in range(6):
        for channel in range(2):
            volume(root / f"imagesTr/c_{case:03d}_{channel:04d}.nii.gz", case)
    table(root / "grades.csv", ["case", "grade"], [[f"c_{case:03d}", ("high", "low")[case % 2]] for case in range(6)])
    return Understood(24, {"label": {"high": 12, "low": 12}}, [4] * 6)
