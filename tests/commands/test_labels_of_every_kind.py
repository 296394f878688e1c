"""`medssl finetune` with every form of --labels, on every kind of task, in every mode: one row for each amount asked for and start.

Each takes some seconds, so all are slow; tests/evaluate/test_kinds.py has the fast ones.
"""

import json

import numpy as np
import pytest
from PIL import Image

from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]
PATIENTS = 60
TASKS = {
    "binary": ("multiclass", "sick", []),
    "multiclass": ("multiclass", "grade", []),
    "ordinal": ("ordinal", "grade", ["finetune.ordered=true"]),
    "multilabel": ("multilabel", "bright,left,even", []),
}
PREDICTED = {
    "binary": "sick (0 or 1)",
    "multiclass": "grade (0, 1 or 2)",
    "ordinal": "grade (0, 1 or 2)",
    "multilabel": "which of bright, left and even an image shows",
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
    return pretrain(reporter(), data=str(root), out=tmp_path_factory.mktemp("encoder") / "run", sets=[*small, *QUICK, "data.label=grade"])


def amounts_scored(encoder, small, reporter, out, labels, task, mode):
    """The names of the amounts in results.json, each asserted to have one row a start; the kind asserted to be the task's."""
    kind, label, sets = TASKS[task]
    said = reporter()
    finetune(said, label=label, labels=labels, mode=mode, encoder=str(encoder), out=out, sets=[*small, *QUICK, *sets])
    assert [line for line in said.said if line.startswith("predicts ")] == [f"predicts  {PREDICTED[task]}"]
    document = json.loads((out / "results.json").read_text())
    rows = [(row["labels"], row["init"]) for row in document["summary"]]
    assert document["task"]["kind"] == kind and document["task"]["column"].replace(", ", ",") == label
    assert len(rows) == len(set(rows)) == 3 * len({labels for labels, _ in rows})
    return list(dict.fromkeys(labels for labels, _ in rows))


def test_a_column_that_pretraining_did_not_read_can_be_chosen_and_a_wrong_one_is_answered_with_those_there_are(
    encoder, small, reporter, tmp_path
):
    assert amounts_scored(encoder, small, reporter, tmp_path / "out", "30pct", "binary", "knn") == ["30pct"]
    with pytest.raises(UserError, match=r"There is no label column 'grads'\. Did you mean 'grade'"):
        finetune(reporter(), label="grads", labels="30pct", encoder=str(encoder), out=tmp_path / "wrong", sets=[*small, *QUICK])


def test_shots_of_several_labels_beside_a_share_have_a_row_each(encoder, small, reporter, tmp_path):
    assert set(amounts_scored(encoder, small, reporter, tmp_path / "out", "3shot,30pct", "multilabel", "knn")) == {"3shot", "30pct"}


@pytest.mark.parametrize("mode", ["linear", "knn", "full"])
@pytest.mark.parametrize("task", TASKS)
def test_several_amounts_at_once_have_a_row_each_in_rising_order(encoder, small, reporter, tmp_path, task, mode):
    found = amounts_scored(encoder, small, reporter, tmp_path / "out", "all,3shot,30pct", task, mode)
    assert sorted(found) == ["100pct", "30pct", "3shot"] and found[-1] == "100pct"


@pytest.mark.parametrize("labels", ["30%", "3shot", "all", "100pct"])
def test_each_form_of_labels_alone_has_one_row_a_start(encoder, small, reporter, tmp_path, labels):
    found = amounts_scored(encoder, small, reporter, tmp_path / "out", labels, "multilabel", "knn")
    assert found == [{"all": "100pct", "30%": "30pct"}.get(labels, labels)]
