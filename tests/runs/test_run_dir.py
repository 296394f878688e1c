"""The run folder: made, described, replaced and found again, whatever interrupts it and whoever asks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kills import folders_left
from PIL import Image
from surroundings import make_read_only, small_disk, unknown_user

from medssl.commands.pretrain import pretrain
from medssl.config import resolve
from medssl.encoder import artefact
from medssl.encoder.artefact import CARD, WEIGHTS
from medssl.errors import UserError
from medssl.runs import run_dir as folders
from medssl.runs.lock import LOCK
from medssl.runs.run_dir import describe_run, is_finished, load_config, newest_encoder, open_run, write_description

BACKBONE = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 8, 16, 16]}}
CONFIG = resolve({})
ENCODER = artefact.build_encoder(BACKBONE, 1, 16, torch.tensor([0.4]), torch.tensor([0.2]), seed=3)


def export_to(folder: Path, finished: str = "2026-02-02T00:00:00Z") -> None:
    artefact.save(ENCODER, folder, backbone=BACKBONE, channels=1, size=16, card={"provenance": {"finished": finished}})


def describe_it(folder: Path) -> None:
    write_description(folder, CONFIG, "pretrain")


def create(out: Path | None, kind: str, name: str, overwrite: bool) -> Path:
    """The folder of a run that ends at once."""
    with open_run(out, kind, name, overwrite) as folder:
        return folder


def replace_it(folder: Path) -> None:
    create(folder, "pretrain", "x", overwrite=True)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def make_run(folder: Path) -> Path:
    """A finished pretraining's folder."""
    folder.mkdir(parents=True)
    describe_it(folder)
    export_to(folder, "2026-01-01T00:00:00Z")
    (folder / "last.ckpt").write_bytes(b"a state")
    (folder / "more").mkdir()
    (folder / "more" / "file").touch()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "old")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """What kills leave of a start, a replacement and an export; each a list of folders."""
    work = tmp_path_factory.mktemp("killed")
    jobs = [
        ("describe_it", work / "start", "medssl/runs/run_dir"),
        ("replace_it", make_run(work / "replace"), "medssl/runs/run_dir"),
        ("export_to", work / "export", "medssl/encoder/artefact"),
    ]
    (work / "start").mkdir()
    (work / "export").mkdir()
    describe_it(work / "export")
    left = folders_left(__file__, *jobs)
    assert min(map(len, left)) > 8
    return dict(zip(("start", "replacement", "export"), left, strict=True))


def test_a_new_folder_is_empty_and_another_one_is_left_alone(tmp_path, run):
    made = create(tmp_path / "a" / "b", "pretrain", "x", overwrite=False)
    assert names(made) == set()
    assert create(made, "pretrain", "x", overwrite=False) == made, "an empty one may be used"
    before = names(run)
    with pytest.raises(UserError, match=r"exists and is not empty\. .*--overwrite"):
        create(run, "pretrain", "x", overwrite=False)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"is no run folder .* --overwrite leaves it alone"):
        create(mine, "pretrain", "x", overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        create(mine / "thesis.txt", "pretrain", "x", overwrite=True)
    assert names(mine) == {"thesis.txt"}
    assert names(run) == before
    replace_it(run)
    assert names(run) == set()


@pytest.mark.fault("R14")
def test_runs_that_start_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [create(None, "pretrain", "x", overwrite=False) for _ in range(5)]
    assert len({folder.resolve() for folder in made}) == 5
    assert all(folder.is_dir() and folder.parent == folders.RUNS for folder in made)


@pytest.mark.slow
@pytest.mark.fault("R24")
def test_wherever_the_start_of_a_run_is_killed_the_same_command_can_be_given_again(killed):
    for folder in killed["start"]:
        started = (folder / "config.yaml").is_file()
        if started:
            load_config(folder)
        create(folder, "pretrain", "x", overwrite=started)
        assert names(folder) == set()


@pytest.mark.slow
@pytest.mark.fault("R24")
def test_wherever_a_replacement_is_killed_what_is_left_is_no_finished_run_and_can_be_replaced(killed, run):
    for folder in killed["replacement"]:
        assert is_finished(folder) == (names(folder) - {LOCK} == names(run))
        replace_it(folder)
        assert names(folder) == set()


@pytest.mark.slow
@pytest.mark.fault("R24")
def test_wherever_an_export_is_killed_the_newest_encoder_is_a_whole_one_and_exporting_again_mends_it(killed, run):
    found = []
    for folder in killed["export"]:
        new = folder.rename(run.parent / "new")
        newest = newest_encoder(run.parent)
        artefact.load(newest)
        found.append(newest.name)
        assert is_finished(new) == (newest == new)
        export_to(new)
        assert newest_encoder(run.parent) == new
        new.rename(folder)
    assert found == sorted(found, reverse=True)
    assert set(found) == {"old", "new"}


def test_the_newest_encoder_is_that_of_the_pretraining_that_finished_last(run):
    for name, ended in (("a", "2025-12-31T23:59:59Z"), ("b", "2026-01-01T00:00:01Z"), ("c", "2026-01-01T00:00:00Z")):
        (run.parent / name).mkdir()
        describe_it(run.parent / name)
        export_to(run.parent / name, ended)
    assert newest_encoder(run.parent).name == "b"
    (run.parent / "b" / WEIGHTS).unlink()
    assert newest_encoder(run.parent).name == "old"
    with pytest.raises(UserError, match="no finished pretraining"):
        newest_encoder(run)


@pytest.mark.parametrize("damage", [b"", b'{"provenance": {', b"[]", b'{"provenance": {}}', b"\xff"])
def test_a_damaged_card_is_told_instead_of_an_older_encoder_being_taken(run, damage):
    (run / CARD).write_bytes(damage)
    with pytest.raises(UserError, match=r"old/card\.json is damaged .*--encoder"):
        newest_encoder(run.parent)


@pytest.mark.fault("R7")
def test_a_folder_that_cannot_be_written_is_told_with_its_name_and_the_user(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=100) as disk:
        (disk / "run").mkdir()
        make_read_only(disk)
        for folder in (disk / "run", disk / "new" / "run"):
            with pytest.raises(UserError) as caught:
                create(folder, "pretrain", "x", overwrite=False)
            for part in (str(folder), f"as user {os.getuid()}: Read-only file system", "--out"):
                assert part in str(caught.value)


def test_a_start_that_comes_to_nothing_leaves_the_folder_to_the_next(tmp_path, reporter):
    broken, out = tmp_path / "ward", tmp_path / "out"
    broken.mkdir()
    for n in range(4):
        Image.effect_noise((32, 32), n + 1).save(broken / f"{n}.png")
        (broken / f"{n}.torn.png").write_bytes((broken / f"{n}.png").read_bytes()[:-99])
    for _ in range(2):  # the second time it is not refused for what the first has left
        with pytest.raises(UserError, match="max_bad_fraction"):
            pretrain(reporter(), data=str(broken), out=out, sets=["train.workers=0"])
        assert not out.exists()


def test_what_has_left_more_than_a_description_keeps_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), describe_run(tmp_path, CONFIG, "pretrain"):
        (tmp_path / "metrics.jsonl").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == {"config.yaml", "environment.json", "metrics.jsonl"}


