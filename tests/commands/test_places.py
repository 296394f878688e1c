"""Images that were moved, and commands from another working directory."""

import shutil

import pytest

from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.errors import UserError
from medssl.runs.run_dir import load_config

QUIET = "tracking.mlflow=false"


@pytest.mark.slow
def test_a_run_finds_its_images_from_any_folder_and_is_told_where_they_have_been_moved(
    pictures, pretrained, reporter, tmp_path, monkeypatch
):
    first, moved, other = tmp_path / "here/pictures", tmp_path / "there/images", tmp_path / "other"
    run = shutil.copytree(pretrained[0], tmp_path / "run")
    for folder in (first, other):
        shutil.copytree(pictures, folder)
    (other / "normal/000.png").write_bytes((other / "normal/001.png").read_bytes())
    monkeypatch.chdir(tmp_path / "here")
    pretrain(reporter(), resume=run, data="pictures", sets=["train.steps=14", QUIET])
    assert load_config(run).data.path == str(first)

    monkeypatch.chdir(tmp_path)
    moved.parent.mkdir()
    first.rename(moved)
    for command in (
        lambda: pretrain(reporter(), resume=run, sets=["train.steps=16", QUIET]),
        lambda: finetune(reporter(), encoder=str(run)),
    ):
        with pytest.raises(UserError, match=r"are not at .*pictures .*Say where the same images are now: --data PATH"):
            command()
    with pytest.raises(UserError, match=r"has changed since the checkpoint .*--data"):
        pretrain(reporter(), resume=run, data="other", sets=["train.steps=16", QUIET])
    assert load_config(run).data.path == str(first)
    pretrain(reporter(), resume=run, data="there/images", sets=["train.steps=16", QUIET])
    assert load_config(run).data.path == str(moved)

    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(UserError, match="no label column"):  # the images are found: the next check fails
        finetune(reporter(), encoder=str(run), label="absent", out=tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


def test_a_new_run_knows_the_whole_path_of_its_images(pictures, small, reporter, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    run = pretrain(reporter(), data=pictures.name, out=tmp_path / "run", sets=[*small, "train.steps=2", QUIET])
    assert load_config(run).data.path == str(pictures)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [{"preset": "demo"}, {"method": "simclr"}, {"seed": 5}])
def test_flags_beside_resume_are_not_ignored(pretrained, reporter, tmp_path, flags):
    run = shutil.copytree(pretrained[0], tmp_path / "run")
    with pytest.raises(UserError, match=r"Leave out --preset\.|not the one that .* was started with .*a flag"):
        pretrain(reporter(), resume=run, sets=["train.steps=14"], **flags)
