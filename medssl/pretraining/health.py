"""The metrics that show whether a run is healthy: metrics of one step, and metrics of the current encoder."""

import numpy as np
import torch
from torch import nn

from medssl.data.store import Windows
from medssl.data.volumes import Volumes
from medssl.evaluate.models import extract_pooled
from medssl.runs.dataset import PreparedDataset, evenly_spaced
from medssl.train.monitor import alignment, embedding_rank, embedding_std, knn_auroc, probe_auroc, rankme, uniformity
from medssl.train.support_quality import quality
from medssl.types import Step

_BANK_ROWS, _LEAST_VOLUMES = 5000, 16  # images, or windows of volumes: but of so many volumes at least


def step_metrics(step: Step, number: int) -> dict[str, float]:
    """What the method logs, the spread of the embeddings, and the quality of the look-up. `number`: the number of the step, from 0."""
    row = {name: float(value.detach()) for name, value in step.logs.items()}
    if step.embeddings is not None:
        z1, z2 = step.embeddings
        row |= {"embedding_std": embedding_std(z1), "embedding_rank": embedding_rank(z1)}
        row |= {"alignment": alignment(z1, z2), "uniformity": uniformity(z1, z2)}
    return row | (quality(step.lookup, number) if step.lookup is not None else {})


def encoder_metrics(encoder: nn.Module, dataset: PreparedDataset, neighbours: int, device: torch.device) -> dict[str, float]:
    """RankMe of the features of training images. With labels, also the AUROC of kNN and of a linear probe: both are fitted on training
    images and scored on the training patients who are held out. A volume that is read in windows has the mean of their features."""
    inputs, labels = dataset.store.inputs, dataset.labels
    volumes = Volumes.of(dataset.store) if isinstance(inputs, Windows) else None
    most = _BANK_ROWS if volumes is None else max(_LEAST_VOLUMES, _BANK_ROWS * len(volumes) // len(inputs))
    bank = evenly_spaced(dataset.pretraining, most)
    features = extract_pooled(encoder, inputs, volumes, bank, device, "mean")
    row = {"rankme": rankme(features)}
    query = np.flatnonzero(dataset.holdout & (labels >= 0))
    known = labels[bank] >= 0
    if len(query) and len(np.unique(labels[bank[known]])) > 1:
        query = query if volumes is None else evenly_spaced(query, most)
        task = features[known], labels[bank[known]], extract_pooled(encoder, inputs, volumes, query, device, "mean"), labels[query]
        row |= {"knn": knn_auroc(*task, neighbours), "probe": probe_auroc(*task)}
    return row
