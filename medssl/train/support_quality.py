"""Of what quality is the support set? What its look-ups find, in numbers; labels and patients only watch (subject of pNNCLR, 2308.06983).

    nn_age              mean age of the neighbours in steps, without the random vectors of the start
    nn_start            share of neighbours that are random rows the set started with
    nn_distinct         how many different rows were found, as a share of the queries; low where a few rows are everybody's neighbour
    nn_self_now         share of neighbours that are embeddings of the query's image pushed in this very step: must be 0
    nn_self_earlier     share that are embeddings of the query's image from an earlier step, as a set larger than the data holds
    nn_same_patient     share that are another image of the query's patient
    cos_z_nn            mean cosine of query and neighbour,
    cos_z_pnn           of query and pseudo neighbour,
    cos_nn_pnn          of neighbour and pseudo neighbour
    nn_label_agreement  share of neighbours with the query's label, of the pairs in which both are known
    nn_label_chance     the share to be expected there if the same neighbours were dealt out at random

The last one is the p_e of Cohen's kappa (1960): the sum over classes of their share among the queries times that among the neighbours.
Shares are of all queries where nothing else is said. What no pair allows to compute is left out.
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
