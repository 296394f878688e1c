"""Is the run healthy? The loss does not say: it falls while embeddings collapse. These numbers do; labels only watch."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

_RANKME_ROWS = 2048


def embedding_std(z: Tensor) -> float:
    """Standard deviation per dimension of unit rows z [B, D], times sqrt(D): about 1 for rows spread over the sphere, 0 for a point
    (SimSiam, Chen and He 2021, section 4.1)."""
    return float(z.float().std(dim=0, correction=0).mean() * z.shape[1] ** 0.5)


def rankme(features: np.ndarray) -> float:
    """RankMe (Garrido et al. 2023, eq. 1): exp of the entropy of the singular values of features [N, D]; 1 is a line, min(N, D) best."""
    s = np.linalg.svd(features[:_RANKME_ROWS].astype(np.float64), compute_uv=False)
    p = s / s.sum() + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


def knn_auroc(bank: np.ndarray, bank_labels: np.ndarray, query: np.ndarray, query_labels: np.ndarray, k: int) -> float:
    """AUROC (macro, one against the rest) of the k nearest neighbours' vote, by cosine similarity with weights exp(s / 0.07)
    (Wu et al. 2018, section 3.4). Features [N, D], labels int [N]; NaN where a class is missing among the queries."""
    classes = np.unique(bank_labels)
    if not np.array_equal(np.unique(query_labels), classes) or len(classes) < 2:
        return float("nan")
    b, q = (F.normalize(torch.from_numpy(x).float(), dim=1) for x in (bank, query))
    similarity, nearest = (q @ b.T).topk(min(k, len(b)), dim=1)
    weights = (similarity / 0.07).softmax(dim=1).double()
    near = torch.from_numpy(bank_labels)[nearest]
    votes = torch.stack([(weights * (near == c)).sum(dim=1) for c in classes.tolist()], dim=1).numpy()
    if len(classes) == 2:
        return float(roc_auc_score(query_labels == classes[1], votes[:, 1]))
    return float(np.mean([roc_auc_score(query_labels == c, votes[:, i]) for i, c in enumerate(classes)]))
