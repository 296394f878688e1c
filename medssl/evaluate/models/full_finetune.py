"""Fine-tuning of the whole network, `--mode full`: the encoder's copy and a linear head, trained on the given labels.

The number of steps is the same at every label fraction. A fifth of the labelled patients is the validation set where there are enough
patients: it is looked at ten times in the course of the training, and the weights that fit it best are the ones that are scored
(early stopping that keeps its steps). The temperature is fitted on the validation set, too. No other labels are looked at. With fewer
patients all of them are trained on, and the last weights are kept: a small validation set chooses worse weights than these.

Of volumes that are stored as slices the steps see slices, each with the label of its volume; all counts, the validation set and the
predictions are of volumes, and a volume's logits are the mean of its slices'.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from medssl.config import Finetune
from medssl.data.loader import Batches, Loader, MakeView
from medssl.data.split import LabelFraction, draw_by_class, draw_multilabel
from medssl.data.volumes import Volumes
from medssl.errors import UserError
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.features import Images, extract
from medssl.evaluate.models.pooling import extract_pooled
from medssl.evaluate.stats.calibration import fit_temperature, negative_log_likelihood
from medssl.train import optimisers
from medssl.train.loop import Plan, fit
from medssl.types import Batch, Step

OPTIMISER = "adamw"
WARMUP_SHARE = 0.1
VALIDATIONS = 10  # in the course of a training
MIN_PATIENTS, MIN_OF_CLASS = 400, 5  # labelled patients, and those of each class, for a validation set


class Objective(nn.Module):
    """The loss of a classifier. `weights`: what an error counts, for each class; of several labels, for each present one."""

    weights: Tensor | None

    def __init__(self, classifier: Classifier, weights: Tensor | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("weights", weights)

    def forward(self, batch: Batch) -> Step:
        """One view of each sample; the loss is the cross-entropy with its label, of several labels the mean over those that are known."""
        assert batch.labels is not None
        logits, labels = self.classifier(batch.views[0]).float(), batch.labels
        if not self.classifier.multilabel:
            hits = (logits.detach().argmax(1) == labels).float().mean()
            return Step(functional.cross_entropy(logits, labels, self.weights), {"accuracy": hits})
        known = labels >= 0
        each = functional.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=self.weights, reduction="none")
        return Step((each * known).sum() / known.sum().clamp(min=1))

    def after_update(self, step: Step, progress: float) -> None:
        """Nothing follows an update."""


@dataclass(frozen=True)
class FullFit:
    """A trained classifier, how many labels it was given (those of the validation set too), its temperature, the step of its weights."""

    classifier: Classifier
    labels: int
    temperature: float
    step: int


@dataclass(frozen=True)
class FullTraining:
    """What all draws of a study have in common, and how this one is trained. `labels` [n] or [n, classes], `patients` [n]: of each of the
    `images`, or of each of the `volumes`."""

    images: Images
    labels: np.ndarray
    patients: np.ndarray
    classes: int
    settings: Finetune
    make_views: MakeView
    device: torch.device
    layer_decay: float = 1
    precision: torch.dtype | None = None
    seed: int = 0
    workers: int = 0
    volumes: Volumes | None = None

    def images_of(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " s"]:
        """The rows of the images that stand for `rows`: the slices of volumes."""
        return rows if self.volumes is None else self.volumes.slices(rows).rows

    @property
    def labels_of_images(self) -> Int[np.ndarray, "s ..."]:
        """The labels of each image; of a slice those of its volume."""
        return self.labels if self.volumes is None else self.labels[self.volumes.of_rows]


def fit_full(encoder: nn.Module, rows: Int[np.ndarray, " m"], training: FullTraining, on_step: Callable[[], None] | None = None) -> FullFit:
    """A classifier of the classes 0..classes-1, or of several labels, trained on `rows` alone for `settings.steps` steps.

    Fewer rows than `settings.batch_size`: all of them make one batch. `on_step` is called after each step. Raises UserError for fewer than
    two rows and for a training that diverges.
    """
    images, labels, settings, device, volumes = (training.images, training.labels, training.settings, training.device, training.volumes)
    in_validation = np.zeros(len(rows), dtype=bool)
    if settings.early_stopping:
        in_validation = select_validation(labels[rows], training.patients[rows], training.seed)
    train, validation = training.images_of(rows[~in_validation]), rows[in_validation]
    weights = class_weights(training.labels_of_images[train], training.classes) if settings.balance else None
    tuned = copy.deepcopy(encoder).requires_grad_(True)
    classifier = Classifier(tuned, training.classes, labels.ndim == 2, pooling="none" if volumes is None else "mean").to(device)
    objective = Objective(classifier, weights).to(device)
    size = max(2, min(settings.batch_size, len(train)))
    views = Batches(images, train, training.make_views, training.seed, size, training.labels_of_images, n_views=1)
    batches = Loader(views, settings.steps, workers=training.workers, pin=device.type == "cuda")
    groups = optimisers.layer_decay_groups(classifier.encoder.backbone, classifier.head, settings.weight_decay, training.layer_decay)
    optimiser = optimisers.make(OPTIMISER, objective, settings.lr, settings.weight_decay, groups)
    plan = Plan(settings.steps, settings.lr, max(1, round(WARMUP_SHARE * settings.steps)), device, training.precision)
    best = _BestWeights(classifier, labels[validation], lambda: predict(classifier, images, validation, device, volumes).astype(np.float64))

    def after_step(done: int, *_: object) -> bool:
        if len(validation) and (done == settings.steps or done % max(1, settings.steps // VALIDATIONS) == 0):
            best.update(done)
        if on_step is not None:
            on_step()
        return False

    done = fit(objective, _checked(batches, training.images_of(rows)), optimiser, plan, on_step=after_step)
    used = len(rows)
    return FullFit(classifier, used, *best.restore()) if len(validation) else FullFit(classifier, used, 1.0, done)


class _BestWeights:
    """The weights under which the labels `y` of the validation set are most likely. `predict`: its probabilities now."""

    def __init__(self, classifier: Classifier, y: np.ndarray, predict: Callable[[], np.ndarray]) -> None:
        self._classifier, self._y, self._predict = classifier, y, predict
        self._loss, self._step, self._prob = math.inf, 0, np.zeros((0, 0))
        self._state: dict[str, Tensor] = {}

    def update(self, step: int) -> None:
        prob = self._predict()
        if (loss := negative_log_likelihood(self._y, prob)) < self._loss:
            self._loss, self._step, self._prob = loss, step, prob
            self._state = {name: tensor.clone() for name, tensor in self._classifier.state_dict().items()}

    def restore(self) -> tuple[float, int]:
        """Give the classifier these weights; returns their temperature and their step."""
        self._classifier.load_state_dict(self._state)
        return fit_temperature(self._y, self._prob), self._step


def select_validation(y: Int[np.ndarray, "m ..."], patients: Shaped[np.ndarray, " m"], seed: int) -> Bool[np.ndarray, " m"]:
    """Which of the drawn images are the validation set: those of a fifth of the patients of each class; none where there are fewer than
    `MIN_PATIENTS` patients, or fewer than `MIN_OF_CLASS` of a class. Of several labels, those of a fifth of the patients, each label in
    its share."""
    fifth, selected = LabelFraction(share=Fraction(1, 5)), np.zeros(len(y), dtype=bool)
    if len(np.unique(patients)) < MIN_PATIENTS:
        return selected
    if y.ndim == 1:
        counts = [len(np.unique(patients[y == c])) for c in np.unique(y)]
        rows = draw_by_class(patients, y.astype(str), fifth, 0, seed) if min(counts) >= MIN_OF_CLASS else []
    else:
        counts = [len(np.unique(patients[column == presence])) for column in y.T for presence in (0, 1)]
        names = [str(k) for k in range(y.shape[1])]
        try:
            rows = draw_multilabel(patients, y, names, fifth, 0, seed) if min(counts) >= MIN_OF_CLASS else []
        except UserError:  # a fifth of the patients cannot hold each of so many labels
            rows = []
    selected[rows] = True
    return selected


def class_weights(y: Int[np.ndarray, "m ..."], classes: int) -> Float32[Tensor, " k"]:
    """What an error counts so that all classes count alike, as scikit-learn's "balanced"; of several labels, so that presence counts as
    much as absence."""
    if y.ndim == 1:
        counts = np.bincount(y, minlength=classes)
        return torch.from_numpy(len(y) / (np.count_nonzero(counts) * np.maximum(counts, 1))).float()
    return torch.from_numpy((y == 0).sum(0) / np.maximum((y == 1).sum(0), 1)).float()


def predict(
    classifier: Classifier,
    images: Images,
    rows: Int[np.ndarray, " m"],
    device: torch.device,
    volumes: Volumes | None = None,
) -> Float32[np.ndarray, "m k"]:
    """The class probabilities of `images[rows]`, or of the `volumes` with these numbers, unaugmented, in float32; rows sum to 1, not those
    of several labels."""
    to_probabilities = nn.Sigmoid() if classifier.multilabel else nn.Softmax(dim=1)
    if volumes is None:
        return extract(nn.Sequential(classifier, to_probabilities), images, rows, device)
    return to_probabilities(torch.from_numpy(extract_pooled(classifier, images, volumes, rows, device, "mean"))).numpy()


def _checked(batches: Loader, rows: np.ndarray) -> Iterator[Batch]:
    """The batches, each asserted to hold none but the rows whose labels were given."""
    for batch in batches:
        assert np.isin(batch.rows.numpy(), rows).all(), "a label was used that was not drawn"
        yield batch
