"""The quality of the support set (the subject of pNNCLR, arXiv 2308.06983), measured at its look-ups. Labels and patients only measure.

    nn_age              mean age of the neighbours in steps, without the initial random vectors
    nn_start            share of neighbours that are initial random vectors
    nn_distinct         number of different neighbours as a share of the queries; low if many queries have the same neighbours
    nn_self_now         share of neighbours that are embeddings of the query's own image from this step: must be 0
    nn_self_earlier     share that are embeddings of the query's own image from an earlier step; high if the set is larger than the data
    nn_same_patient     share that are another image of the query's patient
    cos_z_nn            mean cosine of query and neighbour,
    cos_z_pnn           of query and pseudo neighbour,
    cos_nn_pnn          of neighbour and pseudo neighbour
    nn_label_agreement  share of neighbours with the query's label, of the pairs in which both are known
    nn_label_chance     the expected share if the same neighbours were assigned to the queries at random

The last number is the p_e of Cohen's kappa (1960): the sum over classes of the class's share among the queries times its share among the
neighbours. All other shares are of all queries. A number is left out if no pair is known from which to compute it.
"""

import torch
import torch.nn.functional as F

from medssl.nn.support_set import LABEL, PATIENT, ROW, STEP
from medssl.types import LookUp


def quality(lookup: LookUp, step: int) -> dict[str, float]:
    """The numbers above for the look-up of step `step`, counted from 0 as in its batch."""
    z, nn, pnn = (x.detach() for x in (lookup.z, lookup.nn, lookup.pnn))
    of_z, of_nn = lookup.z_tags, lookup.nn_tags
    pushed, now = of_nn[:, STEP] >= 0, of_nn[:, STEP] == step
    same_image = of_nn[:, ROW] == of_z[:, ROW]
    same_patient = (of_nn[:, PATIENT] == of_z[:, PATIENT]) & (of_z[:, PATIENT] >= 0)
    found = {
        "nn_start": _share(~pushed),
        "nn_distinct": len(lookup.index.unique()) / len(lookup.index),
        "nn_self_now": _share(same_image & now),
        "nn_self_earlier": _share(same_image & ~now),
        "nn_same_patient": _share(same_patient & ~same_image),
        "cos_z_nn": float(F.cosine_similarity(z, nn).mean()),
        "cos_z_pnn": float(F.cosine_similarity(z, pnn).mean()),
        "cos_nn_pnn": float(F.cosine_similarity(nn, pnn).mean()),
    }
    if pushed.any():
        found["nn_age"] = float((step - of_nn[pushed, STEP]).double().mean())
    known = (of_z[:, LABEL] >= 0) & (of_nn[:, LABEL] >= 0)
    if known.any():
        labels = torch.stack([of_z[known, LABEL], of_nn[known, LABEL]])
        found["nn_label_agreement"] = _share(labels[0] == labels[1])
        shares = F.one_hot(labels).double().mean(dim=1)
        found["nn_label_chance"] = float((shares[0] * shares[1]).sum())
    return found


def _share(which: torch.Tensor) -> float:
    return float(which.double().mean())
