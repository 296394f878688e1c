"""Fine-tuning the whole network: it learns from the labels it is given, from no others, and leaves the encoder it is given alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medssl.config import Finetune
from medssl.errors import UserError
from medssl.evaluate.models import full_finetune
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.full_finetune import FullFit, FullTraining, Objective, fit_full, predict
from medssl.nn.encoder import Encoder
from medssl.types import Batch

CPU = torch.device("cpu")


class Small(nn.Sequential):
    num_features = 8

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def an_encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(Small(), torch.tensor([0.5]), torch.tensor([0.25]))


def striped(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 1, 16, 16] with upright (class 0) or lying (class 1) stripes in noise: equal means, so a filter has to be learnt."""
    y = np.arange(n) % 2
    stripes = np.where(np.arange(16) % 4 < 2, 90, 160)
    images = np.where(y[:, None, None] == 0, stripes[None, None, :], stripes[None, :, None])
    noise = np.random.default_rng(0).normal(0, 20, (n, 16, 16))
    return np.clip(images + noise, 0, 255).astype(np.uint8)[:, None], y


def unchanged(image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    assert len(key) == 4
    return image


def patients(n: int) -> np.ndarray:
    return np.array([f"p{i}" for i in range(n)])


def fitted(
    rows: np.ndarray, y: np.ndarray, images: np.ndarray, steps: int = 40, early: bool = False, on_step: Any = None, **more: Any
) -> FullFit:
    settings = Finetune.model_validate({"steps": steps, "batch_size": 16, "lr": 5e-3, "early_stopping": early})
    return fit_full(an_encoder(), rows, FullTraining(images, y, patients(len(y)), 2, settings, unchanged, CPU, **more), on_step)


def trained(rows: np.ndarray, y: np.ndarray, images: np.ndarray, **more: Any) -> Classifier:
    return fitted(rows, y, images, **more).classifier


def test_it_learns_what_a_filter_must_be_learnt_for() -> None:
    images, y = striped(96)
    classifier = trained(np.arange(48), y, images)
    prob = predict(classifier, images, np.arange(48, 96), CPU)
    assert (prob.argmax(1) == y[48:]).mean() > 0.95
    np.testing.assert_allclose(prob.sum(1), 1, atol=1e-5)


def test_before_the_first_step_all_classes_are_equally_likely() -> None:
    images, _ = striped(4)
    np.testing.assert_allclose(predict(Classifier(an_encoder(), 5), images, np.arange(4), CPU), 0.2, atol=1e-6)


def test_the_loss_is_the_cross_entropy_of_the_given_labels() -> None:
    images, _ = striped(4)
    classifier = Classifier(an_encoder(), 2)
    classifier.head.bias.data = torch.tensor([1.0, 3.0])  # weights are zero: the logits are the bias, log-odds 2 for class 1
    step = Objective(classifier)(Batch((torch.from_numpy(images),), torch.arange(4), 0, 0, torch.tensor([0, 1, 0, 1])))
    wanted = (2 * np.log(1 + np.exp(2)) + 2 * np.log(1 + np.exp(-2))) / 4
    assert step.loss.item() == pytest.approx(wanted, rel=1e-6)
    assert float(step.logs["accuracy"]) == 0.5


def test_the_encoder_that_is_given_keeps_its_weights_and_mode_while_its_copy_is_trained() -> None:
    images, y = striped(16)
    encoder = an_encoder().eval().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    settings = Finetune.model_validate({"steps": 5, "batch_size": 8})
    classifier = fit_full(encoder, np.arange(16), FullTraining(images, y, patients(16), 2, settings, unchanged, CPU)).classifier
    assert not encoder.training
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not torch.equal(classifier.encoder.backbone[0].weight, before["backbone.0.weight"])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    images, y = striped(40)
    first, again, other = (trained(np.arange(40), y, images, steps=6, seed=seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_labels_outside_the_drawn_rows_do_not_matter() -> None:
    images, y = striped(60)
    rows = np.arange(0, 60, 3)
    spoilt = np.full(60, 1)
    spoilt[rows] = y[rows]
    assert torch.equal(trained(rows, y, images, steps=8).head.weight, trained(rows, spoilt, images, steps=8).head.weight)


def test_fewer_labels_than_a_batch_make_one_batch_and_the_steps_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images, y = striped(40)
    sizes = []
    original = Objective.forward
    monkeypatch.setattr(Objective, "forward", lambda self, batch: sizes.append(len(batch.rows)) or original(self, batch))
    done = []
    for rows in (np.arange(4), np.arange(40)):
        trained(rows, y, images, steps=7, on_step=lambda: done.append(1))
    assert sizes == [4] * 7 + [16] * 7 and len(done) == 14


def test_one_label_is_too_few() -> None:
    images, y = striped(4)
    with pytest.raises(UserError, match="At least 2"):
        trained(np.array([0]), y, images)


def test_a_batch_with_a_row_that_was_not_drawn_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    images, y = striped(40)
    batches = full_finetune.Batches
    monkeypatch.setattr(full_finetune, "Batches", lambda images, rows, *args, **kwargs: batches(images, np.arange(40), *args, **kwargs))
    with pytest.raises(AssertionError, match="not drawn"):
        trained(np.arange(20), y, images)
