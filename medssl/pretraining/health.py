"""The numbers of a run's health: those of a step, and those of the encoder as it stands."""

import numpy as np
import torch
from torch import nn

from medssl.evaluate.models.features import extract
from medssl.runs.dataset import PreparedDataset, evenly_spaced
from medssl.train.monitor import alignment, embedding_rank, embedding_std, knn_auroc, probe_auroc, rankme, uniformity
from medssl.train.support_quality import quality
from medssl.types import Step

_BANK_ROWS = 5000


def step_metrics(step: Step, number: int) -> dict[str, float]:
    """What a method logs, the spread of its embeddings, and the quality of what it looked up. `number`: the step's, from 0."""
    row = {name: float(value.detach()) for name, value in step.logs.items()}
    if step.embeddings is not None:
        z1, z2 = step.embeddings
        row |= {"embedding_std": embedding_std(z1), "embedding_rank": embedding_rank(z1)}
        row |= {"alignment": alignment(z1, z2), "uniformity": uniformity(z1, z2)}
    return row | (quality(step.lookup, number) if step.lookup is not None else {})


def encoder_metrics(encoder: nn.Module, found: PreparedDataset, neighbours: int, device: torch.device) -> dict[str, float]:
    """RankMe of the features of images that are trained on; where there are labels, AUROC of kNN and linear probe: from those images to
    training patients who are held out."""
    bank = evenly_spaced(found.pretraining, _BANK_ROWS)
    images, labels = found.store.images, found.labels
    features = extract(encoder, images, bank, device)
    row = {"rankme": rankme(features)}
    query = np.flatnonzero(found.holdout & (labels >= 0))
    known = labels[bank] >= 0
    if len(query) and len(np.unique(labels[bank[known]])) > 1:
        task = features[known], labels[bank[known]], extract(encoder, images, query, device), labels[query]
        row |= {"knn": knn_auroc(*task, neighbours), "probe": probe_auroc(*task)}
    return row
