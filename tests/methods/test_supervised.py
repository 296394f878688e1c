"""Cross-entropy against the log-likelihood written out in float64, and what the method does with labels."""

import math
from dataclasses import replace

import pytest
import torch
from small import CLASSES, noise_batch, small_method

REFERENCE = "the log-likelihood written out"
FAULTS = {
    "labels of the batch in another order for the second view": (".repeat(2)", ".repeat_interleave(2)"),
    "label smoothing dropped": (", label_smoothing=self.config.label_smoothing", ""),
    "one view only": ("for x in self.head(features).chunk(2)", "for x in self.head(features).chunk(2)[:1] * 2"),
    "gradient kept from the encoder": ("self.head(features)", "self.head(features.detach())"),
    "probabilities for scores": ("F.cross_entropy(logits,", "F.cross_entropy(logits.softmax(dim=1),"),
    "least likely class counted": ("argmax(dim=1)", "argmin(dim=1)"),
    "images without a label let in": ("labels, label_smoothing", "labels.clamp(min=0), label_smoothing"),
}


LABELS = [0, 1, 2, 0, 1, 2]  # those of noise_batch()


def scores(method, batch) -> list[list[float]]:
    """Of both views, one after the other."""
    with torch.no_grad():
        return method.head(method.encoder(torch.cat(batch.views))).tolist()


def written_out(logits: list[list[float]], labels: list[int], eps: float) -> torch.Tensor:
    """- 1/n sum_i sum_k q_ik log p_ik."""
    loss = 0.0
    for x, y in zip(logits, labels, strict=True):
        total = sum(math.exp(s) for s in x)
        for k, s in enumerate(x):
            q = (1 - eps) * (k == y) + eps / len(x)
            loss -= q * math.log(math.exp(s) / total) / len(labels)
    return torch.tensor(loss, dtype=torch.float64)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_the_loss_is_the_negative_log_likelihood_of_both_views_labels(agrees, eps):
    m, batch = small_method("supervised", label_smoothing=eps).double(), noise_batch()
    agrees(m(batch).loss, written_out(scores(m, batch), LABELS + LABELS, eps))


def test_the_heads_gradient_is_the_probabilities_less_the_labels_times_the_features(agrees):
    m, batch = small_method("supervised").double(), noise_batch()
    m(batch).loss.backward()
    with torch.no_grad():
        features = m.encoder(torch.cat(batch.views))
        p = m.head(features).softmax(dim=1)
        wrong = p - torch.eye(CLASSES, dtype=torch.float64)[LABELS + LABELS]
    agrees(m.head.weight.grad, wrong.T @ features / 12)
    agrees(m.head.bias.grad, wrong.mean(dim=0))


def test_accuracy_is_the_share_of_views_whose_class_scores_highest():
    m, batch = small_method("supervised"), noise_batch(size=30)
    guesses = [max(range(CLASSES), key=row.__getitem__) for row in scores(m, batch)]
    right = [guess == label for guess, label in zip(guesses, LABELS * 10, strict=True)]
    assert 0 < sum(right) < 60
    assert abs(float(m(batch).logs["accuracy"]) - sum(right) / 60) < 1e-12


def test_permuting_the_batch_leaves_the_loss_and_permuting_its_labels_does_not():
    m, batch = small_method("supervised").double(), noise_batch()
    order = torch.tensor([1, 0, 3, 2, 5, 4])
    labels = torch.tensor(LABELS)[order]
    permuted = replace(batch, views=tuple(view[order] for view in batch.views), labels=labels)
    expected = m(batch).loss
    torch.testing.assert_close(m(permuted).loss, expected)
    assert abs(float((m(replace(batch, labels=labels)).loss - expected).detach())) > 1e-3


def test_equal_scores_give_the_logarithm_of_the_number_of_classes():
    m = small_method("supervised").double()
    torch.nn.init.zeros_(m.head.weight)
    torch.nn.init.zeros_(m.head.bias)
    assert abs(float(m(noise_batch()).loss.detach()) - math.log(3)) < 1e-12


def test_health_is_judged_by_the_encoders_features():
    m, batch = small_method("supervised").double(), noise_batch()
    with torch.no_grad():
        features = m.encoder(torch.cat(batch.views))
    expected = features / features.square().sum(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(torch.cat(m(batch).embeddings), expected)


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 1, 2, 0, -1, 2])])
def test_an_image_without_a_label_is_no_input(labels):
    with pytest.raises((AssertionError, IndexError)):
        small_method("supervised")(replace(noise_batch(), labels=labels))


def test_ten_steps_learn_a_batch_by_heart():
    m, batch = small_method("supervised"), noise_batch()
    optimiser = torch.optim.AdamW(m.parameters(), lr=1e-2)
    for _ in range(10):
        optimiser.zero_grad()
        m(batch).loss.backward()
        optimiser.step()
    step = m(batch)
    assert float(step.logs["accuracy"]) == 1
    assert float(step.loss.detach()) < 0.5, "which began near log 3"
