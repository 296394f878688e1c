"""Situations in which data is found, each in small: a function a situation, which writes it into a folder and returns what is right to
understand of it. Where nothing can be right, `refused` says what the message must name."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from layouts.understood import TWO, Understood, dicom, picture, pictures, table, volume
from PIL import Image


def one_level_up(root: Path) -> Understood:
    """An unpacked archive: the root holds one folder, which holds train/CLASS and test/CLASS two levels deeper."""
    for split, count in (("train", 8), ("test", 4)):
        for name in ("ill", "well"):
            pictures(root / f"archive/images/{split}/{name}", count)
    return Understood(24, TWO, (), {"test": 8, "train": 16})


def class_then_split(root: Path) -> Understood:
    """CLASS/train and CLASS/test."""
    for name in ("ill", "well"):
        for split, count in (("train", 8), ("test", 4)):
            pictures(root / f"{name}/{split}", count)
    return Understood(24, TWO, (), {"test": 8, "train": 16})


def patient_then_class(root: Path) -> Understood:
    """PATIENT/CLASS/image."""
    for patient in range(8):
        for name in ("0", "1"):
            pictures(root / f"{10253 + patient}/{name}", 3)
    return Understood(48, {"label": {"0": 24, "1": 24}}, [6] * 8)


def class_then_patient(root: Path) -> Understood:
    """CLASS/PATIENT/study/image."""
    for name in ("ill", "well"):
        for patient in range(6):
            pictures(root / f"{name}/{name[0].upper()}{2000 + patient}/study1", 2)
    return Understood(24, TWO, [2] * 12)


def digits_in_a_class(root: Path) -> Understood:
    """Class folders of which one has a number in its name: 2019-nCoV."""
    for name in ("2019-nCoV", "healthy"):
        pictures(root / name, 30)
    return Understood(60, {"label": {"2019-nCoV": 30, "healthy": 30}})


def dicom_classes(root: Path) -> Understood:
    """Class folders of DICOM files; the patients are in the headers."""
    for k, name in enumerate(("ill", "well")):
        for n in range(6):
            dicom(root / f"{name}/{n}.dcm", f"P{k}{n // 2}", f"1.2.{10 * k + n + 1}", 10 * k + n)
    return Understood(12, {"label": {"ill": 6, "well": 6}}, [2] * 6)


def nifti_classes(root: Path) -> Understood:
    """Class folders of NIfTI files."""
    for name in ("control", "dementia"):
        for n in range(5):
            volume(root / f"{name}/{name[:3]}_{n:03d}.nii.gz", n)
    return Understood(20, {"label": {"control": 10, "dementia": 10}}, [2] * 10)


def bids(root: Path) -> Understood:
    """A BIDS data set: participants.tsv with the group of each subject."""
    rows = []
    for n in range(1, 11):
        volume(root / f"sub-{n:02d}/anat/sub-{n:02d}_T1w.nii.gz", n)
        rows.append([f"sub-{n:02d}", 40 + n, "MF"[n % 2], ("control", "patient")[n % 2]])
    table(root / "participants.tsv", ["participant_id", "age", "sex", "group"], rows)
    return Understood(20, {"label": {"control": 10, "patient": 10}}, [2] * 10)


def a_row_a_patient(root: Path) -> Understood:
    """A table with a row for each patient; the images lie in the patients' folders."""
    for patient in range(12):
        pictures(root / f"images/case{patient:02d}", 2)
    table(root / "clinical.csv", ["case_id", "age", "outcome"], [[f"case{n:02d}", 50, ("ill", "well")[n % 2]] for n in range(12)])
    return Understood(24, TWO, [2] * 12)


def names_of_patients(root: Path) -> Understood:
    """A table with a row for each patient, whose number begins the names of the files: 017_left.png."""
    for n in range(12):
        for side in ("left", "right"):
            picture(root / f"{n + 11:03d}_{side}.png", n)
    table(root / "grades.csv", ["patient", "grade"], [[f"{n + 11:03d}", ("ill", "well")[n % 2]] for n in range(12)])
    return Understood(24, TWO, [2] * 12)


def two_files_a_row(root: Path) -> Understood:
    """A row an examination, with the files of both breasts in two columns."""
    rows = []
    for n in range(12):
        for side in ("L", "R"):
            picture(root / f"{side}/scan{n}{side}.png", n)
        rows.append([f"P{n}", f"L/scan{n}L.png", f"R/scan{n}R.png", ("ill", "well")[n % 2]])
    table(root / "exams.csv", ["patient_id", "image_left", "image_right", "label"], rows)
    return Understood(24, TWO, [2] * 12)


def patient_and_image(root: Path) -> Understood:
    """Images with the same names in every patient's folder; the table has a column for each part of the path."""
    rows = []
    for patient in range(8):
        for n in range(3):
            picture(root / f"P{patient}/img{n}.png", n)
            rows.append([f"P{patient}", f"img{n}", ("ill", "well")[patient % 2]])
    table(root / "labels.csv", ["patient_id", "image_id", "label"], rows)
    return Understood(24, TWO, [3] * 8)


def semicolons(root: Path) -> Understood:
    """A table as a German or French Excel writes it: semicolons, decimal commas, a byte order mark."""
    rows = "".join(f"{name};P{n // 2};3,{n};{('ill', 'well')[n % 2]}\r\n" for n, name in enumerate(pictures(root)))
    (root / "labels.csv").write_bytes(b"\xef\xbb\xbf" + ("path;patient;size;label\r\n" + rows).encode())
    return Understood(24, TWO, [2] * 12)


def no_header(root: Path) -> Understood:
    """A table without a header: only the images can be found, and the columns are called column 1 and column 2."""
    table(root / "labels.csv", None, [[name, f"DOE^{n}"] for n, name in enumerate(pictures(root))])
    return Understood(24)


