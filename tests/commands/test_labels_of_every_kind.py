"""`medssl finetune` with every form of --labels, on every kind of task, in every mode: one row for each amount asked for and start.

Each takes some ten seconds, most of them for the pictures, so all but one are slow; tests/evaluate/test_kinds.py has the fast ones.
"""

import json

import numpy as np
import pytest
from PIL import Image

from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain

PATIENTS = 60
TASKS = {
    "binary": ("multiclass", ["data.label=sick"]),
    "multiclass": ("multiclass", ["data.label=grade"]),
    "ordinal": ("ordinal", ["data.label=grade", "finetune.ordered=true"]),
    "multilabel": ("multilabel", ["data.label='bright,left,even'"]),
}
QUICK = ("tracking.mlflow=false", "train.steps=2", "finetune.steps=2", "finetune.early_stopping=false")


@pytest.fixture(scope="module")
def encoder(small, reporter, tmp_path_factory):
    """Pretrained in two steps on one picture of each of 60 patients with five label columns; the label "left" is rare."""
    root = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    rows = ["image,patient_id,sick,grade,bright,left,even"]
    for number in range(PATIENTS):
        grade = number % 3
        pixels = rng.integers(60, 120, (16, 16), dtype=np.uint8)
        pixels[4:12, 4:12] += np.uint8(40 * grade)
        Image.fromarray(pixels).save(root / f"{number:03}.png")
        rows.append(f"{number:03}.png,{number:03},{grade > 0:d},{grade},{grade > 1:d},{number % 4 == 1:d},{number % 2 == 0:d}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    own = ["data.label=grade", "data.source.labels=[sick, grade, bright, left, even]"]
    return pretrain(reporter(), data=str(root), out=tmp_path_factory.mktemp("encoder") / "run", sets=[*small, *QUICK, *own])


def amounts_scored(encoder, small, reporter, out, labels, task, mode):
    """The names of the amounts in results.json, each asserted to have one row a start; the kind asserted to be the task's."""
    kind, sets = TASKS[task]
    finetune(reporter(), labels=labels, mode=mode, encoder=str(encoder), out=out, sets=[*small, *QUICK, *sets])
    document = json.loads((out / "results.json").read_text())
    rows = [(row["labels"], row["init"]) for row in document["summary"]]
    assert document["task"]["kind"] == kind and len(rows) == len(set(rows)) == 3 * len({labels for labels, _ in rows})
    return list(dict.fromkeys(labels for labels, _ in rows))


def test_shots_of_several_labels_beside_a_share_have_a_row_each(encoder, small, reporter, tmp_path):
    assert set(amounts_scored(encoder, small, reporter, tmp_path / "out", "3shot,30pct", "multilabel", "knn")) == {"3shot", "30pct"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["linear", "knn", "full"])
@pytest.mark.parametrize("task", TASKS)
def test_several_amounts_at_once_have_a_row_each_in_rising_order(encoder, small, reporter, tmp_path, task, mode):
    found = amounts_scored(encoder, small, reporter, tmp_path / "out", "all,3shot,30pct", task, mode)
    assert sorted(found) == ["100pct", "30pct", "3shot"] and found[-1] == "100pct"


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["30%", "3shot", "all", "100pct"])
def test_each_form_of_labels_alone_has_one_row_a_start(encoder, small, reporter, tmp_path, labels):
    found = amounts_scored(encoder, small, reporter, tmp_path / "out", labels, "multilabel", "knn")
    assert found == [{"all": "100pct", "30%": "30pct"}.get(labels, labels)]
