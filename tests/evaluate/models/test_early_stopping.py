"""Who is held back of the drawn labels, which moment of a training is kept, and what an error counts."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from medssl.config import Finetune
from medssl.evaluate.models import full_finetune
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.full_finetune import FullFit, FullTraining, Objective, class_weights, fit_full, predict, select_validation
from medssl.evaluate.stats.calibration import negative_log_likelihood
from medssl.nn.encoder import Encoder
from medssl.types import Batch

CPU = torch.device("cpu")
FAULTS = {
    "images counted in place of patients": (
        "evaluate/models/full_finetune.py",
        "if len(np.unique(patients)) < MIN_PATIENTS:",
        "if len(patients) < MIN_PATIENTS:",
    ),
    "the validation set is trained on": (
        "evaluate/models/full_finetune.py",
        "train, validation = training.images_of(rows[~in_validation]), rows[in_validation]",
        "train, validation = training.images_of(rows), rows[in_validation]",
    ),
    "the worst moment is kept": (
        "evaluate/models/full_finetune.py",
        ":= negative_log_likelihood(self._y, prob)) <",
        ":= -negative_log_likelihood(self._y, prob)) <",
    ),
}


class Small(nn.Sequential):
    num_features = 4

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def an_encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(Small(), torch.tensor([0.5]), torch.tensor([0.25]))


def unchanged(image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    return image


def owners(counts: list[int], images: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Classes and patients of `counts` patients of each class, each with some images."""
    y = np.repeat(np.repeat(np.arange(len(counts)), counts), images)
    return y, np.repeat([f"p{i}" for i in range(sum(counts))], images)


def test_a_fifth_of_the_patients_of_each_class_is_the_validation_set_with_all_their_images() -> None:
    y, patients = owners([350, 45, 5])
    held = select_validation(y, patients, seed=0)
    assert [len(np.unique(patients[held & (y == c)])) for c in range(3)] == [70, 9, 1]
    assert not set(patients[held]) & set(patients[~held])
    assert (select_validation(y, patients, seed=0) == held).all() and (select_validation(y, patients, seed=1) != held).any()


def test_there_is_no_validation_set_where_a_class_has_fewer_than_five_patients_however_many_images() -> None:
    y, patients = owners([400, 4], images=10)
    assert not select_validation(y, patients, seed=0).any()


def test_there_is_no_validation_set_of_fewer_than_eighty_patients_however_many_images() -> None:
    y, patients = owners([200, 199], images=10)
    assert not select_validation(y, patients, seed=0).any()
    y, patients = owners([200, 200])
    assert len(np.unique(patients[select_validation(y, patients, seed=0)])) == 80


def test_of_several_labels_a_fifth_of_the_patients_is_the_validation_set_and_each_label_is_on_both_sides() -> None:
    generator = np.random.default_rng(0)
    patients = np.repeat([f"p{i}" for i in range(400)], 2)
    y = np.repeat((generator.random((400, 3)) < [0.5, 0.3, 0.12]).astype(int), 2, axis=0)
    held = select_validation(y, patients, seed=0)
    assert len(np.unique(patients[held])) == 80 and not set(patients[held]) & set(patients[~held])
    for side in (held, ~held):
        assert (y[side] == 1).any(0).all() and (y[side] == 0).any(0).all()
    y[np.flatnonzero(y[:, 2])[8:], 2] = 0  # four patients have it
    assert not select_validation(y, patients, seed=0).any()


def test_more_labels_than_a_fifth_of_the_patients_can_hold_are_trained_without_a_validation_set() -> None:
    y = np.zeros((400, 500), dtype=int)
    for label in range(500):
        y[np.random.default_rng(label).permutation(400)[:5], label] = 1
    assert not select_validation(y, np.array([f"p{i}" for i in range(400)]), seed=0).any()


N = 400  # enough for a validation set


