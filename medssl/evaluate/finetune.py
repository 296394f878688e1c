"""Fine-tuning of the whole network, `--mode full`: the encoder's copy and a linear head, trained with cross-entropy on the given labels.

Nothing is chosen along the way: the number of steps is the same at every label fraction, and the last weights are the ones that are scored.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from medssl.config import Finetune
from medssl.data.loader import Loader, MakeView
from medssl.evaluate.features import extract
from medssl.train import optimisers
from medssl.train.loop import Plan, fit
from medssl.types import Batch, Step

OPTIMISER = "adamw"
WARMUP_SHARE = 0.1


class Classifier(nn.Module):
    """A copy of `encoder` (the one given stays as it is) with a linear head on its features.

    The head starts at zero, as in big_vision's transfers: all classes equally likely, and no random numbers to account for.
    """

    def __init__(self, encoder: Any, classes: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        self.head = nn.Linear(encoder.num_features, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch) -> Step:
        """One view of each sample; the loss is the cross-entropy with its label."""
        assert batch.labels is not None
        logits = self.logits(batch.views[0])
        hits = (logits.detach().argmax(1) == batch.labels).float().mean()
        return Step(functional.cross_entropy(logits.float(), batch.labels), {"accuracy": hits})

    def logits(self, images: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return self.head(self.encoder(images))

    def after_update(self, step: Step, progress: float) -> None:
        """Nothing follows an update."""


def fit_full(
    encoder: nn.Module,
    images: Shaped[np.ndarray, "n c h w"],
    rows: Int[np.ndarray, " m"],
    labels: Int[np.ndarray, " n"],
    classes: int,
    settings: Finetune,
    make_views: MakeView,
    *,
    device: torch.device,
    precision: torch.dtype | None = None,
    seed: int = 0,
    workers: int = 0,
    on_step: Callable[[], None] | None = None,
) -> Classifier:
    """A classifier of the classes 0..classes-1, trained on `rows` alone for `settings.steps` steps.

    `labels`: one for each row of the store. Fewer rows than `settings.batch_size`: all of them make one batch. `on_step` is called
    after each step. Raises UserError for fewer than two rows and for a training that diverges.
    """
    classifier = Classifier(encoder, classes).to(device)
    batches = Loader(
        images,
        rows,
        make_views,
        seed=seed,
        batch_size=max(2, min(settings.batch_size, len(rows))),
        steps=settings.steps,
        workers=workers,
        labels=labels,
        n_views=1,
    )
    optimiser = optimisers.make(OPTIMISER, classifier, settings.lr, settings.weight_decay)
    plan = Plan(settings.steps, settings.lr, max(1, round(WARMUP_SHARE * settings.steps)), device, precision)

    def heard(*_: object) -> bool:
        if on_step is not None:
            on_step()
        return False

    fit(classifier, _only(batches, rows), optimiser, plan, on_step=heard)
    return classifier


def predict(
    classifier: Classifier, images: Shaped[np.ndarray, "n c h w"], rows: Int[np.ndarray, " m"], device: torch.device
) -> Float32[np.ndarray, "m k"]:
    """The class probabilities of `images[rows]`, unaugmented, in float32; rows sum to 1."""
    network = nn.Sequential(classifier.encoder, classifier.head, nn.Softmax(dim=1))
    return extract(network, images, rows, device)


def _only(batches: Loader, rows: np.ndarray) -> Iterator[Batch]:
    """The batches, each asserted to hold none but the rows whose labels were given."""
    for batch in batches:
        assert np.isin(batch.rows.numpy(), rows).all(), "a label was used that was not drawn"
        yield batch
