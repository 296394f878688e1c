"""Names, numbers, dates and paths of patients, planted as canaries wherever data can hold them: none may be in anything that a command
writes or says. Only the site's private list and its key are left out of the search."""

import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

pytestmark = pytest.mark.slow
ROOT_UID = "1.2.826.0.1.3680043.99.7731"
CANARY = "canary"  # is part of every text below; numbers and dates have no letters
CANARIES = (CANARY, ROOT_UID, "19070503", "20310917", "1907-05-03", "773155")
PATIENTS = 20


def dicom(file: Path, patient: int, view: int, **changes: object) -> None:
    """A radiograph of 16 x 16 pixels whose tags say who the patient is, with some elements changed, or taken out where None."""
    bright = 60 * (patient % 2)
    pixels = np.random.default_rng((patient, view)).integers(0, 150, (16, 16), np.uint8)
    pixels[4:12, 4:12] += np.uint8(bright)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    elements = {
        "SOPClassUID": ComputedRadiographyImageStorage, "SOPInstanceUID": f"{ROOT_UID}.1.{patient}.{view}", "Modality": "CR",
        "StudyInstanceUID": f"{ROOT_UID}.2.{patient}", "SeriesInstanceUID": f"{ROOT_UID}.3.{patient}",
        "PatientName": f"CANARY^JOHN{patient}", "PatientID": f"CANARY-{patient:03}", "PatientBirthDate": "19070503",
        "StudyDate": "20310917", "SeriesDate": "20310917", "AccessionNumber": f"773155{patient}", "StudyID": f"CANARY{patient}",
        "InstitutionAddress": "1 Canary Street", "ReferringPhysicianName": "CANARY^DOCTOR", "PatientComments": "canary sings",
        "StudyDescription": "chest of canary", "OtherPatientIDs": "CANARY-OTHER", "DeviceSerialNumber": "CANARY-SERIAL",
        "Rows": 16, "Columns": 16, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 1, "PixelRepresentation": 0,
        "PhotometricInterpretation": "MONOCHROME2", "RescaleIntercept": "0", "RescaleSlope": "1", "BurnedInAnnotation": "NO",
        "PixelData": pixels.tobytes(), **changes,
    }  # fmt: skip
    for name, value in elements.items():
        if value is not None:
            setattr(header, name, value)
    if "PixelData" in header:
        header["PixelData"].VR = "OB"
    file.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(file, enforce_file_format=True)


def whole(root: Path) -> None:
    """Two radiographs of each of 20 patients, each in a folder of the patient's name, and a table with labels beside them."""
    rows = ["path,patient,study,note,label"]
    for patient in range(PATIENTS):
        for view in range(2):
            name = f"CANARY^JOHN{patient}_19070503/canary_{patient}_{view}.dcm"
            dicom(root / name, patient, view)
            rows.append(f"{name},CANARY-{patient:03},canary study {patient},773155{patient},{('well', 'sick')[patient % 2]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


def damaged(root: Path) -> None:
    """The ways in which a radiograph cannot be used, each with the same canaries."""
    broken = root / "CANARY^BROKEN"
    dicom(broken / "canary_constant.dcm", 90, 0, RescaleSlope="0")
    dicom(broken / "canary_burned.dcm", 90, 1, BurnedInAnnotation="YES")
    dicom(broken / "canary_plan.dcm", 90, 2, Rows=None, Columns=None, PixelData=None, Modality="RTPLAN")
    dicom(broken / "canary_rows.dcm", 90, 3, Rows=0)
    dicom(broken / "canary_syntax.dcm", 90, 4, PhotometricInterpretation="CANARY")
    dicom(broken / "canary_modality.dcm", 90, 5, Modality="CANARY", BitsStored=77)
    dicom(broken / "canary_frames.dcm", 90, 6, NumberOfFrames=10)
    dicom(broken / "canary_cut.dcm", 90, 7)
    content = (broken / "canary_frames.dcm").read_bytes()
    (broken / "canary_frames.dcm").write_bytes(content.replace(b"IS\x02\x0010", b"IS\x02\x00CA"))
    content = (broken / "canary_cut.dcm").read_bytes()
    (broken / "canary_cut.dcm").write_bytes(content[:-10])
    (broken / "canary_header.dcm").write_bytes(content[:400])
    (broken / "canary_text.dcm").write_text("CANARY^TEXT 19070503")
    (broken / "canary_empty.dcm").touch()
    (broken / "canary_link.dcm").symlink_to("canary_gone.dcm")


def tables(root: Path) -> None:
    """Tables that are wrong, one a folder, beside two whole pictures."""
    good = "canary_0.png,CANARY-1\ncanary_1.png,CANARY-2\n"
    for name, text in {
        "missing": f"path,patient\n{good}canary_gone.png,CANARY-3\n",
        "outside": f"path,patient\n{good}../canary_outside.png,CANARY-3\n",
        "wide": f"path,patient\n{good}canary_1.png,CANARY-3,CANARY^JOHN\n",
        "latin": "path,patient\ncanary_0.png,CANÄRY CANARY\n",
    }.items():
        (root / name).mkdir(parents=True)
        for number in range(2):
            picture(root / name / f"canary_{number}.png", number)
        (root / name / "labels.csv").write_bytes(text.encode("latin-1" if name == "latin" else "utf-8"))


def picture(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (24, 24), np.uint8)).save(file)


