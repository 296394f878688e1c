"""Patches of volumes from pretraining to prediction, on the phantom with its shapes anywhere in larger volumes, and on new files."""

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from medicalnet import save_medicalnet
from PIL import Image
from whole_volumes import write_nifti

import medssl
from medssl.backbones import monai
from medssl.commands.embed import embed
from medssl.commands.finetune import finetune
from medssl.commands.neighbours import neighbours
from medssl.commands.predict import predict
from medssl.commands.pretrain import pretrain
from medssl.data.store import StoredVolumes
from medssl.encoder.foreign import load_foreign
from medssl.runs.dataset import open_store_of_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENTS, EDGE, PATCH, WINDOWS = 30, 32, 16, 27  # windows of a volume: three along each axis
PRETRAINING = [
    f"data.source={{name: phantom_volumes, patients: {PATIENTS}, size: {EDGE}}}",
    "data.volumes=patches",
    f"data.size={PATCH}",
    "data.spacing_mm=2",  # as the volumes have it
    "backbone.width=8",
    "method.hidden=32",
    "method.width=16",
    "method.support_size=10",
    "train.steps=4",
    "train.batch_size=8",
    "train.workers=0",
    "monitor.knn_every_epochs=1",
    "tracking.mlflow=false",
]
FINETUNING = ["finetune.draws=1", "finetune.bootstraps=100", "tracking.mlflow=false"]
NEW = {"a": (40, 40, 40), "b": (20, 60, 33), "c": (12, 40, 40)}


