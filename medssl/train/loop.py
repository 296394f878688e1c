"""The only training loop: pretraining and fine-tuning both call `fit`."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from medssl.errors import UserError
from medssl.train.optimisers import lr_at
from medssl.types import Batch, Step


@dataclass(frozen=True)
class Plan:
    """The settings of `fit`. `precision`: dtype of autocast, None for float32."""

    total_steps: int
    lr: float
    warmup_steps: int
    device: torch.device
    precision: torch.dtype | None = None
    max_bad_steps: int = 10


OnStep = Callable[[int, Step, float, bool], bool]


def fit(
    method: nn.Module,
    batches: Iterable[Batch],
    optimiser: torch.optim.Optimizer,
    plan: Plan,
    start: int = 0,
    on_step: OnStep | None = None,
    forward: Callable[[Batch], Step] | None = None,
) -> int:
    """Run steps `start` to `plan.total_steps`, one for each of `batches`; returns the number of steps done. `forward`: the method in a
    wrapper such as DistributedDataParallel; None for the method itself.

    `on_step(done, step, lr, applied)` is called after each step; if it returns True, the loop ends. A step whose loss or gradient is not
    finite is not applied: weights, optimiser, target, support set and running statistics stay unchanged. Raises UserError after
    `max_bad_steps` such steps in a row.
    """
    forward = forward or method
    method.train()
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    running = _running_statistics(method)
    before = [buffer.clone() for buffer in running]
    done, bad = start, 0
    for batch in batches:
        lr = lr_at(done, base=plan.lr, warmup=plan.warmup_steps, total=plan.total_steps)
        for group in optimiser.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        _copy(running, before)
        with torch.autocast(plan.device.type, plan.precision, enabled=plan.precision is not None):
            step = forward(batch.to(plan.device))
        optimiser.zero_grad(set_to_none=True)
        step.loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        applied = math.isfinite(step.loss.detach() + norm)
        if applied:
            bad = 0
            optimiser.step()
            method.after_update(step, (done + 1) / plan.total_steps)  # pyright: ignore[reportCallIssue]
        else:
            bad += 1
            _copy(before, running)
        done += 1
        if on_step is not None and on_step(done, step, lr, applied):
            break
        if bad >= plan.max_bad_steps:
            raise UserError(
                f"{bad} steps in a row gave a loss or gradient that is not finite (step {done}, lr {lr:.3g}). "
                "None of these steps was applied. Try a lower train.lr or a longer train.warmup_epochs."
            )
        if done >= plan.total_steps:
            break
    return done


def _running_statistics(method: nn.Module) -> list[torch.Tensor]:
    """The buffers of all batch normalisations. They are the only state that a forward pass changes, and a NaN in them would stay."""
    return [buffer for part in method.modules() if hasattr(part, "running_mean") for buffer in part.buffers(recurse=False)]


def _copy(source: list[torch.Tensor], target: list[torch.Tensor]) -> None:
    if source:
        torch._foreach_copy_(target, source)


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA if torch sees a CUDA device. Raises UserError for CUDA without a usable device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name!r} is no device. Use auto, cpu, cuda or cuda:0.") from None
    if device.type not in {"cpu", "cuda"}:
        raise UserError(f"--device {name!r} is not supported. Use auto, cpu, cuda or cuda:0.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here. Check the driver with nvidia-smi, or use --device cpu.")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The dtype of autocast, None for float32. "auto" is bfloat16 on CUDA and on CPUs with bfloat16 instructions (AMX tiles or
    AVX512_BF16), where it is nearly twice as fast. Other CPUs take 1.5 times as long in bfloat16 (ResNet-18 at 64 pixels, AVX-512)."""
    if name == "auto":
        fast = device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else None
    return torch.bfloat16 if name == "bf16" else None
