"""The classifier's files: what is saved gives the probabilities of what was fitted, and anything else is an error."""

import json
from typing import Any

import numpy as np
import pytest
import tf32
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.encoder.artefact import build_encoder
from medssl.errors import UserError
from medssl.evaluate.models import classifier_file, ood
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.classifier_card import ClassifierCard
from medssl.evaluate.models.features import extract
from medssl.evaluate.models.linear_probe import fold_scaler

BACKBONE = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 8, 16, 16]}}
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 1, 16, 16), np.uint8)
COUNTS = {"n_labels": 60, "n_patients": 60}
CARD: dict[str, Any] = {
    "mean": [0.5],
    "std": [0.3],
    "backbone": BACKBONE,
    "channels": 1,
    "size": 16,
    "intensity": "float in [0, 1]",
    "contract": {"data.size": 16},
    "volumes": False,
    "data": {},
    "config": {},
    "training": {
        "labels": "100pct",
        "fraction": 1.0,
        "mode": "linear",
        "init": "pretrained",
        "draw": 0,
        **COUNTS,
        "test": {**COUNTS, "auroc": {"mean": 0.75, "low": 0.5, "high": 1.0}},
    },
    "encoder": {"method": {"name": "pnnclr"}},
    "provenance": {"medssl": "0.1.0"},
    "licence": "none",
    "intended_use": "a test",
}
ROWS, CPU = np.arange(60), torch.device("cpu")


def folded_of(probe: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    scaler, model = probe
    return fold_scaler(scaler, model, classes)


def encoder():
    return build_encoder(BACKBONE, 1, 16, torch.tensor([0.5]), torch.tensor([0.3]), seed=1)


FEATURES = extract(encoder(), IMAGES, ROWS, CPU)


def fitted(y: np.ndarray) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(FEATURES.astype(np.float64), y)


def saved(folder, weight, bias, temperature=1.0, kind="multiclass", names=("a", "b", "c")):
    statistics = ood.fit_statistics(extract(ood.FeaturesWithThumbnail(encoder()), IMAGES, ROWS, CPU), ROWS.astype(str))
    classifier = Classifier(encoder(), len(bias), kind == "multilabel", temperature)
    classifier.load_tensors({**classifier.tensors(), "weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    given = {"kind": kind, "classes": names[: len(bias)], "temperature": temperature}
    classifier_file.save(folder, classifier, statistics, ClassifierCard.model_validate({**CARD, **given}))
    return statistics


def said(folder) -> np.ndarray:
    """The loaded classifier's probabilities of all images."""
    loaded, _, _ = classifier_file.load(folder)
    with torch.no_grad():
        return loaded.probabilities(loaded.encoder(torch.from_numpy(IMAGES))).numpy()


@pytest.mark.parametrize("present", [(0, 1), (0, 1, 2), (0, 2), (1, 2)])
def test_the_loaded_classifier_says_what_scikit_learn_says_of_two_classes_three_and_one_missing(tmp_path, present):
    probe = fitted(np.array(present)[ROWS % len(present)])
    classes = max(present) + 1
    saved(tmp_path, *folded_of(probe, classes))
    expected = np.zeros((60, classes))
    expected[:, list(present)] = probe.predict_proba(FEATURES.astype(np.float64))
    np.testing.assert_allclose(said(tmp_path), expected, atol=1e-5)


def test_the_temperature_and_labels_that_stand_alone(tmp_path):
    """By hand: sigmoid and softmax of logits over the temperature."""
    weight, bias = np.zeros((2, 16)), np.array([1.0, -3.0])
    saved(tmp_path, weight, bias, temperature=2, kind="multilabel")
    np.testing.assert_allclose(said(tmp_path)[0], [1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(1.5))])
    saved(tmp_path, weight, bias, temperature=2, kind="ordinal")
    np.testing.assert_allclose(said(tmp_path)[0], [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))])


def test_the_statistics_and_the_card_come_back(tmp_path):
    before = saved(tmp_path, *folded_of(fitted(ROWS % 3), 3))
    for path in (tmp_path, tmp_path / classifier_file.WEIGHTS):
        loaded, statistics, card = classifier_file.load(path)
        assert not loaded.training
        assert (card.classes, card.kind, card.temperature, card.intended_use) == (("a", "b", "c"), "multiclass", 1.0, "a test")
        for name, part in vars(before).items():
            np.testing.assert_array_equal(getattr(statistics, name), part)


