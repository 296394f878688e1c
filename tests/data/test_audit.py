import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.config import Data
from medssl.data.audit import audit_lines, contact_sheet
from medssl.data.label_table import label_lines
from medssl.data.prepare import prepare
from medssl.data.sources import medmnist
from medssl.types import Source

MakeSource = Callable[..., Source]
DATA = Data(size=20, max_bad_fraction=0.5)


def audit_of(source: Source, cache: Path) -> dict:
    return json.loads((prepare(source, DATA, cache).path / "audit.json").read_text())


def test_the_audit_counts_what_a_person_wants_to_know(make_source: MakeSource, tmp_path: Path) -> None:
    found = audit_of(make_source(deep=(2,), broken=(1,), skipped=(("a.dcm", "no_pixels", "a plan"),)), tmp_path / "cache")
    assert found["images"] == {"found": 6, "used": 4, "skipped": {"no_pixels": 1, "truncated": 1}}
    assert found["patients"].pop("origin") == {"stated": 4, "guessed": 0, "unknown": 1, "instead": "image"}
    assert found["patients"] == {"count": 3, "images_each": {"least": 1, "median": 1.0, "most": 2}, "studies": 1, "series": 0}
    assert (found["size"], found["bits"], found["view"]) == ({"20 x 20": 4}, {"8": 3, "16": 1}, {"PA": 3, "unknown": 1})
    assert found["labels"] == {"finding": {"yes": 3, "no": 1}}
    assert found["splits"] == {"train": {"images": 3, "patients": 2}, "test": {"images": 1, "patients": 1}}
    assert found["spacing_mm"] == {"known": 0, "unknown": 4}


def test_the_lines_name_faults_leaks_and_the_remedy(make_source: MakeSource, tmp_path: Path) -> None:
    source = make_source(broken=(4,), skipped=(("a.dcm", "no_pixels", "a plan"),))
    (source.root / "doe_3.png").write_bytes((source.root / "doe_0.png").read_bytes())  # patient 1 in train, as patient 0 in test
    said = [f"{heading}: {sentence}" for heading, sentence in audit_lines(audit_of(source, tmp_path / "cache"))]
    assert "images: 4 used of 6 found (folder)" in said
    assert ": 1 left out: truncated (a fault)" in said
    assert ": 1 left out: no_pixels" in said
    assert any(line.startswith("leak: 1 images have the same pixels as one of another split") for line in said)
    assert any(line.startswith("leak: 1 patients are in more than one of") for line in said)
    assert any("data.leaks" in line for line in said)


def test_the_official_breastmnist_holds_one_test_image_in_train_with_the_opposite_label(shared_data: Path, tmp_path: Path) -> None:
    source = medmnist.build(medmnist.Config(), str(shared_data / "medmnist/breastmnist.npz"))
    found = json.loads((prepare(source, Data(size=28), tmp_path / "cache").path / "audit.json").read_text())
    assert (found["duplicates"]["pixels"], found["duplicates"]["contradictions"], found["duplicates"]["refused"]) == (1, 1, True)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_contact_sheet_shows_the_images_in_the_order_of_the_rows(make_source: MakeSource, tmp_path: Path, channels: int) -> None:
    source = make_source(deep=(2,))
    bright = np.full((20, 20), 250, np.uint8)
    bright[0, 0] = 0
    Image.fromarray(bright).save(source.root / "doe_3.png")
    sheet = np.asarray(contact_sheet(prepare(source, Data(size=20, channels=channels), tmp_path / "cache")))
    assert sheet.shape == (128 + 14, 5 * 128, 3)
    means = [sheet[:128, 128 * n : 128 * (n + 1)].mean() for n in range(5)]
    assert int(np.argmax(means)) == 3
    assert means[3] > 230


def test_labels_are_told_as_a_table_of_classes_and_of_images_without_a_label(make_source: MakeSource, tmp_path: Path) -> None:
    source = make_source()
    lines = [sentence for heading, sentence in audit_lines(audit_of(source, tmp_path / "cache")) if heading == "label"]
    assert [line.split() for line in lines] == [["finding", "images"], ["yes", "3"], ["no", "2"], ["(no", "label)", "0"]]
    marks = {"mass": {"1": 3, "0": 5, "unknown": 2}, "oedema": {"0": 10}}
    assert [line.split() for line in label_lines(marks)[1:]] == [["mass", "3", "5", "2"], ["oedema", "0", "10", "0"]]
