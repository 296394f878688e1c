"""Layouts invented at random: depth of folders, kind and place of the table, form of the ID, coding of the labels, patient and split. Each is
written with the truth, which medssl has to find or to ask for."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from layouts.understood import list_images, table

from medssl.errors import UserError

_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    + "3a7e9b550000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)
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
    choose = random.Random(seed)
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
            picture = Picture(f"{start}{folders}img_{number:04d}.png", None, None, {})
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
        file.write_bytes(_PNG)
    if with_table:
        _write_table(pictures, root, tree, pick, choose)
    return Layout(said, root / "data", [picture for picture, *_ in pictures])


def _write_table(pictures: list, root: Path, tree: str, pick: Callable, choose: random.Random) -> None:
    """A table with labels, patients and splits, which become part of the truth."""
    by_patient = tree == "patients" and pick("a row a patient", (True, False))
    id_form = "patient" if by_patient else pick("id", ("path", "name", "stem", "other machine", "windows", "stem of path"))
    id_column = (
        pick("id column", ("patient_id", "subject"))
        if by_patient
        else pick("id column", ("path", "image_id", "Image Index", "filename", "id", "x1"))
    )
    patient_column = "" if by_patient else pick("patient column", ("", "patient_id", "Subject ID", "PID", "lesion_id"))
    split_column = "" if "split" in tree else pick("split column", ("", "split", "Subset"))
    coding = "classes" if "classes" in tree else pick("coding", ("classes", "case", "marks", "one-hot", "lists", "single mark", "codes"))
    encode = _coding(coding, pick, choose)
    spell = {
        "path": lambda file: file,
        "name": lambda file: file.rpartition("/")[2],
        "stem": lambda file: file.rpartition("/")[2].removesuffix(".png"),
        "other machine": lambda file: f"/mnt/projects/xray/data/{file}",
        "windows": lambda file: "D:\\xray\\" + file.replace("/", "\\"),
        "stem of path": lambda file: file.removesuffix(".png"),
    }
    rows, seen = [], {}
    for n, (picture, patient, split, name) in enumerate(pictures):
        position = list(dict.fromkeys(each[1] for each in pictures)).index(patient) if by_patient else n
        cells, labels = seen.setdefault(patient, encode(position, name)) if by_patient else encode(position, name)
        if not by_patient or not any(row[id_column] == patient for row in rows):
            row: Row = {id_column: patient if by_patient else spell[id_form](picture.file)}
            row |= {patient_column: patient} if patient_column else {}
            row |= {split_column: {"train": "Train", "val": "validation", "test": "TEST"}[split]} if split_column else {}
            rows.append({**row, **cells, "age": str(30 + 7 * n % 50), "comment": f"free text, {n}"})
        picture.labels = {**picture.labels, **labels}
        picture.patient = patient if patient_column or by_patient else picture.patient
        picture.split = split if split_column else picture.split
    columns = list(rows[0])
    choose.shuffle(columns)
    choose.shuffle(rows)
    place = root / "data" / pick("place", ("", "", "tables"))
    kind = pick("kind", (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ";"))
    file = place / f"{pick('name', ('labels', 'list', 'metadata'))}{'.csv' if kind == ';' else kind}"
    if kind == ".parquet":
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows)[columns].to_parquet(file)
    else:
        table(file, columns, [[row[column] for column in columns] for row in rows], kind if kind == ";" else ",")


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
