"""What `train.compile` compiles: on a GPU a method's forward pass and loss, as one graph that is made once for a training.

What depends on the number of the step comes into the graph as tensors, made outside: the tags, which hold the number, and the method's
random numbers, whose generator the compiler does not know. A number of Python would be a constant, and each step would make a new graph.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from medssl.nn import Encoder
from medssl.nn.support_set import tags_of
from medssl.types import Batch, Step


def compile_method(method: nn.Module, device: torch.device, processes: int) -> None:
    """Compiles the step on one GPU, where few kernels count. Elsewhere the networks alone: on a CPU the rest takes long to compile and
    gains little, and a step is no single graph where it talks to other processes or passes a batch in parts (`micro_batch`)."""
    encoders = [part for part in method.modules() if isinstance(part, Encoder)]
    if device.type == "cuda" and processes == 1 and all(encoder.micro_batch is None for encoder in encoders):
        compile_step(method)
    else:
        for encoder in encoders:
            encoder.backbone.compile()


def compile_step(method: nn.Module, **options: Any) -> None:
    """Compiles `method.forward`, at its first call. `options`: of torch.compile."""
    graph: Callable[[Batch], Step] = torch.compile(method.forward, dynamic=False, **options)
    draw: Callable[[Batch], Any] | None = getattr(method, "draw", None)

    def forward(batch: Batch) -> Step:
        return graph(replace(batch, tags=tags_of(batch), drawn=None if draw is None else draw(batch)))

    method.forward = forward
