"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), by MONAI: which parts of an image speak for the predicted class."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

_MAX_OPACITY = 0.65  # of the colour at the maximum of the map: the image stays visible below it


@dataclass(frozen=True)
class Case:
    """A test image by its `index`, and what was predicted with `probability`. `truth` and `predicted` are columns of the probabilities;
    a truth of -1 is a label that the image does not have. `correct`: whether the two are equal."""

    index: int
    truth: int
    predicted: int
    probability: float

    @property
    def correct(self) -> bool:
        return self.truth == self.predicted


def select_cases(kind: str, y: np.ndarray, prob: np.ndarray, most: int) -> list[Case]:
    """The most confident correct and the most confident wrong case of each class, in the order of the classes, `most` at most.

    Of several labels: the most confident prediction of each label among the images that have it, and among those that do not.
    """
    cases: list[Case] = []
    if kind == "multilabel":
        for c in range(prob.shape[1]):
            for value, truth in ((1, c), (0, -1)):
                candidates = np.flatnonzero((y[:, c] == value) & (prob[:, c] > 0.5))
                cases += [Case(i, truth, c, float(prob[i, c])) for i in _most_confident(candidates, prob[:, c])]
        return cases[:most]
    predicted, confidence = prob.argmax(1), prob.max(1)
    for c in range(prob.shape[1]):
        for correct in (True, False):
            candidates = np.flatnonzero((y == c) & ((predicted == c) == correct))
            cases += [Case(i, c, int(predicted[i]), float(confidence[i])) for i in _most_confident(candidates, confidence)]
    return cases[:most]


def _most_confident(candidates: np.ndarray, confidence: np.ndarray) -> list[int]:
    """The one candidate with the highest confidence; none where there is no candidate."""
    return [int(candidates[confidence[candidates].argmax()])] if len(candidates) else []


def last_feature_map(network: "nn.Module", image: "Tensor") -> str | None:
    """The name of the module that gives the last feature map [1, C, h, w], or [1, C, d, h, w] of a volume, of convolutions; None where
    there is none.

    A transformer has none: where a linear layer works on every position (tokens, or the last axis of a map) after the last convolution,
    the positions no longer stand for parts of the image.
    """
    import torch
    from torch import Tensor, nn

    names = {module: name for name, module in network.named_modules()}
    maps: list[str] = []
    convolution = nn.Conv2d if image.ndim == 4 else nn.Conv3d

    def record(module: nn.Module, _: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if isinstance(module, nn.Linear) and output.ndim > 2:
            maps.clear()
        elif output.ndim == image.ndim and min(output.shape[2:]) > 1 and any(isinstance(inner, convolution) for inner in module.modules()):
            maps.append(names[module])

    hooks = [module.register_forward_hook(record) for module in names]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return maps[-1] if maps else None


def grad_cam(classifier: "nn.Module", images: np.ndarray, predicted: Sequence[int]) -> np.ndarray | None:
    """float [n, H, W] in [0, 1]: how strongly each part of `images` (float32 [n, C, H, W] in [0, 1]) speaks for its `predicted` class.
    float [n, D, H, W] of volumes [n, C, D, H, W].

    The maximum of a map is 1. A map in which nothing speaks for the class is 0 everywhere. None for a network without a feature map.
    """
    import torch

    from medssl.nn.copies import Arriving, to_device

    network = copy.deepcopy(classifier).eval()  # MONAI leaves hooks and gradients behind
    modules: list[Any] = list(network.modules())
    for module in modules:
        if getattr(module, "inplace", False):
            module.inplace = False  # hooks on gradients do not allow changes in place
    device = next(iter(network.parameters())).device
    batch = to_device(torch.from_numpy(np.ascontiguousarray(images, np.float32)), device)
    if (target := last_feature_map(network, batch[:1])) is None:
        return None
    from monai.visualize.class_activation_maps import GradCAM  # seconds

    batch.requires_grad_(True)  # so that gradients flow through a frozen network as well
    compute = GradCAM(network, target, postprocessing=lambda x: x)  # MONAI's own postprocessing turns the map upside down
    on_device = torch.stack([compute(batch[i : i + 1], class_idx=c)[0, 0].detach() for i, c in enumerate(predicted)])
    maps = Arriving(on_device).read().numpy()
    return maps / np.maximum(maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True), np.finfo(np.float32).tiny)


def overlay(picture: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: the map `strength` [H, W] in the colours of viridis over `picture` (uint8 [H, W, 3]); where it is 0, the picture.

    Viridis rises evenly in lightness, so that readers with a colour vision deficiency see the same order.
    """
    from matplotlib import colormaps

    colour = colormaps["viridis"](strength)[..., :3] * 255
    weight = (_MAX_OPACITY * strength)[..., None]
    return (picture * (1 - weight) + colour * weight).round().astype(np.uint8)
