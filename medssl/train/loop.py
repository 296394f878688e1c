"""The only training loop: pretraining and fine-tuning both call `fit`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from medssl.errors import UserError
from medssl.nn.precision import full_float32
from medssl.train.bad_steps import Applied, BadSteps, guard_for
from medssl.train.memory import keep_freed_memory
from medssl.train.optimisers import lr_at
from medssl.types import Batch, Step


@dataclass(frozen=True)
class Plan:
    """The settings of `fit`. `precision`: dtype of autocast, None for float32, which is not TF32 on a GPU."""

    total_steps: int
    lr: float
    warmup_steps: int
    device: torch.device
    precision: torch.dtype | None = None
    max_bad_steps: int = 10


OnStep = Callable[[int, Step, float, Applied], bool]


@full_float32()
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
    `max_bad_steps` such steps in a row, on a GPU one step later (`bad_steps.py`).
    """
    keep_freed_memory(plan.device)
    forward = forward or method
    method.train()
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    guard, bad, done = guard_for(method, optimiser, plan.device), BadSteps(), start
    for batch in batches:
        lr = lr_at(done, base=plan.lr, warmup=plan.warmup_steps, total=plan.total_steps)
        for group in optimiser.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        guard.begin()
        with torch.autocast(plan.device.type, plan.precision, enabled=plan.precision is not None):
            step = forward(batch.to(plan.device))
        optimiser.zero_grad(set_to_none=True)
        step.loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        done += 1
        update = partial(method.after_update, step, done / plan.total_steps)  # pyright: ignore[reportArgumentType, reportCallIssue]
        applied = guard.finish(step.loss.detach() + norm, update)
        bad.add(applied)
        if on_step is not None and on_step(done, step, lr, applied):
            break
        if bad.in_a_row >= plan.max_bad_steps:
            raise UserError(
                f"{bad.in_a_row} steps in a row gave a loss or gradient that is not finite (step {done}, lr {lr:.3g}). "
                "None of these steps was applied. Try a lower train.lr or a longer train.warmup_epochs."
            )
        if done >= plan.total_steps:
            break
    return done


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA if torch sees a CUDA device. A GPU with a number becomes torch's current one. Raises
    UserError for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name!r} is no device. Use auto, cpu, cuda or cuda:0.") from None
    if device.type not in {"cpu", "cuda"}:
        raise UserError(f"--device {name!r} is not supported. Use auto, cpu, cuda or cuda:0.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: torch sees no CUDA device here. Check the driver with nvidia-smi, or use --device cpu.")
    if device.type == "cuda" and device.index is not None:
        if device.index >= (count := torch.cuda.device_count()):
            numbers = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
            raise UserError(f"--device {name}: the number of GPUs that torch sees here is {count}. Use {numbers}, or cuda for the first.")
        torch.cuda.set_device(device)
    return device
