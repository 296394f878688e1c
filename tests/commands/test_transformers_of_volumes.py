"""Transformers of whole volumes from pretraining to prediction, on the phantom: tiny ones, which learn little in ten steps."""

import csv
import json
from pathlib import Path

import pytest

from medssl.commands.finetune import finetune
from medssl.commands.predict import predict
from medssl.commands.pretrain import pretrain
from medssl.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EDGE = 12
PRETRAINING = [
    "data.source={name: phantom_volumes, patients: 60, size: 16}",
    f"data.size={EDGE}",
    "method.hidden=32",
    "method.width=16",
    "train.steps=10",
    "train.batch_size=16",
    "train.workers=0",
    "monitor.knn_every_epochs=100",
    "tracking.mlflow=false",
]
NETWORKS = {"swin": ["backbone.model=swin", "backbone.width=12"], "vit": ["backbone.model=vit", "backbone.width=24", "backbone.patch=4"]}


def pretrained(reporter, out: Path, network: list[str]) -> Path:
    return pretrain(reporter, data="phantom_volumes", preset="volume_mr_cpu", method="simclr", out=out, sets=[*PRETRAINING, *network])


@pytest.mark.parametrize("model", ["swin", "vit"])
def test_a_transformer_is_pretrained_fine_tuned_and_predicts(model, tmp_path, reporter):
    encoder = pretrained(reporter(), tmp_path / "a", NETWORKS[model])
    card = json.loads((encoder / "card.json").read_text())
    assert card["backbone"]["model"] == model
    said = reporter()
    folder = finetune(said, labels="50pct", encoder=str(encoder), out=tmp_path / "b", sets=["tracking.mlflow=false", "finetune.draws=1"])
    scores = {row["init"]: row["auroc"]["mean"] for row in json.loads((folder / "results.json").read_text())["summary"]}
    assert scores.keys() == {"pretrained", "random", "pixels"}
    assert "Grad-CAM needs a feature map of convolutions" in (folder / "report.html").read_text()
    new = ["data.source={name: phantom_volumes, patients: 6, size: 16, seed: 9}"]
    predict(reporter(), data="phantom_volumes", model=str(folder), out=tmp_path / "rows.csv", sets=new)
    assert len(list(csv.DictReader((tmp_path / "rows.csv").read_text("utf-8").splitlines()))) == 6


def test_a_size_that_the_patches_do_not_divide_leaves_no_run_folder(tmp_path, reporter):
    with pytest.raises(UserError, match=r"12 x 12 x 12 voxels cannot be cut into cubes of 16 voxels"):
        pretrained(reporter(), tmp_path / "a", ["backbone.model=vit", "backbone.width=24"])
    assert not (tmp_path / "a").exists()
