"""Whole volumes from pretraining to prediction, on the phantom: what is learnt, counted, written and shown."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import medssl
from medssl.commands.embed import embed
from medssl.commands.finetune import finetune
from medssl.commands.predict import predict
from medssl.commands.pretrain import pretrain
from medssl.data.sources import phantom_volumes
from medssl.errors import UserError
from medssl.runs.dataset import open_store_of_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENTS, EDGE, GAIN = 450, 24, 0.15
PRETRAINING = [
    f"data.source={{name: phantom_volumes, patients: {PATIENTS}, size: {EDGE}}}",
    f"data.size={EDGE}",
    "backbone.width=8",
    "backbone.stem=own",
    "method.hidden=256",
    "method.width=64",
    "train.steps=200",
    "train.batch_size=32",
    "train.lr=3e-3",
    "train.warmup_epochs=1",
    "train.workers=0",
    "views.recipe={crop_volume: [0.6, 1], flip_axes: [head_feet, front_back, left_right], brightness: 0.3, bias_p: 0, blur_p: 0, "
    "thick_slices_p: 0, noise_p: 0, gamma_p: 0}",
    "monitor.knn_every_epochs=100",
    "tracking.mlflow=false",
]


@pytest.fixture(scope="module")
def runs(reporter, tmp_path_factory):
    """The folders of a pretraining and of a fine-tuning after it, the results, and what was said."""
    root, said = tmp_path_factory.mktemp("runs"), reporter()
    encoder = pretrain(said, data="phantom_volumes", preset="volume_mr_cpu", method="simclr", out=root / "a", sets=PRETRAINING)
    folder = finetune(said, labels="10pct", encoder=str(encoder), out=root / "b", sets=["tracking.mlflow=false"])
    results = json.loads((folder / "results.json").read_text())
    return SimpleNamespace(encoder=encoder, folder=folder, results=results, said="\n".join(said.said))


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Six volumes of other patients, as NIfTI files without a table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSSL_CACHE", str(tmp_path_factory.mktemp("drawn")))
        source = phantom_volumes.build(phantom_volumes.Config(patients=6, size=EDGE, seed=9), "phantom_volumes")
    (source.root / "labels.csv").unlink()
    return source.root


def auroc(results, init: str) -> float:
    (row,) = [row for row in results["summary"] if row["init"] == init]
    return row["auroc"]["mean"]


def test_pretraining_finds_shapes_that_neither_voxels_nor_a_random_network_show(runs):
    gain = auroc(runs.results, "pretrained") - auroc(runs.results, "random")
    assert gain >= GAIN
    assert auroc(runs.results, "pixels") < auroc(runs.results, "pretrained")


def test_counts_are_whole_volumes(runs):
    assert runs.results["task"]["counted"] == "whole volumes"
    assert runs.results["task"]["test"] == {"n_labels": PATIENTS // 5, "n_patients": PATIENTS // 5}
    assert f"{PATIENTS} volumes 1x{EDGE}x{EDGE}x{EDGE}" in runs.said
    assert f"{PATIENTS // 5} whole volumes of {PATIENTS // 5} patients, never seen" in runs.said


def test_the_pictures_of_a_run_are_planes(runs):
    with Image.open(runs.encoder / "views.png") as views:
        stored = np.asarray(views.convert("L"))[30:190, 14:174]
    assert not stored[90:, 90:].any(), "the fourth quarter is empty"
    assert (stored[:70, :70] > 0).mean() > 0.9, "the first is a plane"
    page = (runs.folder / "report.html").read_text()
    assert "Of a volume three planes are shown" in page
    assert "Grad-CAM for" in page
    assert "over its slices" not in page
    assert {"neighbours.png", "grad_cam.png"} <= {file.name for file in (runs.folder / "figures").iterdir()}


def test_each_new_volume_has_a_row_with_the_prediction_of_the_python_interface(runs, few, reporter, tmp_path):
    said = reporter()
    predict(said, data=str(few), model=str(runs.folder), out=tmp_path / "p.csv")
    assert any("predicted 6 whole volumes" in line for line in said.said)
    with (tmp_path / "p.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["file"] for row in rows] == [f"P{number:05d}.nii" for number in range(6)]
    store = open_store_of_run(runs.encoder, json.loads((runs.encoder / "card.json").read_text())["data"]["fingerprint"])
    classifier = medssl.load_classifier(runs.folder)
    volume = store.images[0].astype(np.float32) / np.iinfo(store.images.dtype).max
    import torch

    found = classifier.predict(torch.from_numpy(volume))
    assert set(found) == {"cube", "ellipsoid", "sphere"}
    assert math.isclose(sum(found.values()), 1, abs_tol=1e-6)
    assert all(math.isclose(sum(float(row[f"prob_{name}"]) for name in found), 1, abs_tol=1e-4) for row in rows)


def test_features_of_volumes_are_not_pooled(runs, few, reporter, tmp_path):
    said = reporter()
    with pytest.raises(UserError, match="whole volumes"):
        embed(reporter(), data=str(few), encoder=str(runs.encoder), out=tmp_path / "f.parquet", pool="volume")
    embed(said, data=str(few), encoder=str(runs.encoder), out=tmp_path / "g.parquet")
    assert any("embedded  6 volumes" in line for line in said.said)