@pytest.fixture(scope="module")
def runs(reporter, tmp_path_factory):
    """The folders of a pretraining and of fine-tunings after it, and what was said."""
    root, said = tmp_path_factory.mktemp("runs"), reporter()
    encoder = pretrain(said, data="phantom_volumes", preset="volume_mr_cpu", out=root / "a", sets=PRETRAINING)
    folder = finetune(said, labels="all", encoder=str(encoder), out=root / "b", sets=FINETUNING)
    return SimpleNamespace(root=root, encoder=encoder, folder=folder, said="\n".join(said.said))


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Three volumes of other shapes."""
    folder = tmp_path_factory.mktemp("few")
    for name, shape in NEW.items():
        volume = np.random.default_rng(0).integers(1, 1000, shape).astype(np.int16)
        write_nifti(folder / f"{name}.nii.gz", volume, spacing=(2, 2, 2))
    return folder


def store_of(encoder: Path) -> StoredVolumes:
    images = open_store_of_run(encoder, json.loads((encoder / "card.json").read_text())["data"]["fingerprint"]).images
    assert isinstance(images, StoredVolumes)
    return images


def predicted(reporter, folder: Path, data: Path, out: Path) -> list[dict[str, str]]:
    predict(reporter(), data=str(data), model=str(folder), out=out)
    with out.open(newline="") as table:
        return list(csv.DictReader(table))


def test_the_card_says_what_new_volumes_need(runs):
    settings = json.loads((runs.encoder / "card.json").read_text())["preparation"]["settings"]
    assert {name: settings[name] for name in ("volumes", "size", "spacing_mm")} == {
        "volumes": "patches",
        "size": [PATCH] * 3,
        "spacing_mm": [2] * 3,
    }
    assert store_of(runs.encoder).shapes.tolist() == [[EDGE] * 3] * PATIENTS


def test_counts_are_whole_volumes_and_their_windows_are_said(runs):
    task = json.loads((runs.folder / "results.json").read_text())["task"]
    assert task["counted"] == "whole volumes" and task["test"]["n_labels"] == PATIENTS // 5
    assert f"{PATIENTS} volumes in patches of 1x16x16x16" in runs.said
    assert f"{PATIENTS} volumes are described in {PATIENTS * WINDOWS} windows" in runs.said


def test_reports_and_progress_speak_of_volumes(runs):
    seen = len(json.loads((runs.encoder / "card.json").read_text())["pretraining"]["pixels"]["hashes"])
    for folder in (runs.encoder, runs.folder):
        assert f"on {seen} different volumes of" in (folder / "report.html").read_text()
    assert f"Seen in training: {seen} different volumes" in (runs.encoder / "MODEL_CARD.md").read_text()
    assert "test volumes, of" in runs.said and "test whole volumes" not in runs.said


def test_the_first_pictures_of_views_are_the_boxes_of_the_first_step(runs):
    from medssl.planes import Planes
    from medssl.views.grid import tile

    images = store_of(runs.encoder)
    with Image.open(runs.encoder / "views.png") as views:
        first = np.asarray(views)[30:190, 14:174]
    boxes = [np.asarray(tile(Planes((2, 2, 2)).picture(box))) for box in images.draw(np.arange(PATIENTS), 0, 0)]
    assert any((box == first).all() for box in boxes)


def test_a_prediction_is_that_of_the_python_interface_for_the_windows_of_the_volume(runs, few, reporter, tmp_path):
    rows = predicted(reporter, runs.folder, few, tmp_path / "p.csv")
    assert [row["file"] for row in rows] == [f"{name}.nii.gz" for name in NEW]
    classifier = medssl.load_classifier(runs.folder)
    for row, (name, shape) in zip(rows, NEW.items(), strict=True):
        windows = classifier.prepare(few / f"{name}.nii.gz")
        assert windows.shape[1:] == (1, PATCH, PATCH, PATCH) and len(windows) == np.prod([max(1, -(-edge // 8) - 1) for edge in shape])
        with torch.no_grad():
            features = classifier.classifier.encoder(windows)
        pooled = torch.cat([features.mean(0), features.max(0).values])[None]
        expected = classifier.classifier.probabilities(pooled)[0].tolist()
        assert [float(row[f"prob_{name}"]) for name in classifier.classes] == pytest.approx(expected, abs=1e-4)
        assert list(classifier.predict(few / f"{name}.nii.gz").values()) == pytest.approx(expected, abs=1e-4)


def test_a_network_is_trained_on_windows_and_predicts_volumes(runs, few, reporter, tmp_path):
    sets = [*FINETUNING, "finetune.steps=3"]
    folder = finetune(reporter(), labels="all", mode="full", encoder=str(runs.encoder), out=tmp_path / "b", sets=sets)
    assert json.loads((folder / "results.json").read_text())["task"]["counted"] == "whole volumes"
    assert len(predicted(reporter, folder, few, tmp_path / "p.csv")) == 3


def test_the_report_shows_the_window_that_speaks_loudest(runs):
    page = (runs.folder / "report.html").read_text()
    assert "Grad-CAM for" in page and "could not be used" not in page
    assert "one window is shown" in page and re.search(r"\); window around slice \d+ of 32, row \d+ of 32, column \d+ of 32<", page)
    assert {"neighbours.png", "grad_cam.png"} <= {file.name for file in (runs.folder / "figures").iterdir()}


def test_the_features_of_a_volume_are_the_mean_of_its_windows(runs, few, reporter, tmp_path):
    embed(reporter(), data=str(few), encoder=str(runs.encoder), out=tmp_path / "f.parquet")
    table, encoder = pd.read_parquet(tmp_path / "f.parquet"), medssl.load_encoder(runs.encoder)
    assert len(table) == 3
    with torch.no_grad():
        expected = encoder(encoder.prepare(few / "b.nii.gz")).mean(0).numpy()
    np.testing.assert_allclose(table["features"].iloc[1], expected, atol=1e-5)


def test_neighbours_are_found_by_the_mean_of_all_windows(runs, few, reporter, tmp_path):
    found = neighbours(reporter(), query=few / "c.nii.gz", encoder=str(runs.encoder), k=3, out=tmp_path / "n.png")
    encoder, windows = medssl.load_encoder(runs.encoder), store_of(runs.encoder).windows
    with torch.no_grad():
        query = encoder(encoder.prepare(few / "c.nii.gz")).mean(0)
        of_volumes = np.arange(PATIENTS * WINDOWS).reshape(PATIENTS, WINDOWS)
        each = [encoder(torch.from_numpy(windows[rows].astype(np.float32) / 65535)).mean(0) for rows in of_volumes]
    cosines = torch.cosine_similarity(torch.stack(each), query[None])
    best = cosines.topk(3)
    assert [row for row, _ in found] == best.indices.tolist()
    assert [cosine for _, cosine in found] == pytest.approx(best.values.tolist(), abs=1e-4)


@pytest.mark.parametrize("start", ["whole volumes", "MedicalNet"])
def test_a_pretraining_on_patches_starts_from_weights_of_volumes_of_another_size(start, reporter, tmp_path):
    given = [setting for setting in PRETRAINING if not setting.startswith("backbone")]
    if start == "MedicalNet":
        torch.manual_seed(0)
        save_medicalnet(weights := tmp_path / "resnet_10_23dataset.pth")
        before = load_foreign(weights, 1, (PATCH, PATCH, PATCH), configured=monai.Config(width=8).model_dump(mode="json")).encoder
    else:
        sets = [*PRETRAINING, "data.volumes=whole", "data.size=24", "data.spacing_mm=null"]
        weights = pretrain(reporter(), data="phantom_volumes", preset="volume_mr_cpu", out=tmp_path / "a", sets=sets)
        before = medssl.load_encoder(weights).encoder
    sets = [*given, "train.lr=1e-12"]  # so that the weights stay what they were
    encoder = pretrain(reporter(), data="phantom_volumes", preset="volume_mr_cpu", init=weights, out=tmp_path / "b", sets=sets)
    after = medssl.load_encoder(encoder)
    assert (
        tuple(after.card["size"]) == (PATCH,) * 3 and after.card["start"]["file"] == weights.name and after.card["start"]["matched"] == 72
    )
    for (name, ours), theirs in zip(after.encoder.named_parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6, msg=name)
    assert torch.equal(after.encoder.mean, before.mean) and torch.equal(after.encoder.std, before.std)
    folder = finetune(reporter(), labels="all", encoder=str(encoder), out=tmp_path / "c", sets=FINETUNING)
    results = json.loads((folder / "results.json").read_text())
    assert {row["init"] for row in results["summary"]} == {"pretrained", "random", "start", "pixels"}
    assert results["task"]["counted"] == "whole volumes"
    assert f"starting from the weights of {weights.name}" in (folder / "report.html").read_text()