def test_a_class_that_had_no_label_has_no_probability_even_where_the_temperature_is_high(tmp_path):
    saved(tmp_path, *folded_of(fitted(np.array([0, 2])[ROWS % 2]), 3), temperature=10)
    assert said(tmp_path)[:, 1].max() < 1e-30


@pytest.fixture
def whole(tmp_path):
    saved(tmp_path, *folded_of(fitted(ROWS % 3), 3))
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [{"classes": ["a", "c", "b"]}, {"temperature": 1.5}, {"kind": "multilabel"}, {"intended_use": "everything"}, {"probe": {}}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_card_is_refused(whole, change):
    card = json.loads((whole / classifier_file.CARD).read_text())
    (whole / classifier_file.CARD).write_text(json.dumps({**card, **change}))
    with pytest.raises(UserError, match="changed after it was written"):
        classifier_file.load(whole)


def test_the_layout_of_the_card_is_no_change(whole):
    card = json.loads((whole / classifier_file.CARD).read_text())
    (whole / classifier_file.CARD).write_text(json.dumps(card, sort_keys=True))
    classifier_file.load(whole)


def test_one_flipped_bit_of_the_weights_is_noticed(whole):
    content = bytearray((whole / classifier_file.WEIGHTS).read_bytes())
    content[-5] ^= 1
    (whole / classifier_file.WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match="SHA-256"):
        classifier_file.load(whole)


def signed(folder, change):
    """Weights changed by somebody who knows how the card is signed."""
    import hashlib

    weights = load_file(folder / classifier_file.WEIGHTS)
    change(weights)
    save_file(weights, folder / classifier_file.WEIGHTS)
    card = json.loads((folder / classifier_file.CARD).read_text())
    card["weights_sha256"] = hashlib.sha256((folder / classifier_file.WEIGHTS).read_bytes()).hexdigest()
    del card["card_sha256"]
    (folder / classifier_file.CARD).write_text(json.dumps({**card, "card_sha256": classifier_file._digest(card)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("whitening"), "KeyError: 'whitening'"),
        (lambda weights: weights.pop("bias"), "Missing key"),
        (lambda weights: weights.update(mean=torch.zeros(1, dtype=torch.float64)), "shapes"),
        (lambda weights: weights.update(more=torch.zeros(1)), "Unexpected key"),
        (lambda weights: weights["encoder.backbone.conv1.weight"].mul_(1.5), "probe image"),
        (lambda weights: weights["bias"].add_(torch.tensor([0.1, 0, 0])), "probe image"),
        (lambda weights: weights["quantiles"].fill_(torch.nan), "1 tensors hold numbers that are not finite, as 'quantiles'"),
    ],
    ids=["no statistics", "missing", "other statistics", "surplus", "another encoder", "another head", "NaN"],
)
def test_other_tensors_under_a_right_signature_are_refused(whole, change, message):
    signed(whole, change)
    with pytest.raises(UserError, match=message):
        classifier_file.load(whole)


@pytest.mark.parametrize("name", ["", "classifier.safetensors", "classifier.json", "other.safetensors"])
def test_where_no_classifier_is_the_path_is_named(tmp_path, name):
    if name:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(UserError, match="No classifier at"):
        classifier_file.load(tmp_path / name)


def test_the_probe_of_a_classifier_on_a_gpu_of_tf32_is_that_of_the_cpu(tmp_path):
    statistics = ood.fit_statistics(extract(ood.FeaturesWithThumbnail(encoder()), IMAGES, ROWS, CPU), ROWS.astype(str))
    probes = []
    card = ClassifierCard.model_validate({**CARD, "kind": "multiclass", "classes": ("a", "b", "c"), "temperature": 1.0})
    for classifier in (Classifier(encoder(), 3), tf32.on_gpu(Classifier(encoder(), 3))):
        torch.nn.init.eye_(classifier.head.weight)
        classifier_file.save(tmp_path, classifier, statistics, card)
        assert tf32.is_on_gpu(classifier) == bool(probes)
        probes.append(json.loads((tmp_path / classifier_file.CARD).read_text())["probe"])
    assert probes[0] == probes[1]
