"""The main job on small pictures: pretrain, fine-tune, and what the run folders and MLflow then hold."""

import hashlib
import json
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from medssl.commands import finetune as command
from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.commands.report import report
from medssl.config import Config
from medssl.data.patients import PatientOrigin
from medssl.errors import UserError
from medssl.evaluate.schema import LeakCheck
from medssl.plain_yaml import read_yaml


@pytest.fixture(scope="module")
def runs(pretrained, small):
    """A folder of runs: one pretraining, a linear and a full fine-tuning after it, and what was said."""
    encoder, said = pretrained
    common = {"encoder": str(encoder), "sets": [*small, "finetune.steps=6"]}
    finetune(said, labels="20pct,100pct", out=encoder.parent / "linear", **common)
    finetune(said, labels="50pct", mode="full", out=encoder.parent / "full", **common)
    return encoder.parent, said


def test_the_pretraining_folder_explains_itself(runs):
    folder = runs[0] / "pretrain"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.yaml", "metrics.jsonl", "environment.json", "last.ckpt", "encoder.safetensors", "card.json", "views.png"}
    config = read_yaml(folder / "config.yaml")
    assert config["preset"] == "medmnist_cpu"
    assert config["data"]["size"] == 16
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert {"epoch", "loss", "lr", "images_per_second", "embedding_std", "knn", "rankme"} <= set(rows[-1])


def test_a_pretraining_leaves_a_page_that_can_be_written_again_without_the_data(runs, reporter, tmp_path):
    folder = runs[0] / "pretrain"
    page = (folder / "report.html").read_text()
    assert "Pretraining with " in page and "What to do next" in page and f"medssl finetune --labels all --encoder {folder}" in page
    assert "default-src 'none'" in page and "<script" not in page
    assert " used of " in page, "the audit of the data"
    assert list(runs[0].glob("mlartifacts/**/report.html"))
    report(reporter(), runs=[folder], out=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_patients_are_disjoint_and_counted(runs, pictures):
    said = "\n".join(runs[1].said)
    assert "60 images 1x16x16 uint8 of 30 patients" in said
    results = json.loads((runs[0] / "linear" / "results.json").read_text())
    assert results["task"]["test"] == {"n_labels": 12, "n_patients": 6}
    assert results["task"]["pool"] == {"n_labels": 48, "n_patients": 24}
    assert [c["name"] for c in results["task"]["classes"]] == ["normal", "sick"]
    card = json.loads((runs[0] / "pretrain" / "card.json").read_text())
    assert len(card["pretraining"]["patients"]["hashes"]) == 22, "24 training patients without the two that the monitor holds out"
    assert str(pictures) not in json.dumps(card)


def test_the_labels_used_are_the_labels_promised_and_fractions_are_nested(runs):
    results = json.loads((runs[0] / "linear" / "results.json").read_text())
    used = {(cell["labels"], cell["n_labels"], cell["n_patients"]) for cell in results["cells"]}
    assert used == {("20pct", 8, 4), ("100pct", 48, 24)}, "12 patients of each class: 2.4, so 2 of each, with two images"
    splits = json.loads((runs[0] / "linear" / "splits.json").read_text())
    assert len({tuple(draw) for draw in splits["draws"]["20pct"]}) == 2, "two draws, two sets of patients"
    for few, many in zip(splits["draws"]["20pct"], splits["draws"]["100pct"], strict=True):
        assert set(few) < set(many)
        assert not set(many) & set(splits["test"])


def test_every_initialisation_is_scored_with_an_interval(runs):
    results = json.loads((runs[0] / "linear" / "results.json").read_text())
    rows = {(row["labels"], row["init"]): row["auroc"] for row in results["summary"]}
    assert set(rows) == {(labels, init) for labels in ("20pct", "100pct") for init in ("pretrained", "random", "pixels")}
    assert all(row["low"] <= row["mean"] <= row["high"] for row in rows.values())
    assert {row["versus"] for row in results["paired"]} == {"random", "pixels"}
    full = json.loads((runs[0] / "full" / "results.json").read_text())
    assert {(cell["mode"], cell["init"]) for cell in full["cells"]} >= {("full", "pretrained"), ("full", "random")}


def test_the_scores_can_be_computed_again_from_the_predictions(runs):
    from sklearn.metrics import roc_auc_score

    results = json.loads((runs[0] / "linear" / "results.json").read_text())
    predictions = pd.read_parquet(runs[0] / "linear" / "predictions.parquet")
    for cell in results["cells"]:
        rows = predictions
        for key in ("labels", "draw", "mode", "init"):
            rows = rows[rows[key] == cell[key]]
        assert len(rows) == 12
        assert cell["test"]["auroc"] == pytest.approx(roc_auc_score(rows["y_true"] == "sick", rows["prob_sick"]), abs=1e-9)


def test_mlflow_holds_both_runs_nested_without_paths_or_users(runs, pictures):
    database = sqlite3.connect(runs[0] / "mlflow.db")
    run_ids = {name: json.loads((runs[0] / name / "mlflow.json").read_text())["run_id"] for name in ("pretrain", "linear")}
    tags = dict(database.execute("select key, value from tags where run_uuid = ?", (run_ids["linear"],)).fetchall())
    assert tags["mlflow.parentRunId"] == run_ids["pretrain"]
    names = dict(database.execute("select run_uuid, name from runs").fetchall())
    data = pictures.stem
    assert names[run_ids["pretrain"]] == f"pretrain pnnclr {data}"
    assert names[run_ids["linear"]] == f"finetune linear {data} label 20pct,100pct"
    (dataset,) = database.execute("select name, digest from datasets").fetchall()
    assert dataset == (data, json.loads((runs[0] / "pretrain" / "card.json").read_text())["data"]["fingerprint"]), "one for all runs"
    assert database.execute("select count(*) from inputs").fetchone() == (3,)
    metrics = {key for (key,) in database.execute("select distinct key from metrics where run_uuid = ?", (run_ids["pretrain"],))}
    assert {"loss", "knn", "embedding_std"} <= metrics
    everything = "\n".join(database.iterdump())
    assert str(pictures) not in everything
    assert list(runs[0].glob("mlartifacts/**/encoder.safetensors"))


def test_the_same_command_gives_the_same_encoder(runs, pictures, small, reporter, tmp_path):
    pretrain(reporter(), data=str(pictures), out=tmp_path / "again", sets=[*small, "tracking.mlflow=false", "train.workers=1"])
    first, second = (load_file(folder / "encoder.safetensors") for folder in (runs[0] / "pretrain", tmp_path / "again"))
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)