def people(root: Path) -> None:
    """Pictures in folders of patients' names, one of them broken, and volumes likewise."""
    for number in range(6):
        picture(root / f"png/CANARY^JOHN_{number}_19070503/canary_{number}.png", number)
        file = root / f"nifti/sub-canary{number}/CANARY_{number}.nii.gz"
        file.parent.mkdir(parents=True)
        image = nibabel.Nifti1Image(np.random.default_rng(number).integers(0, 99, (8, 8, 3), np.int16), np.eye(4))  # pyright: ignore
        image.header["descrip"], image.header["db_name"] = b"CANARY^JOHN 19070503", b"CANARY"
        image.to_filename(file)
    (root / "png/CANARY^JOHN_0_19070503/canary_half.png").write_bytes(b"\x89PNG\r\n\x1a\ncanary")
    cut = root / "nifti/sub-canary0/CANARY_0.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-9])


# One process runs all commands, so that torch and MLflow are imported once. What each prints goes into a file of its own, also what
# libraries in C print.
DRIVER = """
import json, os, sys
from medssl.__main__ import main
printed = [os.dup(1), os.dup(2)]
for number, arguments in enumerate(json.load(sys.stdin)):
    file = os.open(f"../said/{number}", os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 1), os.dup2(file, 2), os.umask(0o022)
    sys.argv = ["medssl", *arguments]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    sys.stdout.flush(), sys.stderr.flush()
    os.dup2(printed[0], 1), os.dup2(printed[1], 2)
    print(code, flush=True)
"""


class Site:
    """A folder with data, a cache and runs, in which commands are run; `said` keeps what each printed, by its arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, {}
        self.data, self.work, self.cache = folder / "data", folder / "work", folder / "cache"
        self.work.mkdir()

    def run(self, commands: list[list[str]]) -> list[int]:
        """The exit code of each."""
        (self.folder / "said").mkdir()
        environment = {**os.environ, "MEDSSL_CACHE": str(self.cache), "LOGNAME": "canary"}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps(commands),
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        texts = [(self.folder / "said" / str(number)).read_text() for number in range(len(commands))]
        self.said = {" ".join(command): text for command, text in zip(commands, texts, strict=True)} | {"all": done.stderr}
        return [int(line) for line in done.stdout.splitlines()]

    def outputs(self) -> Iterator[Path]:
        """Every file but the private list and the site's key."""
        for file in sorted(file for root in (self.cache, self.work) for file in root.rglob("*") if file.is_file()):
            if (self.cache / "private") not in file.parents and file != self.cache / "site.key":
                yield file


