"""Whole volumes are samples by themselves: their features, the floor without a network, their copies, looks, counts and scores."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from volume_stores import write_store

from medssl.config import Config, Finetune, resolve
from medssl.data.looks import find_looks, look_lines
from medssl.data.split import parse_labels
from medssl.data.volume_slices import store_has_slices
from medssl.data.volumes import Volumes, find_volumes
from medssl.evaluate.experiment import Experiment, run_experiment
from medssl.evaluate.models import FeaturesWithThumbnail, Pixels, extract
from medssl.evaluate.models.ood import thumbnail_width
from medssl.finetuning.question import ask
from medssl.runs.dataset import PreparedDataset, channel_statistics, split_dataset

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
NUMBER = 24


class Small(nn.Module):
    """Two convolutions of volumes, and their means and maxima."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Sequential(nn.Conv3d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv3d(4, 4, 3))
        self.batches: list[int] = []

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(volumes))
        maps = self.convolve(volumes).flatten(2)
        return torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1)


def small() -> Small:
    torch.manual_seed(0)
    return Small()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """24 volumes of noise; every second one has a bright cube somewhere. All have the series of one examination in common."""
    volumes = RANDOM.integers(60, 120, (NUMBER, 1, 12, 16, 20), np.uint8)
    for row in range(1, NUMBER, 2):
        d, h, w = RANDOM.integers(0, 7, 3)
        volumes[row, 0, d : d + 5, h : h + 5, w : w + 5] += 90
    labels = ["plain", "cube"] * (NUMBER // 2)
    split = ["train"] * (NUMBER // 2) + ["test"] * (NUMBER // 2)
    return write_store(tmp_path_factory.mktemp("store") / "store", volumes, labels, {"series": ["one"] * NUMBER, "split": split})


@pytest.fixture(scope="module")
def dataset(store) -> PreparedDataset:
    return split_dataset(store, Config().data)


def test_the_floor_of_volumes_is_the_means_of_eight_parts_of_each_axis():
    volume = torch.from_numpy(RANDOM.random((2, 1, 16, 24, 32), np.float32))
    expected = volume.reshape(2, 1, 8, 2, 8, 3, 8, 4).mean(dim=(3, 5, 7)).flatten(1)
    assert torch.allclose(Pixels()(volume), expected, atol=1e-6)
    assert Pixels()(volume[:, :, :5]).shape == (2, 5 * 8 * 8), "no part is smaller than a voxel"


def test_features_do_not_depend_on_the_batch_which_holds_few_volumes(store, monkeypatch):
    rows, network = np.array([3, 0, 7, 22]), small()
    whole = extract(network, store.images, rows, CPU)
    monkeypatch.setattr("medssl.evaluate.models.features._VOXELS", 3 * 12 * 16 * 20)
    assert np.allclose(extract(network, store.images, rows, CPU), whole, atol=1e-6)
    assert network.batches == [4, 3, 1]
    single = torch.from_numpy(store.images[7].astype(np.float32) / 255)[None]
    with torch.no_grad():
        assert np.allclose(network(single)[0], whole[2], atol=1e-6)


def test_an_outlying_volume_is_judged_by_its_features_and_sixty_four_means():
    volume = torch.from_numpy(RANDOM.random((2, 2, 8, 8, 12), np.float32))
    found = FeaturesWithThumbnail()(volume)
    assert found.shape == (2, thumbnail_width(2, (8, 8, 12))) == (2, 128)
    assert torch.allclose(found, volume.reshape(2, 2, 4, 2, 4, 2, 4, 3).mean(dim=(3, 5, 7)).flatten(1), atol=1e-6)
    assert thumbnail_width(1, 224) == 49


def test_whole_volumes_of_one_series_are_not_joined(store):
    assert len(Volumes.of(store)) == NUMBER
    assert find_volumes(store, ["label"]) == (None, "")
    assert not store_has_slices(store)


def test_counts_are_whole_volumes_and_say_so(dataset, reporter):
    question, lines = ask(dataset, ["label"], Config()), reporter()
    assert (question.task.counted, question.volumes) == ("whole volumes", None)
    question.report(lines, dataset, SimpleNamespace(kind="nifti", notes=()))  # pyright: ignore
    said = "\n".join(lines.said)
    assert "24 volumes 1x12x16x20 uint8 of 24 patients" in said
    assert "train 12 volumes / 12 patients, test 12 volumes / 12 patients" in said
    assert "images" not in said


@pytest.mark.parametrize("mode", ["linear", "knn"])
def test_an_experiment_scores_volumes_by_their_own_features(dataset, mode):
    question = ask(dataset, ["label"], Config())
    experiment = Experiment(
        dataset.store.images,
        question.table,
        question.task,
        {"pretrained": small()},
        parse_labels("100pct"),
        Finetune(mode=mode, draws=1, bootstraps=100),
        0,
        CPU,
    )
    result = run_experiment(experiment)
    assert experiment.pooling == "none"
    assert result.features.shape == (NUMBER, 8), "nothing is pooled"
    (row,) = [row for row in result.results.document.summary if row.init == "pretrained"]
    assert row.auroc.mean == 1, "the maximum of a feature shows the cube"
    assert result.results.document.task.counted == "whole volumes"


def test_the_statistics_of_a_channel_are_those_of_all_voxels(store):
    mean, std = channel_statistics(store, np.arange(NUMBER))
    values = np.asarray(store.images, np.float64) / 255
    assert mean.tolist() == pytest.approx([values.mean()], rel=1e-6)
    assert std.tolist() == pytest.approx([values.std()], rel=1e-4)


def test_what_volumes_look_like_is_said_in_words_of_volumes(tmp_path):
    black, mask = np.zeros((16, 16, 16), np.uint8), np.zeros((16, 16, 16), np.uint8)
    black[4:12] = RANDOM.integers(0, 20, (8, 16, 16), np.uint8)
    mask[2:14, 3:13, 3:13] = 255
    mask[:8, :8, :8] = 0
    small_one = RANDOM.integers(50, 200, (16, 16, 16), np.uint8)
    small_one[:8] = small_one[:, :8] = small_one[:, :, :12] = 0
    small_one[0, 0, 0] = small_one[15, 15, 15] = 99  # its border is not black
    volumes = np.stack([RANDOM.integers(20, 230, (16, 16, 16), np.uint8), black, mask, small_one])[:, None]
    found = find_looks(write_store(tmp_path / "store", volumes, ["a"] * 4))
    assert {name: found[name] for name in ("checked", "dark", "few_values", "empty_views", "volumes")} == {
        "checked": 4,
        "dark": 1,
        "few_values": 1,
        "empty_views": 1,
        "volumes": True,
    }
    said = " ".join(look_lines(found))
    assert "25% of 4 volumes are nearly black" in said
    assert "views.recipe=volume_shape" in said
    assert "images" not in said.replace("all images are", "")


def test_the_card_of_a_classifier_of_whole_volumes_counts_them():
    from medssl.evaluate.models.classifier_card import ClassifierCard

    fields = {"size": (8, 16, 16), "pooling": "none"}
    assert ClassifierCard.model_construct(**fields).counted == "whole volumes"
    assert ClassifierCard.model_construct(size=64, pooling="mean_max").counted == "volumes"
    assert ClassifierCard.model_construct(size=64, pooling="none").counted == "images"


def test_a_size_of_three_numbers_is_that_of_whole_volumes():
    assert resolve({"data": {"volumes": "whole", "size": 24}}).data.shape == (1, 24, 24, 24)
