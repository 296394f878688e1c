"""Features of volumes: they equal pooling by hand, and the loudest slice is the one without which the prediction is least sure."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from medssl.data.volumes import Volumes
from medssl.evaluate.models import Classifier, extract_pooled, loudest_slices, pool, pool_without_each
from medssl.evaluate.models.full_finetune import predict

CPU = torch.device("cpu")
STARTS, SIZES = np.array([0, 4, 5]), [4, 1, 6]
FEATURES = np.random.default_rng(0).normal(size=(11, 5)).astype(np.float32)


class Corner(nn.Module):
    """The first five pixels of an image as its features."""

    num_features = 5

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, :5]


def by_hand(slices: np.ndarray, pooling: str) -> np.ndarray:
    mean = slices.astype(np.float64).mean(axis=0)
    return np.concatenate([mean, slices.max(axis=0)]) if pooling == "mean_max" else mean


def a_classifier(pooling: Any, multilabel: bool = False, seed: int = 0) -> Classifier:
    classifier = Classifier(Corner(), 3, multilabel, temperature=0.7, pooling=pooling)
    weight = np.random.default_rng(seed).normal(size=tuple(classifier.head.weight.shape))
    classifier.load_tensors({"weight": torch.from_numpy(weight), "bias": torch.zeros(3).double()})
    return classifier


def of_sizes(sizes: list[int]) -> tuple[np.ndarray, Volumes]:
    series = [f"v{n}" for n, size in enumerate(sizes) for _ in range(size)]
    order = np.random.default_rng(1).permutation(len(series))  # the slices of a volume need not follow each other
    table = pd.DataFrame({"key": [str(n) for n in range(len(series))], "series": np.array(series)[order], "pixel_hash": series})
    images = np.random.default_rng(2).integers(0, 256, (len(series), 1, 6, 6), np.uint8)
    return images, Volumes.of(SimpleNamespace(table=table, images=images, card={"versions": {"readers": {"nifti": "1"}}}))  # pyright: ignore


@pytest.mark.parametrize("pooling", ["mean", "mean_max"])
def test_pooled_features_equal_those_by_hand(pooling: Any) -> None:
    expected = [by_hand(slices, pooling) for slices in np.split(FEATURES, STARTS[1:])]
    np.testing.assert_allclose(pool(FEATURES, STARTS, pooling), expected, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "mean_max"])
def test_pooling_without_each_slice_equals_pooling_of_the_others(pooling: Any) -> None:
    slices = np.round(FEATURES[:6])  # with equal maxima
    expected = [by_hand(np.delete(slices, n, axis=0), pooling) for n in range(6)]
    np.testing.assert_allclose(pool_without_each(slices, pooling), expected, atol=1e-12)


def test_each_volume_gets_its_own_slices_in_blocks_of_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    images, volumes = of_sizes([3, 1, 5, 2])
    chosen = np.array([0, 2, 3])
    expected = [by_hand(images[np.flatnonzero(volumes.of_rows == v), 0, 0, :5] / np.float32(255), "mean_max") for v in chosen]
    for block in (1, 4, 1000):
        monkeypatch.setattr("medssl.data.volumes._BLOCK", block)
        np.testing.assert_allclose(extract_pooled(Corner(), images, volumes, chosen, CPU, "mean_max"), expected, rtol=1e-6)


def test_the_logits_of_a_volume_are_the_mean_of_those_of_its_slices_after_full_fine_tuning() -> None:
    images, volumes = of_sizes([3, 1, 4])
    classifier = a_classifier("mean").float()
    with torch.no_grad():
        logits = classifier(torch.from_numpy(images).float() / 255).numpy()
    means = np.stack([logits[volumes.of_rows == v].mean(axis=0) for v in range(3)])
    expected = np.exp(means) / np.exp(means).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict(classifier, images, np.arange(3), CPU, volumes), expected, rtol=1e-5)
    classifier.temperature = 1.0
    of_features = classifier.probabilities(torch.from_numpy(extract_pooled(Corner(), images, volumes, np.arange(3), CPU, "mean")))
    np.testing.assert_allclose(of_features.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "mean_max"])
def test_the_loudest_slice_is_the_one_whose_absence_lowers_the_prediction_most(pooling: Any) -> None:
    for seed in range(5):
        classifier, slices = a_classifier(pooling, seed=seed), np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32)

        def probabilities(x: np.ndarray, classifier: Classifier = classifier) -> np.ndarray:
            return classifier.probabilities(torch.from_numpy(by_hand(x, pooling))[None])[0].numpy()

        predicted = probabilities(slices).argmax()
        without = [probabilities(np.delete(slices, n, axis=0))[predicted] for n in range(6)]
        assert loudest_slices(classifier, slices).tolist() == [int(np.argmin(without))]


def test_the_loudest_slice_is_found_where_the_classifier_is_as_good_as_certain() -> None:
    classifier, slices = a_classifier("mean"), np.tile(FEATURES[:1] * 1000, (4, 1))
    slices[2] *= 3
    assert classifier.probabilities(torch.from_numpy(slices.mean(0))[None]).max() == 1
    assert loudest_slices(classifier, slices).tolist() == [2]


def test_each_of_several_labels_has_a_loudest_slice_of_its_own() -> None:
    classifier, slices = a_classifier("mean_max", multilabel=True), FEATURES[5:]
    whole = classifier.probabilities(torch.from_numpy(by_hand(slices, "mean_max"))[None])[0].numpy()
    without = np.stack(
        [classifier.probabilities(torch.from_numpy(by_hand(np.delete(slices, n, 0), "mean_max"))[None])[0].numpy() for n in range(6)]
    )
    confidence = np.where(whole >= 0.5, without, 1 - without)
    assert loudest_slices(classifier, slices).tolist() == confidence.argmin(axis=0).tolist()


def test_the_only_slice_of_a_volume_is_the_loudest() -> None:
    assert loudest_slices(a_classifier("mean_max"), FEATURES[:1]).tolist() == [0]


def test_to_a_classifier_of_volumes_an_image_is_a_volume_of_one_slice() -> None:
    images, classifier = torch.rand(2, 1, 6, 6), a_classifier("mean_max")
    features = np.stack([by_hand(image[0, :1, :5].numpy(), "mean_max") for image in images])
    with torch.no_grad():
        prob = (classifier(images) / classifier.temperature).softmax(dim=1)
    torch.testing.assert_close(prob, classifier.probabilities(torch.from_numpy(features)))
