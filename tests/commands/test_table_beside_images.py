"""A table beside the images that cannot be used: a warning where no labels are needed, an error for fine-tuning."""

import shutil

import pytest

from medssl.commands.finetune import finetune
from medssl.commands.predict import predict
from medssl.commands.prepare import prepare
from medssl.commands.pretrain import pretrain
from medssl.errors import UserError

IGNORE = "data.source.table=none"


@pytest.fixture
def of_others(pictures, tmp_path):
    """The pictures with a table of other pictures."""
    shutil.copytree(pictures, tmp_path / "pictures")
    (tmp_path / "pictures" / "labels.csv").write_text("image,label\n" + "".join(f"elsewhere/{n}.jpg,sick\n" for n in range(900, 960)))
    return str(tmp_path / "pictures")


def check_warned(lines) -> None:
    (warning,) = [text for text in lines.warned if "table" in text]
    assert warning.startswith("The table beside the images: column 'image' names none of the 60 images found")
    assert "patients, labels and splits that it may hold are missing" in warning
    assert f"--set {IGNORE}" in warning
    assert any("Patients are unknown: each image counts as a patient of its own, " in text for text in lines.said)


def test_preparing_pretraining_and_predicting_go_on_with_a_warning_and_fine_tuning_is_refused(of_others, small, tmp_path, reporter, model):
    sets, lines = [*small, "train.steps=2", "tracking.mlflow=false"], [reporter() for _ in range(5)]
    prepare(lines[0], data=of_others, sets=["data.size=16"])
    run = pretrain(lines[1], data=of_others, out=tmp_path / "run", sets=sets)
    predict(lines[2], data=of_others, model=str(model.folder), out=tmp_path / "table.csv")
    for said in lines[:3]:
        check_warned(said)
    with pytest.raises(UserError, match=r"names none(?s:.*)Correct the table, or continue without it: --set data\.source\.table=none"):
        finetune(lines[3], encoder=str(run), out=tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
    pretrain(lines[4], data=of_others, out=tmp_path / "silent", sets=[*sets, IGNORE])
    assert not [text for text in lines[4].warned if "table" in text]


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_images_than_before(pictures, small, tmp_path, reporter):
    """Without the table the patients are others, and so are the images of the test part, with the same pixels and labels."""
    data = tmp_path / "pictures"
    shutil.copytree(pictures, data)
    run = pretrain(reporter(), data=str(data), out=tmp_path / "run", sets=[*small, "train.steps=2", "tracking.mlflow=false"])
    (run / "card.json").unlink()
    (run / "encoder.safetensors").unlink()
    (data / "labels.csv").write_text("nothing\n")
    with pytest.raises(UserError, match="has changed since the checkpoint"):
        pretrain(reporter(), resume=run)
