"""Whole steps of a training on a pretended GPU: views from stored images, forward, loss, backward, optimiser, what follows an update."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from fake_cuda import CUDA, Gpu, pretended_gpu
from small import CLASSES, EDGE

from medssl import plugins
from medssl.encoder.artefact import build_encoder
from medssl.nn import Encoder
from medssl.train import optimisers
from medssl.train.loop import Plan, fit
from medssl.types import Batch, Size, edges
from medssl.views import multi_crop

_IMAGES, _STORED_EDGE = 6, 20


def encoder_of(model: str, arguments: dict[str, Any], channels: int, size: int) -> Encoder:
    """A network of timm with random weights."""
    backbone = {"name": "timm", "model": model, "arguments": arguments}
    return build_encoder(backbone, channels, size, torch.full((channels,), 0.5), torch.full((channels,), 0.25), seed=0)


@dataclass
class PretendedStep:
    """`steps` steps of `method` as the training loop runs them. `run` says what the last of them did. `views`: whether they are made from
    stored images, or there already. `start`: state of method and
    optimiser to load before; `state`: after the steps."""

    method: Any
    optimiser: str = "adamw"
    steps: int = 1
    dtype: torch.dtype = torch.uint8
    channels: int = 1
    size: Size = EDGE
    recipe: str = "chest_xray"
    precision: torch.dtype | None = torch.bfloat16
    views: bool = True
    start: tuple[dict[str, Any], dict[str, Any]] | None = None
    state: tuple[dict[str, Any], dict[str, Any]] | None = None

    def run(self) -> Gpu:
        with pretended_gpu() as gpu:
            method = self.method.to(CUDA)
            optimiser = optimisers.make(self.optimiser, method, 1e-3, 0.05)
            if self.start is not None:
                method.load_state_dict(self.start[0])
                optimisers.restore(optimiser, self.start[1])
            method.forward = gpu.counted("forward", method.forward)
            method.after_update = gpu.counted("after the update", method.after_update)
            optimiser.step = gpu.counted("optimiser", optimiser.step)
            batches = self._batches(gpu, getattr(method, "local_views", None))
            fit(method, batches, optimiser, Plan(100, 1e-3, 0, CUDA, self.precision))
            self.state = method.state_dict(), optimiser.state_dict()
        return gpu

    def _batches(self, gpu: Gpu, local: Any) -> Iterator[Batch]:
        """Batches whose images and rows are on the device already, as those of a training that keeps all images there."""
        recipe = plugins.find("views.recipes", self.recipe)
        make_views = multi_crop.make_on_device(recipe.build(recipe.Config()), self.size, local)[0]
        rows, on_host = torch.arange(_IMAGES, device=CUDA), torch.arange(_IMAGES)
        stored = edges(_STORED_EDGE if isinstance(self.size, int) else self.size)
        images = torch.empty(_IMAGES, self.channels, *stored, dtype=self.dtype, device=CUDA)
        there = tuple(torch.empty(_IMAGES, self.channels, *edges(self.size), device=CUDA) for _ in range(2))
        for step in range(self.steps):
            gpu.waits.clear()
            gpu.launches.clear()
            with gpu.counting("views"):
                views = make_views(images, on_host, step, 0) if self.views else there
            yield Batch(views, rows, step, 0, labels=rows % CLASSES, patients=rows // 2)