@pytest.mark.slow
@pytest.mark.fault("R7")
def test_an_unknown_user_without_a_home_pretrains_and_finetunes_and_is_told_what_he_cannot_write(pictures, small, tmp_path):
    """In a folder of his own, as user 12345 of a container; what he asked for first is a folder that he may not write in."""
    site, closed = tmp_path / "site", tmp_path / "closed"
    site.mkdir()
    closed.mkdir(mode=0o555)
    settings = [part for item in small for part in ("--set", item)]
    command = [*unknown_user(), sys.executable, "-m", "medssl", "pretrain", "--data", str(pictures), *settings]
    told = ("HOME", "MEDSSL_CACHE", "XDG_CACHE_HOME", "LOGNAME", "USER", "LNAME", "USERNAME")
    environment = {key: value for key, value in os.environ.items() if key not in told}
    said = [
        subprocess.run([*command, *more], cwd=site, env=environment, capture_output=True, text=True, timeout=120, check=False)
        for more in (("--out", str(closed / "run")), ("--out", "run"))
    ]
    assert said[0].returncode == 2, said[0].stderr
    assert f"Cannot write {closed / 'run'} as user 12345: Permission denied" in said[0].stderr
    assert "Traceback" not in said[0].stderr
    assert said[1].returncode == 0, said[1].stderr
    assert names(site) == {"run", ".medssl", "mlflow.db", "mlartifacts", ".mlflow.lock"}
    assert (site / ".medssl/.cache/medssl/site.key").is_file()
    assert json.loads((site / "run/mlflow.json").read_text())["run_id"], "MLflow cannot even be imported without a home"
    assert "There is no home folder that can be written" in said[1].stderr
    finetune = [*command[: command.index("pretrain")], "finetune", "--encoder", "run", "--data", str(pictures), "--labels", "100pct"]
    finetune += ["--out", "study", "--set", "tracking.mlflow=false", "--set", "finetune.draws=1"]
    process = subprocess.run(finetune, cwd=site, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    assert (site / "study/figures/grad_cam.png").is_file(), "MONAI cannot be imported by a user without a name"


def test_a_start_that_is_refused_leaves_no_folder_not_even_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(UserError, match="refused"),
        open_run(None, "finetune", "10pct", False) as folder,
        describe_run(folder, resolve({}), "x"),
    ):
        raise UserError("refused")
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs/other").mkdir(parents=True)
    with pytest.raises(UserError, match="refused"), open_run(None, "finetune", "10pct", False):
        raise UserError("refused")
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "other"]
