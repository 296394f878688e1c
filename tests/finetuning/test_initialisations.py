"""Other encoders beside the one in question (finetune.versus), and the modes and orders that the command line names."""

import json
import shutil

import pytest
import timm
from safetensors.torch import save_file

from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.errors import UserError
from medssl.finetuning.initialisations import load_initialisations

pytestmark = pytest.mark.slow

QUIET = ["tracking.mlflow=false"]


@pytest.fixture(scope="module")
def runs(pretrained, pictures, small, reporter, tmp_path_factory):
    """Three pretrainings: the one in question, another of the same images, one of smaller ones; and weights of timm."""
    folder = tmp_path_factory.mktemp("runs")
    short = [*small, *QUIET, "train.steps=2", "finetune.draws=1"]
    (folder / "ours").symlink_to(pretrained[0])
    pretrain(reporter(), data=str(pictures), out=folder / "another run", sets=short, seed=1)
    pretrain(reporter(), data=str(pictures), out=folder / "smaller", sets=[*short, "data.size=20"])
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), folder / "test_resnet.mine.safetensors")
    return folder, short


def compared(runs, reporter, out, *versus, **more):
    folder, short = runs
    paths = ", ".join(str(folder / name) for name in versus)
    sets = [*short, f"finetune.versus=[{paths}]", *more.pop("sets", [])]
    finetune(reporter(), encoder=str(folder / "ours"), labels="50pct", out=out, sets=sets, **more)
    return json.loads((out / "results.json").read_text())


def test_other_encoders_stand_beside_ours_in_the_results_under_the_names_of_their_folders_and_files(runs, reporter, tmp_path):
    found = compared(runs, reporter, tmp_path / "out", "another run", "test_resnet.mine.safetensors")
    names = ["pretrained", "random", "another run", "test_resnet.mine.safetensors", "pixels"]
    assert [row["init"] for row in found["summary"]] == names
    assert [row["versus"] for row in found["paired"]] == names[1:]
    scores = {row["init"]: row["brier"]["mean"] for row in found["summary"]}
    assert len(set(scores.values())) == 5, "each has features of its own"
    assert "another run" in (tmp_path / "out" / "report.html").read_text()


def test_the_vote_of_neighbours_can_be_asked_for(runs, reporter, tmp_path):
    found = compared(runs, reporter, tmp_path / "out", mode="knn", sets=["finetune.neighbours=3"])
    assert {cell["mode"] for cell in found["cells"]} == {"knn"}


def test_an_encoder_of_other_images_is_refused_by_its_name(runs, reporter, tmp_path):
    with pytest.raises(UserError, match=r"data\.size is 16, but the encoder smaller was pretrained with 20"):
        compared(runs, reporter, tmp_path / "out", "smaller")


def test_an_encoder_that_has_seen_test_patients_is_refused(runs, reporter, tmp_path, pictures):
    folder, short = runs
    pretrain(reporter(), data=str(pictures), out=tmp_path / "leaked", sets=[*short, "data.split_seed=1"])
    (folder / "leaked").symlink_to(tmp_path / "leaked")
    with pytest.raises(UserError, match=r"test images were seen in pretraining"):
        compared(runs, reporter, tmp_path / "out", "leaked")


def test_two_encoders_of_one_name_and_names_that_are_taken_are_refused(runs, reporter, tmp_path):
    folder, _ = runs
    for name in ("copies/another run", "random", "pixels"):
        shutil.copytree(folder / "another run", folder / name, dirs_exist_ok=True)
    for versus, name in (
        (("another run", "copies/another run"), "another run"),
        (("another run/encoder.safetensors", "another run"), "another run"),
        (("random",), "random"),
        (("pixels",), "pixels"),
    ):
        with pytest.raises(UserError, match=f"there is another start of the name '{name}'"):
            compared(runs, reporter, tmp_path / "-".join(versus).replace("/", "-"), *versus)


def test_the_folder_one_stands_in_has_a_name(runs, monkeypatch):
    from medssl.encoder import artefact
    from medssl.runs.run_dir import load_config

    folder, _ = runs
    config = load_config(folder / "ours")
    encoder, card = artefact.load(folder / "ours")
    monkeypatch.chdir(folder / "another run")
    for path in (".", "encoder.safetensors"):
        asked = config.model_copy(update={"finetune": config.finetune.model_copy(update={"versus": (path,)})})
        assert list(load_initialisations(asked, encoder, card, _nobody())) == ["pretrained", "another run"]


def _nobody():
    import pandas as pd

    return pd.DataFrame({"patient": pd.Series(dtype=str), "pixel_hash": pd.Series(dtype=str)})
