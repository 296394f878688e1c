"""The order of work of a hospital: pretrain on the archive, label some of it later, fine-tune on the same folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.config import parse_overrides
from medssl.data.split import class_shares
from medssl.errors import UserError
from medssl.runs.dataset import prepare_dataset
from medssl.runs.resolve_config import resolve_config

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]
QUIET = ["tracking.mlflow=false", "train.steps=2", "finetune.draws=1", "monitor.knn_every_epochs=100"]


def write_pictures(root, numbers):
    """Grey pictures; those with an odd number have a bright square."""
    root.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng(number).integers(60, 120, (24, 24), dtype=np.uint8)
        pixels[8:16, 8:16] += 60 * (number % 2)
        Image.fromarray(pixels).save(root / f"{number:03}.png")


def write_table(root, numbers, *columns, patient=0):
    """A labels.csv with 0 and 1 in each column; the first says which pictures have the square. `patient`: how many are of one patient, if
    the table is to name patients."""
    rows = [",".join(["image", *(["patient_id"] if patient else []), *columns])]
    for number in numbers:
        marks = [str(number % 2), *(str(number // 2 % 2) for _ in columns[1:])]
        rows.append(",".join([f"{number:03}.png", *([f"p{number // patient}"] if patient else []), *marks]))
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def archive(small, reporter, tmp_path_factory):
    """A folder of 80 pictures without labels, and an encoder that was pretrained on it."""
    root = tmp_path_factory.mktemp("archive")
    write_pictures(root / "images", range(80))
    said = reporter()
    pretrain(said, data=str(root / "images"), out=root / "encoder", sets=[*small, *QUIET])
    (listed,) = (text for text in said.said if "kept for a later test are named in" in text)
    names = Path(listed.split(" named in ")[1].split(": label")[0]).read_text().split()
    assert len(names) == 1 + 32, "a head, and two of five images"
    return root


def fine_tune(archive, data, out, small, reporter):
    said = reporter()
    finetune(said, encoder=str(archive / "encoder"), data=str(data), labels="all", mode="knn", out=out, sets=[*small, *QUIET])
    return json.loads((out / "results.json").read_text()), said


@pytest.mark.parametrize("variant", ["all patients", "some patients", "new images", "several findings", "another site"])
def test_labels_that_come_after_the_pretraining_can_be_fine_tuned_on_without_a_leak(variant, archive, small, reporter, tmp_path):
    data = tmp_path / "images"
    if variant == "another site":
        write_pictures(data, range(200, 240))
    else:
        shutil.copytree(archive / "images", data)
    if variant == "new images":
        write_pictures(data, range(100, 130))
    numbers = {"some patients": range(40), "new images": [*range(20), *range(100, 120)], "another site": range(200, 240)}
    columns = ["label_square", "label_other"] if variant == "several findings" else ["label"]
    write_table(data, numbers.get(variant, range(80)), *columns)
    found, said = fine_tune(archive, data, tmp_path / "out", small, reporter)
    assert found["leak_check"]["leaked"] == 0
    assert all(c["pool"] and c["test"] for c in found["task"]["classes"])
    labelled = len(numbers.get(variant, range(80)))
    assert 0.1 * labelled <= found["task"]["test"]["n_labels"] <= 0.3 * labelled
    text = "\n".join(said.said)
    assert "Patients are unknown: each image counts as a patient of its own" in text
    assert f"test      {found['task']['test']['n_labels']} images of unknown patients; none of these images was seen" in text


def test_where_every_patient_was_seen_the_message_names_a_way_that_works(archive, small, reporter, tmp_path):
    data = tmp_path / "images"
    shutil.copytree(archive / "images", data)
    write_table(data, range(80), "label", patient=16)  # the table says now that sixteen pictures each are of one patient
    with pytest.raises(UserError, match=r"The test would lack .*pretrain again now that the labels are there"):
        fine_tune(archive, data, tmp_path / "out", small, reporter)
    assert not (tmp_path / "out").exists()
    config, source = resolve_config(reporter(), str(data), None, parse_overrides([*small, *QUIET]))
    again = prepare_dataset(source, config, reporter())
    shares = class_shares(again.store.table, ["label"], again.roles)
    assert all(share.tested and share.trained for share in shares), "a new pretraining leaves these out"
