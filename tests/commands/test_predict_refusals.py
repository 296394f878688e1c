"""What `medssl predict` refuses: one message with the thing, the values and the remedy, exit code 2, no traceback, no table."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from predicting import picture, table

from medssl.commands.prepare import prepare


def volume(file: Path) -> None:
    file.parent.mkdir()
    nibabel.Nifti1Image(np.random.default_rng(0).integers(0, 99, (16, 16, 3), np.int16), np.eye(4)).to_filename(file)  # pyright: ignore


REFUSED = {
    "another size": (("--data", "ward", "--set", "data.size=32"), ("data.size is 32", "trained with 16", "Leave it")),
    "other channels": (("--data", "ward", "--set", "data.channels=3"), ("data.channels is 3", "trained with 1")),
    "another window": (("--data", "ward", "--set", "data.window=percentile"), ("data.window is percentile", "trained with header")),
    "volumes": (("--data", "brain"), ("volumes: True", "volumes: False", "images like those")),
    "a setting of another command": (("--data", "ward", "--set", "train.lr=1"), ("train belongs to finetune",)),
    "a misspelt setting": (("--data", "ward", "--set", "data.widow=none"), ("widow", "'window'")),
    "no setting at all": (("--data", "ward", "--set", "data=3"), ("configuration is wrong", "data")),
    "no data": (("--data", "nowhere"), ("nowhere", "does not exist")),
    "an empty folder": (("--data", "empty"), ("no image below empty",)),
    "text": (("--data", "text.txt"), ("text.txt is neither an image nor a list of images",)),
    "a folder for the table": (("--data", "ward", "--out", "ward"), ("ward exists", "--out")),
    "a table among the images": (("--data", "ward", "--out", "ward/p.csv"), ("ward/p.csv", "table of labels", "--out")),
    "a table in no folder": (("--data", "ward", "--out", "gone/p.csv"), ("gone/p.csv", "--out")),
    "no such device": (("--data", "ward", "--device", "gpu"), ("gpu", "cuda")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_both_values_and_a_remedy(predict_command, case):
    picture(Path("ward/a.png"))
    Path("empty").mkdir()
    Path("text.txt").write_text("text")
    volume(Path("brain/a.nii.gz"))
    arguments, parts = REFUSED[case]
    code, said = predict_command(*arguments)
    assert code == 2
    for part in parts:
        assert part in said
    assert "Traceback" not in said
    assert not Path("predictions.csv").exists()


def test_a_store_of_another_size_or_of_an_older_preparation_is_refused(predict_command, reporter):
    picture(Path("ward/a.png"))
    prepare(reporter(), data="ward", preset="medmnist_cpu", out=Path("large"), sets=["data.size=32"])
    code, said = predict_command("--data", "large")
    assert code == 2
    assert "data.size is 32 in large, but the classifier was trained with 16" in said
    prepare(reporter(), data="ward", preset="medmnist_cpu", out=Path("old"), sets=["data.size=16"])
    card = json.loads(Path("old/card.json").read_text())
    card["preparation"]["version"] = 0
    Path("old/card.json").write_text(json.dumps(card))
    code, said = predict_command("--data", "old")
    assert code == 2
    assert "the preparation's version is 0 in old" in said


def test_a_table_that_exists_is_kept_unless_it_is_to_be_replaced(predict_command):
    picture(Path("ward/a.png"))
    Path("predictions.csv").write_text("mine")
    code, said = predict_command("--data", "ward")
    assert code == 2
    assert "predictions.csv exists" in said
    assert "--overwrite" in said
    assert Path("predictions.csv").read_text() == "mine"
    assert predict_command("--data", "ward", "--overwrite")[0] == 0
    assert len(table()) == 1


@pytest.mark.parametrize("what", ["nothing", "an encoder", "a picture"])
def test_a_wrong_model_is_one_message(predict_command, what):
    picture(Path("ward/a.png"))
    if what == "an encoder":
        Path("nothing").mkdir()
        (Path("nothing") / "encoder.safetensors").touch()
    code, said = predict_command("--data", "ward", model="ward/a.png" if what == "a picture" else "nothing")
    assert code == 2
    assert "No classifier at" in said
    assert "Traceback" not in said
