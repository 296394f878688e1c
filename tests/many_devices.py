"""One training in one process (`trained`) and in two (`in_two`): what each of them ended with.

The processes speak gloo over the loopback, wrap the method in DistributedDataParallel and see a part of each batch.
"""

import warnings
from typing import Any

import processes
import torch
from small import batch_for, shallow_encoder, small_method
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medssl.nn.sync_norm import synchronise_norms

BATCH, STEPS, LR = 64, 3, 0.01
Job = tuple[str, torch.dtype, bool]  # method, dtype, whether the encoder has two convolutions only


def trained(job: Job, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Losses of all steps, gradients of the first, and the state after the last, of one process of `world`."""
    name, dtype, shallow = job
    method: Any = small_method(name, shallow_encoder() if shallow else None).to(dtype)
    module: nn.Module = method
    if world > 1:
        method = synchronise_norms(method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 has another name for it, which 2.10 does not know
            module = DistributedDataParallel(method, broadcast_buffers=False)
    share = BATCH // world
    losses, gradients = [], {}
    for number in range(STEPS):
        step = module(batch_for(method, number, BATCH, slice(rank * share, (rank + 1) * share)))
        module.zero_grad()
        step.loss.backward()
        trainable = {key: p for key, p in method.named_parameters() if p.grad is not None}
        if number == 0:
            gradients = {key: p.grad.clone() for key, p in trainable.items()}  # pyright: ignore[reportOptionalMemberAccess]
        with torch.no_grad():
            for p in trainable.values():
                p -= LR * p.grad  # pyright: ignore[reportOperatorIssue]
        method.after_update(step, (number + 1) / STEPS)
        losses.append(step.loss.detach())
    return {"losses": torch.stack(losses), "gradients": gradients, "state": method.state_dict()}


def all_trained(rank: int, jobs: list[Job]) -> list[dict[str, Any]]:
    return [trained(job, rank, processes.WORLD) for job in jobs]


def in_two(jobs: list[Job]) -> list[list[dict[str, Any]]]:
    """What each of two processes ended with, for each job."""
    return processes.returned(__file__, "all_trained", jobs, seconds=240)
