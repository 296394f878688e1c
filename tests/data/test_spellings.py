"""One patient, one class and one file under several spellings; and what stays apart."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.config import Data
from medssl.data.names import in_any_spelling, readable, with_one_spelling
from medssl.runs.resolve_config import list_source
from medssl.types import Record, Source

ZERO_WIDTH, NO_BREAK = "\u200b", "\u00a0"
SAME = [
    ("Müller", unicodedata.normalize("NFD", "Müller")),
    ("Müller", "MÜLLER"),
    ("Groß", "GROSS"),
    ("P007", "P7"),
    ("Ward 3 Bed 04", "ward 03 bed 4"),
    ("007", "００７"),
    ("Anna", "Ａｎｎａ"),
    ("PAT 1", f"PAT{NO_BREAK}1"),
    ("PAT 1", "PAT  1"),
    ("Anna", f"An{ZERO_WIDTH}na"),
    ("Anna", f"\ufeffAnna{ZERO_WIDTH}"),
]
APART = [("P10", "P1"), ("1.05", "1.5"), ("100", "1"), ("Müller", "Mueller"), ("Müller", "Muller"), ("A-1", "A1"), ("0", "")]


@pytest.mark.fault("C7")
@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_spellings_are_one_patient_one_study_and_one_site(one: str, other: str) -> None:
    records = [Record("a.png", "raster", patient=one, study=one, site=one)] * 2 + [
        Record("b.png", "raster", patient=other, study=other, site=other)
    ]
    source = with_one_spelling(Source("folder", Path(), tuple(records)))
    for field in ("patient", "study", "site"):
        assert {getattr(record, field) for record in source.records} == {one}
    assert source.notes[0].startswith("1 patients are written in 2 ways")


@pytest.mark.parametrize(("one", "other"), APART)
def test_other_names_stay_apart(one: str, other: str) -> None:
    assert in_any_spelling(one) != in_any_spelling(other)


def test_names_of_programs_and_single_spellings_keep_their_hashes() -> None:
    """UIDs, files, and every ordinary identifier stay letter for letter what they were."""
    records = (
        Record("a.png", "raster", patient="00123 ", study="1.2.04"),
        Record("b.png", "raster", patient="1.2.04", study="1.2.4"),
        Record("c.nii", "nifti", patient="c.nii", patient_from="itself"),
        Record("C.nii", "nifti", patient="C.nii", patient_from="itself"),
    )
    source = Source("folder", Path(), records)
    assert with_one_spelling(source) is source


def test_spaces_and_invisible_characters_become_plain_at_the_ends_only() -> None:
    assert readable(f"{ZERO_WIDTH}a{NO_BREAK}b{ZERO_WIDTH} ") == "a b"
    assert readable("نمی\u200cخواهم") == "نمی\u200cخواهم", "within a Persian word the character has a meaning"


@pytest.mark.fault("C7")
def test_a_table_and_folders_in_several_spellings_name_one_class_and_the_file(tmp_path: Path) -> None:
    """Each row names its file in another spelling than the drive, and the class in another one than the row before."""
    on_disk = ["Bäuche 1.png", "Scan0002.png", "x\u00a0y.png", "z.png", "w.png", "v.png"]
    in_table = [unicodedata.normalize("NFD", "Bäuche 1.png"), "SCAN2", "x y.png", f"z.png{ZERO_WIDTH}", "w.png", "v.png"]
    classes = ["Ödem", unicodedata.normalize("NFD", "ödem"), "ÖDEM", f"Ödem{ZERO_WIDTH}", f"gut{NO_BREAK}", "Gut"]
    for number, name in enumerate(on_disk):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (20, 20), np.uint8)).save(tmp_path / name)
    rows = [
        f"{name},{label},{'8' if n == 5 else '7' if n % 2 else '007'}"
        for n, (name, label) in enumerate(zip(in_table, classes, strict=True))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient", *rows]), "utf-8")
    source = list_source(Data(path=str(tmp_path), source="folder", size=20))
    assert source.table_error == ""
    assert sorted(record.labels["label"] for record in source.records) in (["Gut"] * 2 + ["Ödem"] * 4, ["gut"] * 2 + ["Ödem"] * 4)
    assert {record.patient for record in source.records} == {"007", "8"}