def command(*arguments: str, sets: tuple[str, ...] = ()) -> list[str]:
    return [*arguments, *(part for item in sets for part in ("--set", item))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, small: list[str]) -> Site:
    """All commands, those that succeed and those that fail, over data full of canaries."""
    site = Site(tmp_path_factory.mktemp("site"))
    whole(site.data / "dicom")
    damaged(site.data / "dicom")
    tables(site.data / "tables")
    people(site.data)
    prepare = ("prepare", "--preset", "medmnist_cpu", "--data")
    size, bad, quick = "data.size=16", "data.max_bad_fraction=0.5", "train.workers=0"
    trained = (*small, bad, "train.steps=2", quick, "method.support_size=16")
    wrong = [f"../data/tables/{folder.name}" for folder in sorted((site.data / "tables").iterdir())]
    expected = [
        (2, command(*prepare, "../data/dicom", sets=(size,))),  # too many faulty files
        (0, command(*prepare, "../data/dicom", sets=(size, bad))),
        (0, command("pretrain", "--data", "../data/dicom", sets=trained)),
        (0, command("finetune", "--labels", "50pct", sets=("finetune.bootstraps=100", "finetune.draws=1", quick))),
        (0, command("embed", "--data", "../data/dicom")),
        (0, command("neighbours", "--query", "../data/dicom/CANARY^JOHN0_19070503/canary_0_0.dcm", "--in", "features.parquet")),
        *((0, command(*prepare, data)) for data in wrong),  # the table is left out with a warning
        # rows without an image are counted, and a table that cannot be read is refused where it is named
        *((2 * data.endswith(("latin", "wide")), command(*prepare, data, sets=("data.source.table=labels.csv",))) for data in wrong),
        (2, command(*prepare, "../data/tables/missing/labels.csv")),
        *((0, command(*prepare, f"../data/{kind}", sets=(size, "data.max_bad_fraction=0.6"))) for kind in ("png", "nifti")),
    ]
    assert site.run([line for _, line in expected]) == [code for code, _ in expected], site.said
    return site


def contents(file: Path) -> Iterator[bytes]:
    """A file's bytes, and what is packed in them: the entries of an archive, a picture's texts, a table's columns, a database's rows."""
    content = file.read_bytes()
    yield content
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            yield from (archive.read(name) + name.encode() for name in archive.namelist())
    elif content.startswith(b"\x89PNG"):
        with Image.open(file) as image:
            image.load()
            yield repr(image.info).encode()
    elif file.suffix == ".parquet":
        frame = pd.read_parquet(file)
        yield (frame.to_csv() + json.dumps([str(name) for name in frame])).encode()
    elif content.startswith(b"SQLite format 3\0"):
        with sqlite3.connect(file) as database:
            yield "\n".join(database.iterdump()).encode()
        database.close()


def hits(content: bytes) -> list[str]:
    """The canaries that stand there, in any case."""
    found = content.lower()
    return [canary for canary in CANARIES if canary.encode() in found]


@pytest.mark.fault("S7", "S8")
def test_no_identity_is_in_anything_that_is_printed(site: Site) -> None:
    leaks = {command: [line for line in said.splitlines() if hits(line.encode())] for command, said in site.said.items()}
    leaks = {command: lines for command, lines in leaks.items() if lines}
    assert not leaks


@pytest.mark.fault("S5", "S8")
def test_no_identity_is_in_any_file_or_file_name_of_cache_runs_and_tracking(site: Site) -> None:
    files = list(site.outputs())
    names = {file.name for file in files}
    assert names >= {
        "table.parquet",
        "features.parquet",
        "neighbours.png",
        "audit.json",
        "last.ckpt",
        "encoder.safetensors",
        "metrics.jsonl",
        "mlflow.db",
        "report.html",
        "views.png",
    }
    leaks = {str(file.relative_to(site.folder)): found for file in files for content in contents(file) if (found := hits(content))}
    assert not leaks
    folders = [path.relative_to(site.folder) for root in (site.cache, site.work) for path in root.rglob("*")]
    assert not [path for path in folders if hits(str(path).encode())]


@pytest.mark.fault("S8")
def test_the_search_finds_canaries_where_they_are(site: Site, tmp_path: Path) -> None:
    """The private list names every file that was left out; and packed canaries are found too."""
    lists = [file.read_text() for file in (site.cache / "private").iterdir()]
    assert any("canary_constant.dcm" in text and "canary_cut.dcm" in text for text in lists)
    assert all(hits(text.encode()) for text in lists)
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", "x" * 1000 + "Canary^John")
    pd.DataFrame({"note": ["x", "773155"] * 9}).to_parquet(tmp_path / "a.parquet", compression="zstd")
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("create table t as select '1907-05-03' as day")
    database.close()
    for file in tmp_path.iterdir():
        assert any(hits(content) for content in contents(file)), file.name


@pytest.mark.fault("S11")
def test_all_that_is_written_is_for_its_user_alone(site: Site) -> None:
    written = [site.cache, *site.cache.rglob("*"), *site.work.rglob("*")]
    loose = {str(path.relative_to(site.folder)): oct(path.stat().st_mode & 0o777) for path in written if path.stat().st_mode & 0o077}
    assert not loose
