"""The numbers of health: which images they come from, and what a method's step adds to them."""

import numpy as np
import pytest
import torch
from small import noise_batch, small_method

from medssl.config import resolve
from medssl.evaluate.models.features import Pixels, extract
from medssl.pretraining import health
from medssl.runs.dataset import PreparedDataset, prepare_dataset
from medssl.runs.resolve_config import list_source

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found(pictures, reporter) -> PreparedDataset:
    config = resolve({"data": {"path": str(pictures / "labels.csv"), "source": "manifest", "size": 16}})
    return prepare_dataset(list_source(config.data), config, reporter())


def test_the_neighbours_and_the_probe_are_asked_for_held_out_patients_and_know_those_that_are_trained_on(found, monkeypatch):
    read = []

    def noted(network, images, volumes, rows, device, pooling):
        read.append(set(rows.tolist()))
        return extract(network, images, rows, device)

    monkeypatch.setattr(health, "extract_pooled", noted)
    row = health.encoder_metrics(Pixels(), found, 5, CPU)
    assert row.keys() == {"rankme", "knn", "probe"}
    assert row["knn"] == row["probe"] == 1.0, "the class is a bright square"
    bank, query = read
    assert bank == set(found.pretraining.tolist())
    assert query == set(np.flatnonzero(found.holdout).tolist())
    patients = [set(found.patients[list(rows)].tolist()) for rows in (bank, query)]
    assert not patients[0] & patients[1]
    assert not (bank | query) & set(np.flatnonzero(found.roles == "test").tolist())


def test_without_labels_there_is_rankme_alone(found, monkeypatch):
    monkeypatch.setitem(found.__dict__, "labels", np.full(len(found.roles), -1))
    assert health.encoder_metrics(Pixels(), found, 5, CPU).keys() == {"rankme"}


def test_images_without_a_label_are_neither_voters_nor_asked(found, monkeypatch):
    some = np.where(np.arange(len(found.roles)) % 2, found.labels, -1)  # of each patient one of two images
    monkeypatch.setitem(found.__dict__, "labels", some)
    row = health.encoder_metrics(Pixels(), found, 5, CPU)
    assert row["knn"] == row["probe"] == 1.0


@pytest.mark.parametrize(
    ("name", "more"), [("pnnclr", {"nn_age", "nn_distinct", "cos_z_pnn", "nn_label_agreement"}), ("simclr", set()), ("byol", set())]
)
def test_a_step_gives_its_spread_and_where_it_looked_something_up_the_quality_of_that(name, more):
    method = small_method(name)
    method.after_update(method(noise_batch(0, 30)), 0.0)
    row = health.step_metrics(method(noise_batch(1, 30)), 1)
    assert row.keys() >= {"embedding_std", "embedding_rank", "alignment", "uniformity"} | more
    assert any(key.startswith("nn_") for key in row) == bool(more)
