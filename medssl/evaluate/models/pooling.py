"""The features of a volume, pooled from those of its slices or windows.

"mean_max" joins the mean and the maximum of each feature over the slices: the mean says what most slices show, the maximum what one of them
shows. "mean" is the mean alone; for a linear classifier it is the same as the mean of the slices' logits. "attention" is a mean whose
weights are learned (`gated_attention.py`). "none": an image is no volume, or it is a whole one.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medssl.data.volumes import Volumes
from medssl.evaluate.models.features import Images, extract

Pooling = Literal["none", "mean", "mean_max", "attention"]
Fixed = Literal["none", "mean", "mean_max"]  # nothing is learned

Pool = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of the features of slices, and where each volume begins among them


def pooled_width(width: int, pooling: Pooling) -> int:
    """The number of features of a volume whose slices have `width` features each."""
    return 2 * width if pooling == "mean_max" else width


def pool(features: Float[np.ndarray, "s d"], starts: Int[np.ndarray, " v"], pooling: Fixed) -> Float[np.ndarray, "v D"]:
    """The features of volumes. `features`: of their slices, volume by volume; `starts`: where each volume begins."""
    sizes = np.diff(np.append(starts, len(features)))
    mean = (np.add.reduceat(features.astype(np.float64), starts) / sizes[:, None]).astype(features.dtype)
    return np.concatenate([mean, np.maximum.reduceat(features, starts)], axis=1) if pooling == "mean_max" else mean


def pool_alone(features: Float[Tensor, "b d"], pooling: Pooling) -> Float[Tensor, "b D"]:
    """The features of images, each of which is a volume of one slice."""
    return torch.cat([features, features], dim=1) if pooling == "mean_max" else features


def pool_without_each(features: Float[np.ndarray, "s d"], pooling: Fixed) -> Float[np.ndarray, "s D"]:
    """The features of one volume of at least two slices, without its first slice, without its second one, and so on."""
    x = features.astype(np.float64)
    mean = (x.sum(axis=0) - x) / (len(x) - 1)
    if pooling != "mean_max":
        return mean
    second, first = np.sort(x, axis=0)[-2:]
    return np.concatenate([mean, np.where(np.arange(len(x))[:, None] == x.argmax(axis=0), second, first)], axis=1)


def take_volumes(
    features: Float[np.ndarray, "s d"], starts: Int[np.ndarray, " v"], chosen: Int[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, "t d"], Int[np.ndarray, " m"]]:
    """The features of the slices of the volumes with the numbers `chosen`, volume by volume, and where each volume begins among them."""
    each = np.split(features, starts[1:])
    sizes = np.diff(np.append(starts, len(features)))[chosen]
    return np.concatenate([each[volume] for volume in chosen]), np.cumsum(sizes) - sizes


def extract_pooled(
    network: nn.Module,
    images: Images,
    volumes: Volumes | None,
    chosen: Int[np.ndarray, " m"],
    device: torch.device,
    pooling: Fixed | Pool,
) -> Float[np.ndarray, "m D"]:
    """What `network` makes of the volumes with the numbers `chosen`, pooled by `pooling`, which is a name or a function; of the images with
    these rows where there are no `volumes`. Raises UserError as `extract` does."""
    joined = pooling if callable(pooling) else partial(pool, pooling=pooling)
    if volumes is None:
        return extract(network, images, chosen, device)
    parts = []
    for block in volumes.blocks(chosen):
        slices = volumes.slices(block)
        parts.append(joined(extract(network, images, slices.rows, device), slices.starts))
    return np.concatenate(parts)