def test_an_encoder_that_has_seen_the_test_patients_is_refused(runs, pictures, small, reporter, tmp_path):
    """The test comes with the data, so medssl must not draw another one."""
    table = pd.read_csv(pictures / "labels.csv", dtype=str)
    official = ["test" if int(patient) < 8 else "train" for patient in table["patient_id"]]
    shutil.copytree(pictures, tmp_path / "pictures")
    table.assign(split=official).to_csv(tmp_path / "pictures" / "labels.csv", index=False)
    with pytest.raises(UserError, match=r"seen in pretraining.*Take the split out of the data"):
        finetune(
            reporter(),
            labels="50pct",
            encoder=str(runs[0] / "pretrain"),
            data=str(tmp_path / "pictures"),
            out=tmp_path / "leak",
            sets=small,
        )


def test_with_another_seed_of_the_split_the_test_still_has_unseen_patients_alone(runs, small, reporter, tmp_path):
    sets, encoder = [*small, "data.split_seed=1", "tracking.mlflow=false"], str(runs[0] / "pretrain")
    finetune(reporter(), labels="all", mode="knn", encoder=encoder, out=tmp_path / "out", sets=sets)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["leak_check"]["leaked"] == 0
    assert found["task"]["test"]["n_patients"] == 6


@pytest.mark.slow
def test_the_newest_finished_pretraining_is_found_without_an_argument(runs, small, reporter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no finished pretraining"):
        finetune(reporter(), labels="50pct")
    (tmp_path / "runs").symlink_to(runs[0])
    out = finetune(reporter(), labels="50pct", sets=[*small, "tracking.mlflow=false"], out=tmp_path / "out")
    card = json.loads((runs[0] / "pretrain" / "card.json").read_text())
    results = json.loads((out / "results.json").read_text())
    assert results["encoder"]["weights_sha256"] == card["weights_sha256"]


@pytest.mark.fault("S9")
def test_the_encoder_file_holds_the_network_its_standardisation_and_nothing_else(runs):
    tensors = load_file(runs[0] / "pretrain" / "encoder.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {"backbone", "mean", "std"}
    with safe_open(runs[0] / "pretrain" / "encoder.safetensors", "pt") as file:
        assert not file.metadata()
    card = json.loads((runs[0] / "pretrain" / "card.json").read_text())
    assert card["config"]["data"]["path"] == ""
    assert {len(key) for kind in ("patients", "pixels") for key in card["pretraining"][kind]["hashes"]} == {16}


def test_the_weights_on_disk_are_those_of_the_card(runs):
    folder = runs[0] / "pretrain"
    card = json.loads((folder / "card.json").read_text())
    assert hashlib.sha256((folder / "encoder.safetensors").read_bytes()).hexdigest() == card["weights_sha256"]


def test_the_report_opens_offline(runs):
    text = (runs[0] / "linear" / "report.html").read_text()
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize(("before", "now", "warned"), [(1, 0, True), (1, 1, False), (0, 0, False)])
def test_patients_that_the_pretraining_did_not_know_cannot_be_compared_and_that_is_said(reporter, before, now, warned):
    card = {"data": {"patients": {"unknown": before}}, "pretraining": {"patients": [], "pixels": []}}
    said, test = reporter(), pd.DataFrame({"patient": ["a"], "pixel_hash": ["b"]})
    command._check_leaks(said, card, test, Config(), PatientOrigin(unknown=now), "", "images")
    assert any("pretrained without knowing patients" in text for text in said.warned) == warned
    assert ("unknown patients" in said.said[0]) == bool(now)


@pytest.mark.parametrize("labels", [True, False])
def test_a_fine_tuning_warns_where_its_encoder_was_pretrained_with_labels_and_only_there(reporter, labels):
    card = {"method": {"uses_labels": labels}, "pretraining": {"patients": [], "pixels": []}}
    said, test = reporter(), pd.DataFrame({"patient": ["a"], "pixel_hash": ["b"]})
    assert command._check_leaks(said, card, test, Config(), PatientOrigin(), "", "images") == LeakCheck(patients=1, images=1, leaked=0)
    assert [text for text in said.warned if "pretrained with the labels" in text] == said.warned and len(said.warned) == labels
