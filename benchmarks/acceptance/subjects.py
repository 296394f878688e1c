"""Networks, methods, batches and feeds that are measured. The same call makes the same weights and images on every device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medssl import methods, plugins
from medssl.data.loader import Batches, Loader
from medssl.encoder.artefact import build_encoder
from medssl.methods.pnnclr import TARGET_FROM
from medssl.nn import Encoder, precision
from medssl.train.feed import Feed
from medssl.train.precision import choose_precision
from medssl.types import Batch
from medssl.views import multi_crop

CLASSES = 10
NARROW = {"channels": [8, 8, 16, 16]}
_SMALL_VIT = {"embed_dim": 48, "depth": 2, "num_heads": 2}
SMALL = {"hidden": 256, "width": 64, "support_size": 512, "prototypes": 512, "bottleneck": 64}  # of those settings that a method has
AT_ONCE = {"delay": 0.0, "ramp": 0.0}  # pnnclr with neighbours from the first step
NO_NOISE = {"noise": 0.0, "alpha": 1.0, **AT_ONCE}  # and without random numbers of its own
SAME_STEPS = TARGET_FROM  # with so many steps, pnnclr has a target network


@dataclass(frozen=True)
class Setting:
    """What is measured and where. `tiny`: with networks of a few thousand weights."""

    device: torch.device
    tiny: bool

    @property
    def resnet18(self) -> "Network":
        """The network of most checks."""
        return Network("resnet18", 16 if self.tiny else 32)

    @property
    def rows(self) -> int:
        """Images in a batch of most checks."""
        return 8 if self.tiny else 64

    @property
    def precision(self) -> torch.dtype | None:
        """That of a training with `train.precision=auto`."""
        return choose_precision("auto", self.device)

    def wait(self) -> None:
        """Until the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def on(self, device: str) -> "Setting":
        """The same on another device."""
        return replace(self, device=torch.device(device))


@dataclass(frozen=True)
class Network:
    """A network of timm for images of `size` pixels, trained with batches of `batch` images."""

    model: str
    size: int
    batch: int = 64
    channels: int = 3
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.model} {self.size} px"

    def backbone(self, tiny: bool = False) -> dict[str, Any]:
        """The configuration of the plug-in, as on an encoder's card."""
        small = (NARROW if self.model.startswith("resnet") else _SMALL_VIT) if tiny else {}
        model = "resnet18" if tiny and self.model.startswith("resnet") else self.model
        return {"name": "timm", "model": model, "arguments": {**self.arguments, **small}}

    def encoder(self, tiny: bool = False) -> Encoder:
        """With random weights, always the same."""
        mean, std = torch.full((self.channels,), 0.5), torch.full((self.channels,), 0.25)
        return build_encoder(self.backbone(tiny), self.channels, self.size, mean, std, seed=0)


VIT = "vit_small_patch16_224"
NETWORKS = (
    Network("resnet18", 32, 1024),
    Network("resnet18", 96, 1024),
    Network("resnet18", 224, 256),
    Network("resnet50", 32, 512),
    Network("resnet50", 96, 512),
    Network("resnet50", 224, 128),
    Network(VIT, 32, 1024, arguments={"img_size": 32, "patch_size": 4}),
    Network(VIT, 96, 1024),
    Network(VIT, 224, 256),
)


def build_method(name: str, network: Network, setting: Setting, images: int = 8192, **options: Any) -> Any:
    """The method of that name on the setting's device. `options`: those of its settings that it has."""
    config = plugins.find("methods", name).Config
    chosen = config(**{key: value for key, value in options.items() if key in config.model_fields})
    encoder = network.encoder(setting.tiny)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return methods.build(methods.fit_to(chosen, images, SAME_STEPS), encoder, CLASSES).to(setting.device)


def fixed_batch(method: Any, setting: Setting, rows: int = 0) -> Batch:
    """A batch of noise in colour with the crops that the method asks for; two images of each patient. `rows`: 0 for the setting's."""
    rows, size = rows or setting.rows, setting.resnet18.size
    random = torch.Generator().manual_seed(0)
    local = getattr(method, "local_views", None)
    edges = [size] * 2 + ([max(8, round(local.edge * size / 8) * 8)] * local.number if local else [])
    views = tuple(torch.rand(rows, 3, edge, edge, generator=random) for edge in edges)
    number = torch.arange(rows)
    return Batch(views, number, 0, 0, number % CLASSES, number // 2).to(setting.device)


def views_maker(recipe: str, size: int, compiled: bool = False) -> multi_crop.BatchMaker:
    """The function that makes the views of a batch on its device."""
    module = plugins.find("views.recipes", recipe)
    return multi_crop.make_on_device(module.build(module.Config()), size, None, compiled)[0]


@lru_cache(maxsize=1)
def noise_images(number: int, channels: int, size: int, bits: int = 8) -> np.ndarray:
    """[number, channels, size, size], of 8 or 16 bits."""
    return np.random.default_rng(0).integers(0, 2**bits, (number, channels, size, size), np.uint8 if bits == 8 else np.uint16)


def feed_of(
    images: np.ndarray, batch: int, setting: Setting, recipe: str, there: Tensor | None = None, workers: int = 0, **options: Any
) -> Feed:
    """Batches of views made on the device, without an end. `there`: the images on the device. `options`: `start` of the loader, `compiled`
    of the views."""
    batches = Batches(None if there is not None else images, np.arange(len(images)), None, 0, batch)
    loader = Loader(batches, 10**6, options.get("start", 0), workers, pin=setting.device.type == "cuda")
    return Feed(loader, setting.device, views_maker(recipe, images.shape[-1], options.get("compiled", False)), there)


def loss_and_gradient(method: Any, forward: Any, batch: Batch, precision: torch.dtype | None = None) -> tuple[float, Tensor]:
    """The loss of a step in training mode, and the gradient of all weights as one row in float64 on the CPU. `forward`: the method, or what
    it is wrapped in; `precision`: dtype of autocast, None for float32."""
    method.train()
    with torch.autocast(batch.rows.device.type, precision, enabled=precision is not None):
        step = forward(batch)
    step.loss.backward()
    gradients = [p.grad.flatten().double().cpu() for p in method.parameters() if p.grad is not None]
    return float(step.loss.detach()), torch.cat(gradients)


@contextmanager
def full_float32() -> Iterator[None]:
    """Products and convolutions of float32 in all bits, as a training has them, and in the same order each time. By default a GPU adds in
    any order."""
    with precision.full_float32():  # which puts back all of these settings
        torch.backends.cudnn.deterministic = True
        yield