def no_header_named(root: Path) -> Understood:
    """A table without a header, whose columns the command names."""
    table(root / "labels.csv", None, [[name, ("ill", "well")[n % 2]] for n, name in enumerate(pictures(root))])
    return Understood(24, TWO)


def packed_tabs(root: Path) -> Understood:
    """A packed table with tabs, one level below the root."""
    names = pictures(root / "images")
    table(root / "meta/list.tsv.gz", ["file", "pid", "label"], [[name, n // 2, ("ill", "well")[n % 2]] for n, name in enumerate(names)])
    return Understood(24, TWO, [2] * 12)


def table_beside(root: Path) -> Understood:
    """--data names the folder of the images, and the table lies beside the folder."""
    names = pictures(root / "png")
    rows = [[f"png/{name}", n // 2, ("ill", "well")[n % 2]] for n, name in enumerate(names)]
    table(root / "annotations.csv", ["path", "patient", "label"], rows)
    return Understood(24, TWO, [2] * 12)


def table_elsewhere(root: Path) -> Understood:
    """Images on a mount that is read only, and a table elsewhere with the paths of a Windows machine."""
    names = pictures(root / "mount/images")
    rows = [[f"D:\\xray\\images\\{name}", n // 2, ("no", "yes")[n % 2]] for n, name in enumerate(names)]
    table(root / "home/labels.csv", ["path", "patient", "effusion"], rows)
    return Understood(24, {"effusion": {"0": 12, "1": 12}}, [2] * 12)


def words_for_marks(root: Path) -> Understood:
    """Findings marked True and False, yes and no, positive and negative, 1.0 and 0.0."""
    rows = []
    for n, name in enumerate(pictures(root)):
        rows.append([name, n % 2 == 0, "yes" if n % 3 else "No", "positive" if n % 4 else "negative", f"{float(n % 2):.1f}"])
    table(root / "labels.csv", ["path", "effusion", "mass", "nodule", "edema"], rows)
    even = {"0": 12, "1": 12}
    return Understood(24, {"edema": even, "effusion": even, "mass": {"0": 8, "1": 16}, "nodule": {"0": 6, "1": 18}})


def lists_with_commas(root: Path) -> Understood:
    """Several findings in one cell, with commas between, and an empty cell for an image that nobody has read."""
    cells = ("mass", "mass, nodule", "nodule", "normal", "")
    table(root / "labels.csv", ["image", "findings"], [[name, cells[n % 5]] for n, name in enumerate(pictures(root, 25))])
    return Understood(25, {"mass": {"0": 10, "1": 10}, "nodule": {"0": 10, "1": 10}})


def codes_for_no_label(root: Path) -> Understood:
    """Images without a label are coded -1, nan, NA and unknown."""
    codes = ("-1", "nan", "NA", "unknown")
    names = pictures(root)
    table(root / "labels.csv", ["path", "label"], [[name, n % 2 if n < 16 else codes[n % 4]] for n, name in enumerate(names)])
    return Understood(24, {"label": {"0": 8, "1": 8}})


def upper_case(root: Path) -> Understood:
    """One class in three spellings."""
    cells = ("Normal", "Ill", "normal", "Ill", "NORMAL ", "Ill", "Normal", "Ill")
    table(root / "labels.csv", ["path", "label"], [[name, cells[n % 8]] for n, name in enumerate(pictures(root))])
    return Understood(24, {"label": {"Ill": 12, "Normal": 12}})


def numbers_to_predict(root: Path) -> Understood:
    """Bone age in months: a number to predict, and no class."""
    rows = [[name, 10 + 7 * n % 211, ("True", "False")[n % 2]] for n, name in enumerate(pictures(root, 60))]
    table(root / "boneage-training-dataset.csv", ["id", "boneage", "male"], [[row[0].removesuffix(".png"), *row[1:]] for row in rows])
    return Understood(60)


def readers_differ(root: Path) -> Understood:
    """Three readers with one class each for an image: the class of most counts."""
    rows = []
    for n, name in enumerate(pictures(root, 12)):
        rows += [[name, reader, ("ill", "well")[(n + (reader == "R3")) % 2]] for reader in ("R1", "R2", "R3")]
    table(root / "reads.csv", ["path", "reader", "label"], rows)
    return Understood(12, {"label": {"ill": 6, "well": 6}})


def rows_contradict(root: Path) -> Understood:
    """Two rows for an image with different classes, and nothing that says how they are meant: asked."""
    names = pictures(root)
    rows = [[name, ("ill", "well")[n % 2]] for n, name in enumerate(names)]
    table(root / "labels.csv", ["path", "label"], [*rows, [names[0], "well"]])
    return Understood(24, refused="data.source.merge=any")


def several_names(root: Path) -> Understood:
    """IDs without folders, and two files of each name: asked."""
    for folder in ("a", "b"):
        pictures(root / folder, 12)
    table(root / "labels.csv", ["image_id", "label"], [[f"{n:03d}", ("ill", "well")[n % 2]] for n in range(12)])
    return Understood(24, {"label": {"a": 12, "b": 12}}, refused="a name that several files below its folder have")


def images_in_parquet(root: Path) -> Understood:
    """A data set of Hugging Face: the images are inside Parquet files, and a file's name is its split."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    images = [{"bytes": buffer.getvalue(), "path": f"{n}.png"} for n in range(4)]
    (root / "data").mkdir(parents=True)
    pq.write_table(pa.table({"image": images, "label": [0, 1, 0, 1]}), root / "data/train-00000-of-00001.parquet")
    return Understood(4, {"label": {"0": 2, "1": 2}}, splits={"train": 4})
