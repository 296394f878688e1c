"""The comparison of an exported encoder with the original: both get the probe image, its mirror image and its transpose."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from medssl.encoder.artefact import probe_image
from medssl.nn import Encoder
from medssl.types import Size, edges


def probe_images(channels: int, size: Size) -> Tensor:
    """Three images [3, C, size, size] in [0, 1]: the probe image, mirrored, and with rows and columns exchanged. The third one of volumes,
    whose edges may differ, is turned upside down."""
    probe = probe_image(channels, size)
    return torch.cat([probe, probe.flip(-1), probe.transpose(-1, -2) if isinstance(size, int) else probe.flip(-2)])


def largest_difference(network: Callable[[Tensor], Tensor], encoder: Encoder, card: Mapping[str, Any]) -> float:
    """The largest difference of the features that `network` and `encoder` make of the probe images [N, C, H, W] in [0, 1], as a share of
    the encoder's largest feature. Both are asked on this machine, as the card's features may come from a GPU. Batches of one and of three
    images are compared, as a network can be fixed to one number of images."""
    images = probe_images(card["channels"], card["size"])
    with torch.no_grad():
        return relative_difference([network(images[:1]), network(images)], [encoder(images[:1]), encoder(images)])


def relative_difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference as a share of the largest expected value: infinite where shapes differ, NaN where a value is NaN."""
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
        return math.inf
    a, b = (torch.cat([tensor.detach().float().flatten() for tensor in tensors]) for tensors in (found, expected))
    return float((a - b).abs().max() / b.abs().max())


def standardised(network: Callable[[Tensor], Tensor], card: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """A network without the standardisation, with the standardisation of the card in front."""
    mean, std = (torch.tensor(card[name]).view(-1, *(1 for _ in edges(card["size"]))) for name in ("mean", "std"))
    return lambda images: network((images - mean) / std)


def features_lines(card: Mapping[str, Any]) -> list[str]:
    """The same in Python: from `images` in [0, 1] by `network`, which does not standardise, to `features`."""
    mean, std = ([float(f"{value:.9g}") for value in card[name]] for name in ("mean", "std"))
    if len(mean) == 1:
        return [f"features = network.eval()((images - {mean[0]}) / {std[0]})  {image_line(card)}"]
    return [
        f"mean, std = (torch.tensor(values).view(-1{', 1' * len(edges(card['size']))}) for values in ({mean}, {std}))",
        f"features = network.eval()((images - mean) / std)  {image_line(card)}",
    ]


def image_line(card: Mapping[str, Any]) -> str:
    """A comment that says what `images` are."""
    return f"# images: float32 [N, {shape_text(card)}] in [0, 1]"


def shape_text(card: Mapping[str, Any]) -> str:
    """The channels and edges of the images of a card, as text with commas between."""
    return ", ".join(map(str, (card["channels"], *edges(card["size"]))))
