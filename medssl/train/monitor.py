"""Metrics that show whether a run is healthy. The loss alone does not: it can fall while embeddings collapse. Labels serve only to
measure here, never to train."""

import warnings

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from medssl.nn import vote

_RANKME_ROWS = 2048
_RANK_ROWS, _PAIR_ROWS = 256, 1024  # of a batch: enough for a metric during training
_PROBE_ROWS, _PROBE_C = 2000, 1e-2  # the C of the linear probe of evaluate, if there are too few labels to choose one

Features = Float[np.ndarray, "_ d"]
Labels = Int[np.ndarray, " _"]


def embedding_std(z: Float[Tensor, "b d"]) -> float:
    """Standard deviation per dimension of unit rows z, times sqrt(D): about 1 for rows spread over the sphere, 0 for a point
    (SimSiam, Chen and He 2021, section 4.1)."""
    return float(z.float().std(dim=0, correction=0).mean() * z.shape[1] ** 0.5)


def embedding_rank(z: Float[Tensor, "b d"]) -> float:
    """RankMe of a batch of embeddings minus their mean: in how many directions they differ. NaN for rows that are not finite."""
    z = z[:_RANK_ROWS].double()
    z = z - z.mean(dim=0)
    gram = z @ z.T
    if not torch.isfinite(gram).all():
        return float("nan")
    return _effective_rank(torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().cpu().numpy())


def alignment(x: Float[Tensor, "b d"], y: Float[Tensor, "b d"]) -> float:
    """E |x - y|^2 over the two views of each image, unit rows: 0 if both views are equal (Wang and Isola 2020, section 4.1, alpha = 2)."""
    return float((x - y).square().sum(dim=1).mean())


def uniformity(x: Float[Tensor, "b d"], y: Float[Tensor, "b d"]) -> float:
    """log E exp(-2 |u - v|^2) over pairs of images in the same view, averaged over the views: 0 for a point, about -4 for rows spread
    over the sphere (Wang and Isola 2020, section 4.1, t = 2)."""
    return float(torch.stack([torch.pdist(u[:_PAIR_ROWS].float()).square().mul(-2).exp().mean().log() for u in (x, y)]).mean())


def rankme(features: Float[np.ndarray, "n d"]) -> float:
    """RankMe (Garrido et al. 2023, eq. 1): exp of the entropy of the features' singular values, from 1 (a line) to min(N, D)."""
    return _effective_rank(np.linalg.svd(features[:_RANKME_ROWS].astype(np.float64), compute_uv=False))


def _effective_rank(s: Float[np.ndarray, " k"]) -> float:
    p = s / max(s.sum(), np.finfo(np.float64).tiny) + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


def knn_auroc(bank: Features, bank_labels: Labels, query: Features, query_labels: Labels, k: int) -> float:
    """AUROC (macro, one against the rest) of the k nearest neighbours' vote, by cosine similarity with weights exp(s / 0.07)
    (Wu et al. 2018, section 3.4). NaN if a class is missing among the queries."""
    classes = np.unique(bank_labels)
    if not _can_be_scored(classes, query_labels):
        return float("nan")
    targets = torch.from_numpy((bank_labels[:, None] == classes).astype(np.float64))
    return _auroc(vote(torch.from_numpy(bank), targets, torch.from_numpy(query), k).numpy(), query_labels, classes)


def probe_auroc(bank: Features, bank_labels: Labels, query: Features, query_labels: Labels) -> float:
    """AUROC (macro, one against the rest) of logistic regression with a fixed penalty on standardised features, fitted on at most 2000
    evenly spaced rows of the bank. NaN if a class is missing among the queries or those rows."""
    fitted_rows = np.linspace(0, len(bank) - 1, min(len(bank), _PROBE_ROWS)).astype(int)
    classes = np.unique(bank_labels[fitted_rows])
    if not _can_be_scored(classes, query_labels):
        return float("nan")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_PROBE_C))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 iterations are precise enough for this metric
        probe.fit(bank[fitted_rows].astype(np.float64), bank_labels[fitted_rows])
    return _auroc(probe.predict_proba(query.astype(np.float64)), query_labels, classes)


def _can_be_scored(classes: np.ndarray, query_labels: np.ndarray) -> bool:
    return len(classes) > 1 and np.array_equal(np.unique(query_labels), classes)


def _auroc(scores: Float[np.ndarray, "q k"], labels: Int[np.ndarray, " q"], classes: Int[np.ndarray, " k"]) -> float:
    """For two classes the AUROC of the second class; for more, the mean of each class against the rest."""
    if len(classes) == 2:
        return float(roc_auc_score(labels == classes[1], scores[:, 1]))
    return float(np.mean([roc_auc_score(labels == c, scores[:, i]) for i, c in enumerate(classes)]))
