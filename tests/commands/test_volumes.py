"""Volumes from finetune to predict: labels, counts, scores and predictions are those of volumes, with the slice that spoke loudest."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from predicting import exported_encoder, table
from safetensors.numpy import load_file
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

import medssl
from medssl.commands.finetune import finetune
from medssl.commands.predict import predict
from medssl.config import Finetune, resolve
from medssl.data.audit import audit_lines
from medssl.data.store import Store
from medssl.data.volumes import Volumes
from medssl.encoder import artefact
from medssl.errors import UserError
from medssl.evaluate.models import extract
from medssl.finetuning.question import ask
from medssl.finetuning.run_report import write_run_report
from medssl.pretraining.fit_to_images import fit_to_images
from medssl.runs.dataset import open_store_of_run, prepare_dataset
from medssl.runs.models_to_track import models_to_track
from medssl.runs.resolve_config import list_source
from medssl.runs.run_dir import load_config

VOLUMES, SLICES, EDGE = 24, 6, 24
CPU = torch.device("cpu")
SETS = ["finetune.draws=1", "finetune.bootstraps=100", "finetune.steps=4", "train.workers=0", "tracking.mlflow=false"]


def planted(volume: int) -> int:
    """The slice of an odd volume that has a bright square."""
    return volume * 5 % SLICES


def write_volume(file: Path, volume: int) -> None:
    """Noise of another mean in each volume; in odd ones a bright square in one slice, so that only that slice shows the class."""
    voxels = np.random.default_rng(volume).integers(60, 120, (EDGE, EDGE, SLICES)).astype(np.int16)
    if volume % 2:
        voxels[8:16, 8:16, planted(volume)] += 80
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(file)  # pyright: ignore


@pytest.fixture(scope="module")
def brains(tmp_path_factory) -> Path:
    """24 volumes of 6 slices of 12 patients, half of them for the test, with a table that names each volume."""
    root = tmp_path_factory.mktemp("brains")
    rows = ["image,patient_id,label,split"]
    for volume in range(VOLUMES):
        write_volume(root / f"v{volume:02}.nii.gz", volume)
        rows.append(f"v{volume:02}.nii.gz,{volume // 2:03},{('normal', 'sick')[volume % 2]},{('train', 'test')[volume // 2 % 2]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def encoder(brains, reporter, tmp_path_factory) -> Path:
    """The folder of an encoder with random weights."""
    folder = tmp_path_factory.mktemp("runs") / "encoder"
    exported_encoder(folder, brains, reporter(), source="nifti")
    return folder


def tuned(encoder: Path, out: Path, reporter, mode: str):
    """The folder of a fine-tuning without pictures, its store, and what was said."""
    said = reporter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medssl.finetuning.run_report.make_pictures", lambda *_: (None, ""))
        folder = finetune(said, encoder=str(encoder), labels="all", mode=mode, out=out, sets=SETS)
    results = json.loads((folder / "results.json").read_text())
    return SimpleNamespace(folder=folder, results=results, said="\n".join(said.said), warned=said.warned)


@pytest.fixture(scope="module")
def linear(encoder, reporter, tmp_path_factory):
    return tuned(encoder, tmp_path_factory.mktemp("runs") / "linear", reporter, "linear")


def store_of(run: Path, results: dict) -> Store:
    return open_store_of_run(run, results["data"]["fingerprint"])


def test_every_count_is_one_of_volumes_and_says_so(linear):
    task = linear.results["task"]
    assert task["counted"] == "volumes"
    assert (task["pool"], task["test"]) == ({"n_labels": 12, "n_patients": 6}, {"n_labels": 12, "n_patients": 6})
    assert [(each["pool"], each["test"]) for each in task["classes"]] == [(6, 6), (6, 6)]
    assert [row["n_labels"]["high"] for row in linear.results["summary"] if row["init"] == "pretrained"] == [12]
    assert {row["init"] for row in linear.results["summary"]} == {"pretrained", "random", "pixels"}
    for sentence in (
        "24 volumes of 144 slices",
        "train 12 volumes / 6 patients, test 12 volumes / 6 patients",
        "test      12 volumes of 6 patients",
        "0 of 72 test slices",
    ):
        assert sentence in linear.said
    page = (linear.folder / "report.html").read_text()
    assert "12 volumes" in page
    assert "mean and the maximum of each feature over its slices" in page
    assert "on the test volumes" in page
    assert "60 different slices of 10 volumes of 5 patients" in page
    assert "on the test images" not in page


def test_the_audit_counts_volumes_and_their_labels(linear):
    found = json.loads((store_of(linear.folder, linear.results).path / "audit.json").read_text())
    assert found["images"]["used"] == VOLUMES * SLICES
    each = {"least": SLICES, "median": SLICES, "most": SLICES}
    assert found["volumes"] == {"count": VOLUMES, "slices_each": each, "labels": {"label": {"normal": 12, "sick": 12}}}
    lines = [f"{heading} {sentence}" for heading, sentence in audit_lines(found)]
    assert "volumes 24; slices each: 6 (from 6 to 6)" in lines
    assert [line.split() for line in lines if "normal" in line] == [["label", "normal", "12"]]


def test_no_volume_is_cut_by_split_and_draws_which_name_volumes(linear):
    store = store_of(linear.folder, linear.results)
    volumes = Volumes.of(store)
    splits = json.loads((linear.folder / "splits.json").read_text())
    split = dict(zip(volumes.table["key"], volumes.table["split"], strict=True))
    assert set(splits["test"]) == {key for key, part in split.items() if part == "test"}
    assert {key for draw in splits["draws"]["100pct"] for key in draw} == {key for key, part in split.items() if part == "train"}
    assert len(volumes.table) == VOLUMES


def test_the_auroc_is_that_of_one_prediction_for_each_volume(linear):
    found = pd.read_parquet(linear.folder / "predictions.parquet").query("init == 'pretrained' and labels == '100pct'")
    assert len(found) == found["key"].nunique() == 12
    expected = roc_auc_score(found["y_true"] == "sick", found["prob_sick"])
    (row,) = [row for row in linear.results["summary"] if (row["init"], row["labels"]) == ("pretrained", "100pct")]
    assert row["auroc"]["mean"] == pytest.approx(expected)


def test_the_probabilities_equal_pooling_by_hand(linear, encoder):
    store, (network, _) = store_of(linear.folder, linear.results), artefact.load(encoder)
    each = extract(network, store.inputs, np.arange(len(store.images)), CPU).astype(np.float64)
    series = store.table["series"].to_numpy(str)
    parts = load_file(linear.folder / "classifier.safetensors")
    assert json.loads((linear.folder / "classifier.json").read_text())["pooling"] == "mean_max"
    found = pd.read_parquet(linear.folder / "predictions.parquet").query("init == 'pretrained' and labels == '100pct'")
    for key, prob in zip(found["key"], found["prob_sick"], strict=True):
        slices = each[series == key]
        assert len(slices) == SLICES
        pooled = np.concatenate([slices.mean(axis=0), slices.max(axis=0)])
        assert prob == pytest.approx(softmax(parts["weight"] @ pooled + parts["bias"])[1], abs=1e-5)


def test_a_prediction_is_a_row_for_each_volume_with_its_empty_slices_and_the_planted_slice_as_the_loudest(
    linear, reporter, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("ward").mkdir()
    for volume in range(30, 36):
        write_volume(Path(f"ward/n{volume}.nii.gz"), volume)
    Path("ward/broken.nii.gz").write_bytes(b"no volume")
    voxels = np.random.default_rng(0).integers(60, 120, (EDGE, EDGE, 5)).astype(np.int16)
    voxels[:, :, [0, 4]] = 0
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename("ward/ends.nii.gz")  # pyright: ignore
    said = reporter()
    predict(said, data="ward", model=str(linear.folder))
    rows = {row["file"]: row for row in table()}
    assert len(rows) == len(table()) == 8
    for volume in range(30, 36):
        row = rows[f"n{volume}.nii.gz"]
        assert (row["slices"], row["slices_left_out"], row["index"], row["left_out"]) == ("6", "0", "0", "")
        assert row["prediction"] == ("normal", "sick")[volume % 2]
        assert row["loudest_file"] == row["file"]
        if volume % 2:
            assert int(row["loudest_index"]) == planted(volume)
    assert [rows["ends.nii.gz"][name] for name in ("slices", "slices_left_out", "left_out")] == ["3", "2", ""]
    assert rows["broken.nii.gz"]["prediction"] == ""
    assert rows["broken.nii.gz"]["left_out"]
    assert any("predicted 7 volumes of 39 slices" in line for line in said.said)
    assert any("on 12 volumes of 6 patients" in line for line in said.said)


def test_the_python_interface_takes_the_slices_of_one_volume(linear, brains, reporter, tmp_path):
    predict(reporter(), data=str(brains), model=str(linear.folder), out=tmp_path / "p.csv")
    expected = {row["file"]: float(row["prob_sick"]) for row in table(str(tmp_path / "p.csv"))}
    classifier = medssl.load_classifier(linear.folder)
    slices = torch.cat([classifier.prepare(brains / "v01.nii.gz", index) for index in range(SLICES)])
    assert classifier.predict(slices)["sick"] == pytest.approx(expected["v01.nii.gz"], abs=1e-5)
    with pytest.raises(UserError, match="predicts volumes"):
        classifier.predict(brains / "v01.nii.gz")


def test_a_classifier_of_volumes_is_no_model_for_a_server(linear):
    assert "classifier" not in {model.name for model in models_to_track(linear.folder, load_config(linear.folder))}


def test_labels_of_slices_keep_the_slices_as_what_is_counted(encoder, reporter):
    config, lines = load_config(encoder), reporter()
    source = list_source(config.data)
    dataset = prepare_dataset(source, config, lines)
    in_volume = dataset.store.table.groupby("series").cumcount()
    labels = np.where((in_volume == 2) & (dataset.store.table["label:label"] == "sick"), "sick", "normal")
    dataset = replace(dataset, store=replace(dataset.store, table=dataset.store.table.assign(**{"label:label": labels})))
    question = ask(dataset, ["label"], config)
    question.report(lines, dataset, source)
    assert (question.task.counted, len(question.table), len(question.task.test)) == ("images", 144, 72)
    assert any("12 of 24 volumes" in line and "not pooled" in line for line in lines.said)
    assert any(line.split() == ["label", "sick", "12"] for line in lines.said)


@pytest.mark.slow
def test_full_fine_tuning_counts_volumes_and_predict_agrees_with_it(encoder, brains, reporter, tmp_path):
    full = tuned(encoder, tmp_path / "full", reporter, "full")
    assert full.results["task"]["test"]["n_labels"] == 12
    assert {row["n_labels"]["high"] for row in full.results["summary"]} == {12}
    predict(reporter(), data=str(brains), model=str(full.folder), out=tmp_path / "p.csv")
    predicted = {row["volume"]: float(row["prob_sick"]) for row in table(str(tmp_path / "p.csv"))}
    found = pd.read_parquet(full.folder / "predictions.parquet").query("init == 'pretrained'")
    card = json.loads((full.folder / "classifier.json").read_text())
    assert card["pooling"] == "mean"
    for key, prob in zip(found["key"], found["prob_sick"], strict=True):
        odds = np.log(prob / (1 - prob)) / card["temperature"]
        assert predicted[key] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-4)


@pytest.mark.slow
def test_the_report_shows_a_slice_of_each_volume_and_says_which(linear, tmp_path):
    from medssl.evaluate.schema import read_results

    missing = write_run_report(linear.folder, read_results(linear.folder), CPU, tmp_path / "page.html")
    assert missing == ""
    page = (tmp_path / "page.html").read_text()
    assert "Of a volume one slice is shown: the one that spoke loudest" in page and re.search(r"\); slice [1-6] of 6<", page)
    assert "Grad-CAM" in page


def test_attention_is_learned_exported_and_predicts_as_it_was_tested(encoder, brains, reporter, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SETS", [*SETS, "finetune.pooling=attention"])
    run = tuned(encoder, tmp_path / "run", reporter, "linear")
    assert json.loads((run.folder / "classifier.json").read_text())["pooling"] == "attention"
    assert len(run.warned) == 1, run.warned[1:]
    assert "gated attention" in (run.folder / "report.html").read_text()
    predict(reporter(), data=str(brains), model=str(run.folder), out=tmp_path / "p.csv")
    predicted = {row["volume"]: float(row["prob_sick"]) for row in table(str(tmp_path / "p.csv"))}
    found = pd.read_parquet(run.folder / "predictions.parquet").query("init == 'pretrained' and labels == '100pct'")
    temperature = json.loads((run.folder / "classifier.json").read_text())["temperature"]
    for key, prob in zip(found["key"], found["prob_sick"], strict=True):
        odds = np.log(prob / (1 - prob)) / temperature
        assert predicted[key] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-4)
    classifier = medssl.load_classifier(run.folder)
    slices = torch.cat([classifier.prepare(brains / "v01.nii.gz", index) for index in range(SLICES)])
    rows = {row["file"]: float(row["prob_sick"]) for row in table(str(tmp_path / "p.csv"))}
    assert classifier.predict(slices)["sick"] == pytest.approx(rows["v01.nii.gz"], abs=1e-5)
    with pytest.raises(UserError, match="with mode linear"):
        tuned(encoder, tmp_path / "knn", reporter, "knn")


def test_attention_over_images_that_are_no_slices_is_refused(encoder, reporter):
    config = load_config(encoder)
    dataset = prepare_dataset(list_source(config.data), config, reporter())
    table = dataset.store.table.assign(**{"label:label": np.where(np.arange(len(dataset.store.table)) % 2, "a", "b")})
    config = config.model_copy(update={"finetune": Finetune(pooling="attention")})
    with pytest.raises(UserError, match="Leave the setting out"):
        ask(replace(dataset, store=replace(dataset.store, table=table)), ["label"], config)


def test_slices_of_one_patient_are_no_negatives_unless_that_is_asked_for_or_one_patient_has_most_of_them(brains, reporter):
    def fitted(most_of_one_patient: bool = False, **method: bool) -> tuple[object, str]:
        given = {"method": {"name": "simclr", **method}}
        config = resolve({"data": {"path": str(brains), "size": 16, "source": {"name": "nifti"}}, **given})
        dataset = prepare_dataset(list_source(config.data), config, reporter())
        if most_of_one_patient:
            table = dataset.store.table
            patient = table["patient"].where(table["series"].isin(list(dict.fromkeys(table["series"]))[:4]), "one")
            dataset = replace(dataset, store=replace(dataset.store, table=table.assign(patient=patient)))
        found = fit_to_images(config, dataset, given)
        return found.config.method.mask_same_patient, " ".join(found.sentences)  # pyright: ignore

    masked, said = fitted()
    assert masked is True
    assert "Slices of one patient are no negatives" in said
    asked, said = fitted(mask_same_patient=False)
    assert asked is False
    assert "negatives" not in said
    assert fitted(most_of_one_patient=True)[0] is False
