"""The encoder as a model of MLflow."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small import BACKBONE

from medssl.encoder import artefact
from medssl.encoder.export import mlflow

CARD = {"intensity": "float in [0, 1]", "licence": "as the data allows", "intended_use": "research"}


@pytest.fixture(scope="module")
def encoder_and_card(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    encoder = artefact.build_encoder(BACKBONE, 1, 16, torch.tensor([0.4]), torch.tensor([0.2]), seed=0)
    artefact.save(encoder, folder, backbone=BACKBONE, channels=1, size=16, card=CARD)
    return artefact.load(folder)


@pytest.fixture(scope="module")
def written(encoder_and_card, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow") / "encoder"
    encoder, card = encoder_and_card
    mlflow.write(encoder, card, folder)
    return folder


def test_no_encoder_is_refused(encoder_and_card):
    encoder, card = encoder_and_card
    assert mlflow.refusal(encoder, card) is None


def test_the_model_states_images_features_and_the_digest_of_the_weights(written, encoder_and_card):
    described = yaml.safe_load((written / "MLmodel").read_text())
    (images,), (features,) = (json.loads(described["signature"][part]) for part in ("inputs", "outputs"))
    assert images == {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 16, 16]}}
    assert features == {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 16]}}
    assert described["metadata"]["weights_sha256"] == encoder_and_card[1]["weights_sha256"]
    assert described["flavors"]["python_function"]["config"] == {"device": "cpu"}
    assert [line.split("==")[0] for line in (written / "requirements.txt").read_text().split()] == ["mlflow", "torch", "numpy"]


def test_the_folder_has_no_pickle_and_no_name_of_the_machine(written):
    assert sorted(str(file.relative_to(written)) for file in written.rglob("*") if file.is_file()) == [
        "MLmodel",
        "data/model.pt2",
        "python_env.yaml",
        "requirements.txt",
    ]
    for file in (written / "MLmodel", written / "python_env.yaml", written / "requirements.txt"):
        for canary in (str(Path.home()), os.uname().nodename, str(written)):
            assert len(canary) < 5 or canary not in file.read_text()  # a shorter one may be part of a word


@pytest.mark.slow
def test_mlflow_loads_the_model_and_it_gives_the_features_of_the_encoder(written, encoder_and_card):
    encoder, card = encoder_and_card
    assert mlflow.check(written, encoder, card) < mlflow.TOLERANCE
    other = artefact.build_encoder(BACKBONE, 1, 16, torch.tensor([0.0]), torch.tensor([1.0]), seed=0).eval()
    assert mlflow.check(written, other, card) > 0.01
    names: dict[str, Any] = {"images": np.random.default_rng(0).random((1, 1, 16, 16), np.float32)}
    exec(mlflow.usage(written, card, encoder.backbone), names)  # noqa: S102 - our own lines
    assert names["features"].shape == (1, encoder.num_features)
