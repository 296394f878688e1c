"""Gated attention over the slices of a volume and a linear classifier of what it pools, fitted to frozen features.

Both are trained together on the labels of the volumes. w and the classifier start at zero: the start is the mean of the
slices. Both are penalised as the linear probe is (scikit-learn's C). The classifier's C and the number of steps are chosen by
cross-validation inside the given labels, whose folds are stratified and keep a patient together. The predictions of the validation folds
fit the temperature, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from medssl.evaluate.models.full_finetune import class_weights
from medssl.evaluate.models.gated_attention import GatedAttention
from medssl.evaluate.models.linear_probe import NEVER, make_folds
from medssl.evaluate.models.pooling import take_volumes
from medssl.evaluate.stats.calibration import fit_temperature, negative_log_likelihood

GRID, OF_ATTENTION = (1e-2, 1e-1), 1.0  # C of the classifier, and of the attention
STEPS, RATE = 100, 1e-2  # the most steps; of Adam
USUAL = 1e-2, 20  # C and steps where the labels cannot be split into folds


class _Model(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.attention, self.head = GatedAttention(width), nn.Linear(width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, starts: Tensor) -> Tensor:
        return self.head(self.attention(features, starts))


@dataclass(frozen=True)
class AttentionFit:
    """`attention` and the classifier's `weight` [k, d] and `bias` [k], for features as they come from the encoder, all in float64."""

    attention: GatedAttention
    weight: Float[Tensor, "k d"]
    bias: Float[Tensor, " k"]
    temperature: float
    multilabel: bool

    @torch.no_grad()
    def probabilities(self, features: Float[np.ndarray, "s d"], starts: Int[np.ndarray, " v"]) -> Float[np.ndarray, "v k"]:
        """Before temperature scaling."""
        pooled = self.attention(torch.from_numpy(features).double(), torch.from_numpy(starts))
        return _probabilities(pooled @ self.weight.T + self.bias, self.multilabel)

    def tensors(self) -> dict[str, Tensor]:
        """As `Classifier.load_tensors` takes them."""
        attention = {f"attention.{name}": tensor for name, tensor in self.attention.state_dict().items()}
        return {"weight": self.weight, "bias": self.bias, **attention}


@dataclass(frozen=True)
class _Volumes:
    """`features` of slices, volume by volume, each volume's `starts` among them, and the labels `y` of the volumes."""

    features: Tensor
    starts: Tensor
    y: np.ndarray

    def take(self, chosen: Int[np.ndarray, " m"]) -> "_Volumes":
        features, starts = take_volumes(self.features.numpy(), self.starts.numpy(), chosen)
        return _Volumes(torch.from_numpy(features), torch.from_numpy(starts), self.y[chosen])


def fit_attention(
    features: Float[np.ndarray, "s d"],
    starts: Int[np.ndarray, " v"],
    y: Int[np.ndarray, "v ..."],
    patients: Shaped[np.ndarray, " v"],
    classes: int,
    seed: int,
    balanced: bool = False,
) -> AttentionFit:
    """Attention and classifier of the classes 0..classes-1 (`y` [v]) or of several labels (`y` [v, classes], -1 where not known).

    `features`: of slices, volume by volume; `starts`: where each volume begins; `patients`: of each volume. The result depends on nothing
    but the arguments. A class that no volume has gets the probability 0.
    """
    x = features.astype(np.float64)
    mean, scale = x.mean(axis=0), np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    volumes = _Volumes(torch.from_numpy(((x - mean) / scale).astype(np.float32)), torch.from_numpy(starts), y)
    (c, steps), validated = USUAL, np.full((len(y), classes), np.nan)
    if folds := make_folds(y if y.ndim == 1 else y.max(axis=1), patients, seed):
        c, steps, validated = _choose(volumes, folds, classes, seed, balanced)
    model, _ = _train(volumes, c, steps, classes, seed, balanced)
    _take_features_as_they_come(model.double(), torch.from_numpy(mean), torch.from_numpy(scale))
    if y.ndim == 1:
        model.head.bias[np.setdiff1d(np.arange(classes), y)] = NEVER
    unknown = np.isnan(validated).any(1) if y.ndim == 1 else np.isnan(validated)
    temperature = fit_temperature(np.where(unknown, -1, y), np.nan_to_num(validated))
    return AttentionFit(model.attention, model.head.weight, model.head.bias, temperature, y.ndim == 2)


