"""Layouts invented at random: depth of folders, kind and place of the tables, form of the ID, coding of the labels, patient and split. Each
is written with the truth, which medssl has to find or to ask for."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from layouts.understood import list_images, table

from medssl.errors import UserError

_WORDS = (("ill", "well"), ("benign", "malignant", "normal"), ("0", "1", "2", "3"), ("Grade <2", "Grade 3"), ("covid", "no finding"))
_MARKS = (("True", "False"), ("1", "0"), ("1.0", "0.0"), ("yes", "no"), ("Y", "N"), ("positive", "negative"), ("TRUE", "FALSE"))
_MISSING = ("", "nan", "NA", "unknown", "-1", "N/A", "null")
_FINDINGS = ("effusion", "mass", "nodule")

Row = dict[str, str]


@dataclass
class Picture:
    """The truth of one image."""

    file: str
    patient: str | None
    split: str | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Layout:
    """`said`: the choices, for a message; `data`: what --data names; `truth`: of each image."""

    said: list[str]
    data: Path
    truth: list[Picture]


def invent(seed: int, root: Path) -> Layout:
    """Writes the layout of this seed below `root`."""
    choose = random.Random(seed)  # noqa: S311 no secrets
    said: list[str] = []

    def pick(what: str, values):
        value = choose.choice(values)
        said.append(f"{what}: {value}")
        return value

    tree = pick("tree", ("flat", "deep", "patients", "classes", "classes/patients", "patients/classes", "split/classes", "classes/split"))
    with_table = tree in ("flat", "deep", "patients") or pick("table", (True, False))
    words = pick("words", _WORDS)
    patients = [f"P{choose.randrange(10**4, 10**5)}{n:02d}" for n in range(choose.randrange(8, 14))]
    each = pick("images of a patient", (1, 2, 3))
    same_class = "classes" not in tree or not tree.startswith("patients")
    suffix = pick("suffix", (".png", ".PNG", ".jpeg"))
    naming = pick("names of files", ("img_0001", "1", "UID", "again") if tree == "patients" else ("img_0001", "1", "UID"))
    pictures, number, start = [], 0, pick("entered", ("", "archive/", "a/b/"))
    for k, patient in enumerate(patients):
        split = ("train", "train", "val", "test")[k % 4]
        for n in range(each):
            name = words[(k if same_class else k + n) % len(words)]
            number += 1
            folders = {
                "flat": "", "deep": "images/", "patients": f"{patient}/", "classes": f"{name}/", "classes/patients": f"{name}/{patient}/",
                "patients/classes": f"{patient}/{name}/", "split/classes": f"{split}/{name}/", "classes/split": f"{name}/{split}/",
            }[tree]  # fmt: skip
            name_of_file = {"img_0001": f"img_{number:04d}", "1": f"{number}", "UID": f"1.2.840.{number}.7", "again": f"{n}"}[naming]
            picture = Picture(f"{start}{folders}{name_of_file}{suffix}", None, None, {})
            if "classes" in tree:
                picture.labels = {"label": name}
            if "patients" in tree:
                picture.patient = patient
            if "split" in tree:
                picture.split = split
            pictures.append((picture, patient, split, name))
    for picture, *_ in pictures:
        file = root / "data" / picture.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")  # listing opens no picture
    if with_table:
        _write_tables(pictures, root, tree, naming, pick, choose)
    return Layout(said, root / "data", [picture for picture, *_ in pictures])


def _write_tables(pictures: list, root: Path, tree: str, naming: str, pick: Callable, choose: random.Random) -> None:
    """One or two tables with labels, patients and splits, which become part of the truth."""
    by_patient = tree == "patients" and pick("a row a patient", (True, False))
    paths = ("path", "other machine", "windows", "stem of path")
    id_form = "patient" if by_patient else pick("id", paths if naming == "again" else (*paths, "name", "stem"))
    columns = ("patient_id", "subject") if by_patient else ("path", "image_id", "Image Index", "filename", "id", "x1")
    id_column = pick("id column", columns)
    patient_column = "" if by_patient else pick("patient column", ("", "patient_id", "Subject ID", "PID", "lesion_id"))
    split_column = "" if "split" in tree else pick("split column", ("", "split", "Subset"))
    coding = "classes" if "classes" in tree else pick("coding", ("classes", "case", "marks", "one-hot", "lists", "single mark", "codes"))
    encode = _coding(coding, pick, choose)
    further = pick("further columns", ((), ("sex", "age"), ("Unnamed: 0", "age", "fold"), ("height_cm", "comment"), ("comment", "device")))
    without_row = not by_patient and "classes" not in tree and pick("images without a row", (False, True))
    order = list(dict.fromkeys(patient for _, patient, _, _ in pictures))
    rows: dict[str, Row] = {}
    for n, (picture, patient, split, name) in enumerate(pictures):
        if without_row and n % 9 == 8:
            continue
        position = order.index(patient) if by_patient else n
        cells, labels = encode(position, name)
        key = patient if by_patient else _spell(id_form, picture.file)
        row: Row = {id_column: key}
        row |= {patient_column: patient} if patient_column else {}
        row |= {split_column: {"train": "Train", "val": "validation", "test": "TEST"}[split]} if split_column else {}
        rows[key] = {**row, **cells, **{column: _further(column, n) for column in further}}
        picture.labels = {**picture.labels, **labels}
        picture.patient = patient if patient_column or by_patient else picture.patient
        picture.split = split if split_column else picture.split
    listed = list(rows.values())
    if naming != "again" and pick("rows without an image", (False, False, True)):
        listed += [{**row, id_column: _absent(row[id_column], id_form)} for row in listed[: len(listed) // 3]]
    choose.shuffle(listed)
    names = list(listed[0])
    choose.shuffle(names)
    if split_column and pick("split in a table of its own", (False, True)):
        others = [name for name in names if name != split_column]
        _write(root, [{name: row[name] for name in (id_column, split_column)} for row in listed], "split", pick)
        _write(root, [{name: row[name] for name in others} for row in listed], "metadata", pick)
    else:
        _write(root, [{name: row[name] for name in names} for row in listed], pick("name", ("labels", "list", "metadata")), pick)


def _spell(form: str, file: str) -> str:
    name, stem = file.rpartition("/")[2], file.rpartition(".")[0]
    spelt = {"path": file, "name": name, "stem": stem.rpartition("/")[2], "stem of path": stem}
    spelt |= {"other machine": f"/mnt/projects/xray/data/{file}", "windows": "D:\\xray\\" + file.replace("/", "\\")}
    return spelt[form]


def _absent(key: str, form: str) -> str:
    """The key of an image or patient that is not there."""
    if form in ("name", "path", "other machine", "windows"):
        start, _, suffix = key.rpartition(".")
        return f"{start}9999.{suffix}"
    return f"{key}9999"


def _further(column: str, n: int) -> str:
    """A cell that says nothing of labels."""
    return {
        "sex": "MF"[n % 2], "age": str(n % 40), "Unnamed: 0": str(n), "fold": str(n % 5), "height_cm": f"{150 + n / 3:.1f}",
        "comment": f"free text, {n}", "device": "ABC"[n % 3],
    }[column]  # fmt: skip


def _write(root: Path, rows: list[Row], name: str, pick: Callable) -> None:
    kind = pick("kind", (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ";"))
    file = root / "data" / pick("place", ("", "", "tables")) / f"{name}{'.csv' if kind == ';' else kind}"
    if kind == ".parquet":
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_parquet(file)
    else:
        table(file, list(rows[0]), [list(row.values()) for row in rows], kind if kind == ";" else ",")


def _coding(coding: str, pick: Callable, choose: random.Random) -> Callable[[int, str], tuple[Row, dict[str, str]]]:
    """encode(n, class) -> (the cells of a row, its labels)."""
    column = pick("label column", ("label", "diagnosis", "Finding Labels", "dx", "class_name"))
    if coding == "classes":
        return lambda n, name: ({column: name}, {"label": name})
    if coding == "case":
        return lambda n, name: ({column: ("sick", "Well", "sick", "Well", "Sick", " well")[n % 6]}, {"label": ("sick", "Well")[n % 2]})
    if coding == "codes":
        code = pick("code", _MISSING)
        return lambda n, name: ({column: code if n % 5 == 4 else name}, {"label": name} if n % 5 != 4 else {})
    if coding == "single mark":
        marks = pick("marks", _MARKS)
        return lambda n, name: ({"effusion": marks[n % 2]}, {"effusion": str(1 - n % 2)})
    if coding == "marks":
        marks, code = pick("marks", _MARKS), pick("code", ("", "nan", "NA"))
        return lambda n, name: _marks(n, marks, code)
    if coding == "one-hot":
        marks, classes = pick("marks", _MARKS), ("MEL", "NV", "BCC")
        return lambda n, name: ({each: marks[int(n % 3 != k)] for k, each in enumerate(classes)}, {"label": classes[n % 3]})
    separator = pick("separator", ("|", ";", ", ", "python"))
    return lambda n, name: _list(n, column, separator)


def _marks(n: int, marks: tuple[str, str], code: str) -> tuple[Row, dict[str, str]]:
    present = [n % 2 == 0, n % 3 == 0, n % 4 == 0]
    cells = {finding: marks[not found] for finding, found in zip(_FINDINGS, present, strict=True)}
    labels = {finding: str(int(found)) for finding, found in zip(_FINDINGS, present, strict=True)}
    if n % 7 == 6:
        cells["mass"] = code
        del labels["mass"]
    return cells, labels


def _list(n: int, column: str, separator: str) -> tuple[Row, dict[str, str]]:
    names = (["effusion"], ["effusion", "mass"], ["mass", "nodule"], [], ["nodule"])[n % 5]
    cell = str(names) if separator == "python" else separator.join(names) or "No Finding"
    return {column: cell}, {finding: str(int(finding in names)) for finding in _FINDINGS}


def compare(layout: Layout) -> str:
    """ "right"; "asked", where medssl refuses the data or the table; else what is wrong, in words."""
    try:
        source = list_images(layout.data)
    except UserError:
        return "asked"
    if source.table_error:
        return "asked"
    found = {record.locator: record for record in source.records}
    for picture in layout.truth:
        record = found.get(picture.file)
        if record is None:
            return "an image is missing"
        for what, is_so, right in (
            ("labels", _plain(record.labels), _plain(picture.labels)),
            ("patient", record.patient, picture.patient),
            ("split", record.split, picture.split),
        ):
            if is_so != right:
                return f"{what} of {picture.file}: {is_so}, not {right}; notes: {source.notes}"
    return "right"


def _plain(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels without upper case, as the spelling of a class is that of most images; one label alone without its name."""
    if len(labels) == 1:
        return {"label": next(iter(labels.values())).casefold()}
    return {name: value.casefold() for name, value in labels.items()}
