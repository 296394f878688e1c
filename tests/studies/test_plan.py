"""A study's YAML, its plan counted by hand, and what it remembers."""

import json

import pytest

from medssl.errors import UserError
from medssl.studies.plan import is_finished, pending_jobs, plan_jobs, read_study, save_study, with_preparation_jobs

STUDY = """
out: runs/study
data:
  nih: ../nih
  pneumonia: {path: pneumoniamnist.npz, set: [data.label=pneumonia]}
encoders:
  pnnclr: {method: pnnclr, set: [method.width=64]}
  simclr: {method: simclr}
  imagenet: {encoder: imagenet/encoder.safetensors}
labels: 1pct,10pct,50pct,100pct
modes: [linear, full]
draws: 4
seed: 3
set: [tracking.mlflow=false]
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """read(old, new): the study with one part of its text replaced."""
    monkeypatch.chdir(tmp_path)

    def written(old="", new=""):
        assert old in STUDY
        (tmp_path / "study.yaml").write_text(STUDY.replace(old, new, 1) if old else STUDY)
        return read_study(tmp_path / "study.yaml")

    return written


def test_jobs_and_cells_are_those_counted_by_hand(read):
    jobs = plan_jobs(read())
    assert len(jobs) == 2 * (2 + 3 * 2), "on each data set 2 pretrainings, and 3 encoders in 2 modes"
    assert {job.name for job in jobs if job.command == "pretrain"} == {
        f"{data}/pretrain-{encoder}" for data in ("nih", "pneumonia") for encoder in ("pnnclr", "simclr")
    }
    cells = {job.name: job.cells for job in jobs if job.command == "finetune"}
    # 4 draws of 1 and 10 percent, 3 of 50, and 1 (the same in all draws) or, where chance has a part in the fit, 3 of 100 percent
    assert cells["nih/linear-pnnclr"] == 2 * (4 + 4 + 3 + 1) + (4 + 4 + 3 + 3), "encoder and raw pixels, and random initialisations"
    assert cells["pneumonia/full-imagenet"] == 2 * (4 + 4 + 3 + 3) + (4 + 4 + 3 + 1), "encoder and random initialisation, and raw pixels"
    assert sum(cells.values()) == 6 * 38 + 6 * 40


def test_an_encoder_from_weights_has_one_more_model_to_compare_with(read):
    study = read("  simclr: {method: simclr}", "  simclr: {method: simclr, set: [backbone.init=resnet18.pth]}")
    cells = {job.name: job.cells for job in plan_jobs(study) if job.command == "finetune"}
    assert cells["nih/linear-simclr"] == cells["nih/linear-pnnclr"] + (4 + 4 + 3 + 1)


def test_a_job_says_what_the_command_line_would(read):
    jobs = {job.name: job for job in plan_jobs(read())}
    assert jobs["pneumonia/pretrain-pnnclr"].arguments == {
        "method": "pnnclr",
        "preset": None,
        "data": "pneumoniamnist.npz",
        "seed": 3,
        "device": "auto",
        "out": "runs/study/pneumonia/pretrain-pnnclr",
        "sets": ("tracking.mlflow=false", "data.label=pneumonia", "method.width=64"),
    }
    tuning = jobs["nih/full-simclr"]
    assert tuning.after == ("nih/pretrain-simclr",)
    assert tuning.arguments["encoder"] == "runs/study/nih/pretrain-simclr" and tuning.arguments["mode"] == "full"
    assert tuning.arguments["sets"] == ("finetune.draws=4", "tracking.mlflow=false") and tuning.arguments["cells"] == "runs/study/cells"
    given = jobs["nih/linear-imagenet"]
    assert given.after == () and given.arguments["encoder"] == "imagenet/encoder.safetensors"


WRONG = {
    "a misspelt key": ("draws: 4", "drawz: 4", ["drawz", "'draws'"]),
    "a misspelt key of an encoder": ("{method: simclr}", "{metod: simclr}", ["encoders.simclr.metod", "'method'"]),
    "a misspelt key of a data set": ("path: pneu", "pth: pneu", ["data.pneumonia.pth", "'path'"]),
    "an unknown method": ("method: simclr", "method: simklr", ["simklr", "'simclr'"]),
    "an unknown mode": ("linear, full", "linaer", ["linaer", "'linear'"]),
    "an unknown fraction": ("50pct", "50percent", ["50percent", "10pct"]),
    "an unknown setting": ("method.width", "method.widht", ["widht", "'width'"]),
    "a setting without a value": ("tracking.mlflow=false", "tracking.mlflow", ["tracking.mlflow", "a.b=value"]),
    "an unknown preset": ("method: simclr", "preset: chest", ["'chest'"]),
    "a finished encoder with a method": ("{encoder: ", "{method: moco, encoder: ", ["encoders.imagenet", "have no effect"]),
    "an encoder of some data sets": ("imagenet/encoder.safetensors", "{nih: a}", ["encoders.imagenet", "'pneumonia'"]),
    "a name that is a path": ("  nih:", "  ../nih:", ["../nih", "cannot be a name"]),
    "no data": ("  nih: ../nih\n  pneumonia: {path: pneumoniamnist.npz, set: [data.label=pneumonia]}", "  {}", ["data"]),
    "a key that occurs twice": ("seed: 3", "draws: 3", ["'draws'", "twice"]),
    "an object of Python": ("out: runs/study", "out: !!python/object/apply:os.getcwd []", ["not valid YAML"]),
    "no draws": ("draws: 4", "draws: 0", ["draws", "greater than or equal to 1"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_the_yaml_is_named_with_the_remedy(read, case):
    old, new, expected = WRONG[case]
    with pytest.raises(UserError) as error:
        read(old, new)
    for text in expected:
        assert text in str(error.value), str(error.value)


@pytest.mark.parametrize("labels", ["1%, 50%, all", "[0.01, 50%, 1.0]", "1pct,50pct,100pct"])
def test_label_fractions_are_saved_in_one_spelling(read, labels):
    assert read("1pct,10pct,50pct,100pct", labels).labels == "1pct,50pct,100pct"


def test_a_study_goes_on_as_it_was_and_says_what_differs(read, tmp_path):
    (tmp_path / "runs" / "study").mkdir(parents=True)
    save_study(read())
    save_study(read("nih: ../nih", "nih: ../nih\n  third: elsewhere"))
    with pytest.raises(UserError, match="has another study") as error:
        save_study(read("draws: 4", "draws: 5"))
    assert "draws: was 4, is 5" in str(error.value) and "labels" not in str(error.value)
    with pytest.raises(UserError, match=r"data\.third\.path: was 'elsewhere', is None"):
        save_study(read())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("method.width=64", "method.width=32", "encoders.pnnclr.set: was ['method.width=64'], is ['method.width=32']"),
        ("[linear, full]", "[linear]", "modes.full: was True, is None"),
        ("seed: 3", "seed: 4", "seed: was 3, is 4"),
    ],
)
def test_a_changed_or_missing_part_is_refused_and_one_more_is_not(read, tmp_path, old, new, told):
    (tmp_path / "runs" / "study").mkdir(parents=True)
    save_study(read())
    kept = (tmp_path / "runs/study/study.yaml").read_bytes()
    with pytest.raises(UserError) as error:
        save_study(read(old, new))
    assert told in str(error.value)
    assert (tmp_path / "runs/study/study.yaml").read_bytes() == kept
    save_study(read("  simclr: {method: simclr}", "  simclr: {method: simclr}\n  more: {method: moco}"))


def results(folder, weights):
    auroc = {"mean": 0.5, "low": 0.4, "high": 0.6}
    counts = {"low": 2, "high": 2}
    row = {"fraction": 1.0, "labels": "100pct", "mode": "linear", "init": "pretrained", "draws": 1, "auroc": auroc}
    two, classes = {"n_labels": 2, "n_patients": 2}, [{"name": name, "pool": 1, "test": 1} for name in "ab"]
    task = {"column": "x", "kind": "multiclass", "classes": classes, "pool": two, "test": two, "copies_left_out": 0}
    interval = {"level": 0.95, "bootstraps": 100, "over": "patients and draws"}
    document = {"format": 2, "task": task, "interval": interval, "cells": [], "paired": [], "labels_saved": None}
    document |= {"summary": [{**row, "n_labels": counts, "n_patients": counts}], "encoder": {"weights_sha256": weights}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(document))


def encoder(folder, weights):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "encoder.safetensors"):
        (folder / name).touch()
    data = {"path": "", "size": 16, "channels": 1}
    (folder / "card.json").write_text(json.dumps({"weights_sha256": weights, "config": {"data": data}}))


def test_what_is_finished_is_not_done_again_and_what_was_stopped_goes_on(read, tmp_path):
    jobs = {job.name: job for job in plan_jobs(read("[linear, full]", "[linear]"))}
    place = tmp_path / "runs/study/nih"
    encoder(place / "pretrain-pnnclr", "one")
    results(place / "linear-pnnclr", "one")
    (place / "pretrain-simclr").mkdir()
    (place / "pretrain-simclr" / "last.ckpt").touch()
    (tmp_path / "runs/study/pneumonia/linear-simclr").mkdir(parents=True)
    (tmp_path / "runs/study/pneumonia/linear-simclr/results.json").write_text('{"format": 2')
    todo = {job.name: job for job in pending_jobs(list(jobs.values()))}
    assert todo.keys() == jobs.keys() - {"nih/pretrain-pnnclr", "nih/linear-pnnclr"}
    assert todo["nih/pretrain-simclr"].arguments == {"resume": "runs/study/nih/pretrain-simclr"}
    assert todo["pneumonia/linear-simclr"].arguments["overwrite"] is True, "half of a results.json is none"


def test_an_encoder_that_is_gone_is_not_trained_again_for_scores_that_are_there(read, tmp_path):
    jobs = plan_jobs(read("[linear, full]", "[linear]"))
    results(tmp_path / "runs/study/nih/linear-pnnclr", "one")
    assert not {"nih/pretrain-pnnclr", "nih/linear-pnnclr"} & {job.name for job in pending_jobs(jobs)}


def test_scores_of_another_encoder_are_not_taken_for_those_of_this_one(read, tmp_path):
    (job,) = (job for job in plan_jobs(read()) if job.name == "nih/linear-pnnclr")
    encoder(tmp_path / "runs/study/nih/pretrain-pnnclr", "one")
    results(tmp_path / "runs/study/nih/linear-pnnclr", "one")
    assert is_finished(job)
    encoder(tmp_path / "runs/study/nih/pretrain-pnnclr", "two")
    with pytest.raises(UserError, match="another encoder"):
        is_finished(job)


def test_images_that_two_jobs_need_are_read_by_a_job_before_them(read):
    jobs = with_preparation_jobs(pending_jobs(plan_jobs(read())))
    first = {job.name: job for job in jobs if job.command == "prepare"}
    assert [job.arguments for job in first.values()] == [
        {"data": "../nih", "preset": None, "sets": []},
        {"data": "pneumoniamnist.npz", "preset": None, "sets": ["data.label=pneumonia"]},
    ]
    waits = {job.name: job.after for job in jobs if job.command == "pretrain"}
    assert waits["nih/pretrain-pnnclr"] == waits["nih/pretrain-simclr"] == ("nih/prepare-1",)
    assert waits["pneumonia/pretrain-simclr"] == ("pneumonia/prepare-2",)