def _take_features_as_they_come(model: _Model, mean: Tensor, scale: Tensor) -> None:
    """Fold the standardisation into all layers. The shares of slices sum to 1, so it goes through the pooling."""
    model.requires_grad_(False)
    for layer in (model.attention.V, model.attention.U, model.head):
        layer.weight.div_(scale)
        layer.bias.sub_(layer.weight @ mean)


def _choose(
    volumes: _Volumes, folds: Sequence[tuple[np.ndarray, np.ndarray]], classes: int, seed: int, balanced: bool
) -> tuple[float, int, Float[np.ndarray, "v k"]]:
    """The C, the number of steps, and the probabilities of the volumes of all folds then, by the training that had not seen them. The steps
    are those after which these volumes are most likely; a larger C needs a loss that is smaller by more than a standard error."""
    prob = np.zeros((len(GRID), STEPS, len(volumes.y), classes))
    for train, validation in folds:
        given, watched = volumes.take(train), volumes.take(validation)
        for number, c in enumerate(GRID):
            prob[number][:, validation] = _train(given, c, STEPS, classes, seed, balanced, watched)[1]
    chosen, best, losses = 0, 0, np.zeros(len(volumes.y))
    for number, of_c in enumerate(prob):
        step = int(np.argmin([negative_log_likelihood(volumes.y, each) for each in of_c]))
        each = np.array([negative_log_likelihood(volumes.y[[v]], of_c[step][[v]]) for v in range(len(volumes.y))])
        gain = losses - each
        if number == 0 or gain.mean() > gain.std() / len(gain) ** 0.5:
            chosen, best, losses = number, step, each
    return GRID[chosen], best + 1, prob[chosen, best]


def _train(
    volumes: _Volumes, c: float, steps: int, classes: int, seed: int, balanced: bool, watched: _Volumes | None = None
) -> tuple[_Model, Float[np.ndarray, "t w k"]]:
    """A model that was trained on all `volumes` at once, and the probabilities of the volumes `watched` after each step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Model(volumes.features.shape[1], classes)
    loss, prob = _loss(volumes, classes, balanced), []
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    for _ in range(steps):
        penalty = model.head.weight.square().sum() / c + model.attention.squares() / OF_ATTENTION
        optimiser.zero_grad()
        (loss(model(volumes.features, volumes.starts)) + penalty / (2 * len(volumes.y))).backward()
        optimiser.step()
        if watched is not None:
            with torch.no_grad():
                prob.append(_probabilities(model(watched.features, watched.starts).double(), volumes.y.ndim == 2))
    return model, np.array(prob)


def _loss(volumes: _Volumes, classes: int, balanced: bool) -> Callable[[Tensor], Tensor]:
    """The mean cross-entropy of logits; of several labels, over those that are known."""
    y, weights = torch.from_numpy(volumes.y), class_weights(volumes.y, classes) if balanced else None
    if y.ndim == 1:
        return lambda logits: functional.cross_entropy(logits, y, weights)
    known = y >= 0
    return lambda logits: functional.binary_cross_entropy_with_logits(logits, y.clamp(min=0).float(), pos_weight=weights, reduction="none")[
        known
    ].mean()


def _probabilities(logits: Tensor, multilabel: bool) -> Float[np.ndarray, "v k"]:
    return (logits.sigmoid() if multilabel else logits.softmax(dim=1)).numpy()
