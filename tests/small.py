"""A network and batches small enough for a step in milliseconds; what the tests of all methods are made of."""

from typing import Any

import torch
from torch import nn

from medssl import methods, plugins
from medssl.encoder.artefact import build_encoder
from medssl.methods.pnnclr import TARGET_FROM
from medssl.nn.encoder import Encoder
from medssl.types import Batch

BACKBONE = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 8, 16, 16]}}
SIZES = {"hidden": 32, "width": 16, "support_size": 40, "prototypes": 24, "bottleneck": 12}  # of those options that a method has
EDGE, CLASSES = 16, 3
WHOLE = slice(None)


class Shallow(nn.Sequential):
    """Two convolutions: float32 rounds so little in them that processes can be compared to 1e-6."""

    num_features = 64

    def __init__(self) -> None:
        first, second = nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.Conv2d(8, 16, 3, bias=False)
        super().__init__(first, nn.BatchNorm2d(8), nn.ReLU(), second, nn.BatchNorm2d(16), nn.AdaptiveMaxPool2d(2), nn.Flatten())


def shallow_encoder() -> Encoder:
    """With the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Encoder(Shallow(), torch.tensor([0.5]), torch.tensor([0.25]))


def small_method(name: str, encoder: Encoder | None = None, **options: Any) -> Any:
    """The method with small heads and the same weights each time, around a narrow ResNet-18 if nothing else is given."""
    if encoder is None:
        encoder = build_encoder(BACKBONE, 1, EDGE, torch.tensor([0.5]), torch.tensor([0.25]), seed=0)
    model = plugins.find("methods", name).Config
    sizes = {key: size for key, size in SIZES.items() if key in model.model_fields}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = methods.fit_to(model(**{**sizes, **options}), images=80, steps=TARGET_FROM)  # as for a training that has a target network
        return methods.build(config, encoder, CLASSES)


def noise_batch(step: int = 0, size: int = 6, local: int = 0, part: slice = WHOLE) -> Batch:
    """Views of noise, the same for the same step; `local` smaller crops beside the two whole views; `part` of the samples.

    Samples 2 i and 2 i + 1 are of one patient; the label is the row's remainder.
    """
    random = torch.Generator().manual_seed(step)
    edges = [EDGE] * 2 + [EDGE // 2] * local
    rows = (torch.arange(size) + step * size)[part]
    views = tuple(torch.rand(size, 1, edge, edge, generator=random)[part] for edge in edges)
    return Batch(views, rows, step, seed=0, labels=rows % CLASSES, patients=rows // 2)


def batch_for(method: Any, step: int = 0, size: int = 6, part: slice = WHOLE) -> Batch:
    """A batch with the crops that the method asks for."""
    local = getattr(method, "local_views", None)
    return noise_batch(step, size, local.number if local else 0, part)


def train(method: Any, steps: int, lr: float = 0.01, size: int = 6, progress: float | None = None) -> list[float]:
    """Plain gradient descent on noise; the loss of each step. `progress`: stands still there, instead of running to 1."""
    losses = []
    for step in range(steps):
        result = method(batch_for(method, step, size))
        method.zero_grad()
        result.loss.backward()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter -= lr * parameter.grad
        method.after_update(result, (step + 1) / steps if progress is None else progress)
        losses.append(float(result.loss.detach()))
    return losses