def bright(n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = np.arange(n) % 2
    images = np.random.default_rng(0).normal(100, 20, (n, 1, 12, 12)) + 25 * y[:, None, None, None]
    return images.clip(0, 255).astype(np.uint8), y, np.array([f"p{i}" for i in range(n)])


def fitted(**more: Any) -> tuple[FullFit, int]:
    """A training of 40 steps, and how many there were."""
    images, y, patients = bright()
    steps: list[int] = []
    settings = Finetune.model_validate({"steps": 40, "batch_size": 16, "lr": 2e-2, **more})
    found = fit_full(an_encoder(), np.arange(N), FullTraining(images, y, patients, 2, settings, unchanged, CPU), lambda: steps.append(1))
    return found, len(steps)


def test_the_weights_are_those_of_the_moment_that_fits_the_validation_set_best(monkeypatch: pytest.MonkeyPatch) -> None:
    images, y, patients = bright()
    held = select_validation(y, patients, 0)
    forward, calls = Objective.forward, []

    def spoilt(self: Objective, batch: Batch) -> Any:
        """After half of the steps all labels are wrong."""
        calls.append(1)
        assert batch.labels is not None
        wrong = Batch(batch.views, batch.rows, batch.step, batch.seed, 1 - batch.labels)
        return forward(self, wrong if len(calls) > 20 else batch)

    monkeypatch.setattr(Objective, "forward", spoilt)
    seen: list[tuple[int, float]] = []
    look = full_finetune._BestWeights.update

    def recorded(self: full_finetune._BestWeights, step: int) -> None:
        seen.append((step, negative_log_likelihood(self._y, self._predict())))
        look(self, step)

    monkeypatch.setattr(full_finetune._BestWeights, "update", recorded)
    found, steps = fitted()
    assert [step for step, _ in seen] == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40] and steps == 40
    best = min(seen, key=lambda moment: moment[1])
    assert found.step == best[0] <= 24 and found.labels == N
    now = predict(found.classifier, images, np.flatnonzero(held), CPU).astype(float)
    assert negative_log_likelihood(y[held], now) == pytest.approx(best[1], abs=1e-6)
    assert best[1] < seen[-1][1]


def test_without_early_stopping_the_last_weights_are_kept_and_everyone_is_taught() -> None:
    found, steps = fitted(early_stopping=False)
    assert (found.step, found.temperature, found.labels, steps) == (40, 1.0, N, 40)
    assert fitted()[1] == 40, "the same number of steps with somebody held back"


def test_the_validation_set_is_in_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    _, y, patients = bright()
    rows: set[int] = set()
    forward = Objective.forward
    monkeypatch.setattr(Objective, "forward", lambda self, batch: rows.update(batch.rows.tolist()) or forward(self, batch))
    fitted()
    assert rows == set(np.flatnonzero(~select_validation(y, patients, 0)).tolist())


def test_balanced_classes_count_as_scikit_learn_says_and_several_labels_by_absent_over_present() -> None:
    y = np.repeat([0, 1, 2], [50, 9, 1])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y)
    np.testing.assert_allclose(class_weights(y, 3).numpy(), expected, rtol=1e-6)
    several = np.array([[1, 0], [0, 0], [0, 1], [0, -1], [0, -1]])
    np.testing.assert_allclose(class_weights(several, 2).numpy(), [4 / 1, 2 / 1])


def test_a_rare_classes_errors_weigh_in_the_loss() -> None:
    classifier = Classifier(an_encoder(), 2)
    classifier.head.bias.data = torch.tensor([1.0, 3.0])
    batch = Batch((torch.zeros(3, 1, 12, 12),), torch.arange(3), 0, 0, torch.tensor([0, 0, 1]))
    step = Objective(classifier, torch.tensor([0.5, 4.0]))(batch)
    wrong, right = np.log(1 + np.exp(2)), np.log(1 + np.exp(-2))
    assert step.loss.item() == pytest.approx((2 * 0.5 * wrong + 4 * right) / (2 * 0.5 + 4), rel=1e-5)


@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 0.5]])
def test_the_loss_of_several_labels_is_their_binary_cross_entropy_where_they_are_known(weights: list[float] | None) -> None:
    classifier = Classifier(an_encoder(), 3, multilabel=True)
    bias = np.array([0.5, -1.0, 2.0])
    classifier.head.bias.data = torch.tensor(bias, dtype=torch.float32)  # weights are zero: the logits are the bias
    y = np.array([[1, 0, -1], [0, -1, -1], [1, 1, 1]])
    objective = Objective(classifier, None if weights is None else torch.tensor(weights))
    step = objective(Batch((torch.zeros(3, 1, 12, 12),), torch.arange(3), 0, 0, torch.from_numpy(y)))
    present = np.ones(3) if weights is None else np.array(weights)
    p = 1 / (1 + np.exp(-bias))
    each = [-present[k] * np.log(p[k]) if said else -np.log(1 - p[k]) for row in y for k, said in enumerate(row) if said >= 0]
    assert step.loss.item() == pytest.approx(np.mean(each), rel=1e-5)
    prob = predict(classifier, np.zeros((1, 1, 12, 12), np.uint8), np.array([0]), CPU)
    np.testing.assert_allclose(prob, [p], rtol=1e-5)


def test_a_batch_of_which_nothing_is_known_changes_nothing() -> None:
    classifier = Classifier(an_encoder(), 2, multilabel=True)
    step = Objective(classifier)(Batch((torch.rand(2, 1, 12, 12),), torch.arange(2), 0, 0, torch.full((2, 2), -1)))
    step.loss.backward()
    assert step.loss.item() == 0 and classifier.head.weight.grad is not None and not classifier.head.weight.grad.any()
