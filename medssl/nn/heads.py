"""Projector and predictor: multi-layer perceptrons behind the encoder."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn


def mlp(
    widths: Sequence[int],
    *,
    norm: bool = True,
    last_norm: bool = False,
    last_bias: bool = True,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Linear layers of the given widths (input first) with the activation between them.

    `norm`: batch normalisation after each hidden layer; `last_norm`: after the last one too, without scale and shift, which the
    unit length of the embeddings makes superfluous (NNCLR, Dwibedi et al. 2021, section 4.1, ends its projector with one).
    `last_bias`: False for a loss that does not see a shift of the embeddings, where a bias would only drift.
    """
    layers: list[nn.Module] = []
    for i, (width_in, width_out) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        normed = last_norm if last else norm
        layers.append(nn.Linear(width_in, width_out, bias=not normed and (last_bias or not last)))
        if normed:
            layers.append(nn.BatchNorm1d(width_out, affine=not last))
        if not last:
            layers.append(activation())
    return nn.Sequential(*layers)
