"""How far out an image lies: against scikit-learn and covariances inverted outright, and whether the share means what it says."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import StandardScaler

from medssl.encoder.artefact import build_encoder
from medssl.evaluate.models.features import extract
from medssl.evaluate.models.ood import QUANTILES, FeaturesWithThumbnail, fit_statistics

BACKBONE = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 16, 32, 64]}}


def patients_of(n: int, each: int) -> np.ndarray:
    return np.array([f"p{i // each}" for i in range(n)])


def drawn(n: int, d: int, each: int, seed: int, decay: float = 1.0) -> np.ndarray:
    """Gaussian features, correlated, whose spread falls off from one direction to the next; `each` of a patient are alike."""
    random = np.random.default_rng(seed)
    of_patient = np.repeat(random.normal(size=(-(-n // each), d)), each, axis=0)[:n] if each > 1 else 0
    turn = np.linalg.qr(np.random.default_rng(99).normal(size=(d, d)))[0]
    return ((random.normal(size=(n, d)) + of_patient) * np.arange(1, d + 1) ** -decay @ turn + 3).astype(np.float32)


def test_the_distance_is_mahalanobis_under_scikit_learns_ledoit_wolf() -> None:
    x, new = drawn(60, 20, 1, seed=0), drawn(30, 20, 1, seed=1)
    scaler = StandardScaler().fit(x.astype(np.float64))
    reference = LedoitWolf().fit(scaler.transform(x.astype(np.float64)))
    found = fit_statistics(x, patients_of(60, 1))
    np.testing.assert_allclose(found.distances(new) ** 2, reference.mahalanobis(scaler.transform(new.astype(np.float64))), rtol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(60, 20), (15, 40)])
def test_the_quantiles_are_those_of_images_whose_patient_was_left_out(n: int, d: int) -> None:
    """Of patients with 1, 2, 3, ... images; each covariance is estimated and inverted outright."""
    x = drawn(n, d, 1, seed=2)
    patients = np.repeat(np.arange(20), np.arange(1, 21))[:n]
    wide = StandardScaler().fit_transform(x.astype(np.float64))
    a, mu = LedoitWolf().fit(wide).shrinkage_, 1
    expected = []
    for patient in np.unique(patients):
        others, held = wide[patients != patient], wide[patients == patient]
        shrunk = (1 - a) * np.cov(others.T, bias=True) + a * mu * np.eye(d)
        away = held - others.mean(axis=0)
        expected += np.sqrt(np.diag(away @ np.linalg.inv(shrunk) @ away.T)).tolist()
    found = fit_statistics(x[::-1], patients[::-1].astype(str))
    np.testing.assert_allclose(found.quantiles, np.quantile(expected, np.linspace(0, 1, QUANTILES)), rtol=1e-8)


@pytest.mark.parametrize(("n", "d", "each"), [(400, 64, 1), (400, 64, 4), (300, 256, 2), (100, 256, 1)])
def test_new_images_like_the_training_images_get_every_share_equally_often(n: int, d: int, each: int) -> None:
    """Fewer images than features too. Of training images themselves the shares would pile up near 0."""
    found = fit_statistics(drawn(n, d, each, seed=3), patients_of(n, each))
    shares = found.shares(drawn(4000, d, each, seed=4))
    allowed = 1.63 / np.sqrt(n / each)  # one in a hundred is farther off with so many independent distances to compare with
    assert kstest(shares, "uniform").statistic < allowed
    if each == 1:
        assert kstest(found.shares(drawn(n, d, each, seed=3)), "uniform").statistic > allowed


def test_what_lies_elsewhere_is_farther_out_than_all_training_images() -> None:
    found = fit_statistics(drawn(100, 256, 1, seed=5), patients_of(100, 1))
    assert (found.shares(drawn(50, 256, 1, seed=6) + 1) == 1).all()
    assert found.shares(found.mean[None]).tolist() == [0]


def test_with_held_out_images_the_quantiles_are_theirs() -> None:
    x, held = drawn(100, 20, 1, seed=7), 1.5 * drawn(80, 20, 1, seed=8)
    found = fit_statistics(x, patients_of(100, 1), held_out=held)
    np.testing.assert_allclose(found.quantiles[[0, -1]], [found.distances(held).min(), found.distances(held).max()])
    np.testing.assert_array_equal(found.whitening, fit_statistics(x, patients_of(100, 1)).whitening)


@pytest.mark.parametrize(("x", "each"), [(drawn(2, 8, 1, seed=9), 1), (drawn(6, 8, 1, seed=9), 6), (np.ones((5, 8), np.float32), 1)])
def test_two_images_one_patient_and_equal_images_give_numbers(x: np.ndarray, each: int) -> None:
    found = fit_statistics(x, patients_of(len(x), each))
    assert all(np.isfinite(part).all() for part in vars(found).values())
    assert found.shares(x + 100).tolist() == [1] * len(x)


def test_held_out_radiographs_are_ordinary_and_noise_negatives_and_ultrasound_are_not(shared_data) -> None:
    """PneumoniaMNIST's training images in two halves, and BreastMNIST; the network was never trained."""
    with np.load(shared_data / "medmnist/pneumoniamnist.npz") as file:
        images = np.random.default_rng(0).permutation(file["train_images"])[:900, None]
    with np.load(shared_data / "medmnist/breastmnist.npz") as file:
        ultrasound = file["test_images"][:60, None]
    encoder = build_encoder(BACKBONE, 1, 28, torch.tensor([0.5]), torch.tensor([0.25]), seed=0)
    described = FeaturesWithThumbnail(encoder)
    features = lambda some: extract(described, some, np.arange(len(some)), torch.device("cpu"))  # noqa: E731
    found = fit_statistics(features(images[:500]), patients_of(500, 1))
    shares = found.shares(features(images[500:]))
    assert kstest(shares, "uniform").statistic < 0.091, "samples of 500 and 400 differ by more in one of twenty"
    assert (shares > 0.99).mean() < 0.04
    strange = {
        "noise": np.random.default_rng(1).integers(0, 256, (60, 1, 28, 28), np.uint8),
        "negatives": 255 - images[500:560],
        "ultrasound": ultrasound,
    }
    far = {name: float(np.median(found.shares(features(some)))) for name, some in strange.items()}
    assert min(far.values()) > 0.99, far
