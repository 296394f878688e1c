"""Steps whose loss or gradient is not finite: such a step is not applied, and nothing of it stays.

On a CPU the loop looks at the loss and the gradient and decides. On a GPU this look would make the host wait for all that the device still
has to compute, in every step. So the device decides there: the optimiser obeys a flag on the device (`found_inf`, which fused optimisers of
torch know from gradient scaling), and everything else that a step changes is put back where the flag is set; so are weights and momentum
where the optimiser knows no flag. The host reads the flag one step later, when it has arrived.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from medssl.nn.copies import Arriving

_ALIGNMENT = 64  # numbers: kernels read 16 bytes at once


class Verdict:
    """Whether a step on a GPU was applied. `bool(verdict)` waits until the device has said so."""

    def __init__(self, bad: Tensor) -> None:
        self._bad = Arriving(bad)

    def __bool__(self) -> bool:
        return not self._bad.read().item()


Applied = bool | Verdict


class BadSteps:
    """Counts bad steps: `total`, and `in_a_row` up to the newest one that is known."""

    def __init__(self, total: int = 0) -> None:
        self.total, self.in_a_row = total, 0
        self._unread: deque[Applied] = deque()

    def add(self, applied: Applied, wait: bool = False) -> None:
        """To be called for each step. The newest step on a GPU is counted at the next call, as its answer takes time, or now (`wait`)."""
        self._unread.append(applied)
        while len(self._unread) > (isinstance(applied, Verdict) and not wait):
            good = bool(self._unread.popleft())
            self.total += not good
            self.in_a_row = 0 if good else self.in_a_row + 1


class Guard(Protocol):
    """How a training tells bad steps. `begin` before the forward pass; `finish` after the backward pass: `finite` [] is the sum of the loss
    and the gradient's length, and `update` what follows the optimiser's step."""

    def begin(self) -> None: ...
    def finish(self, finite: Tensor, update: Callable[[], None]) -> Applied: ...


def guard_for(method: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device) -> Guard:
    """The device decides where it is a GPU."""
    return OnDevice(method, optimiser) if device.type == "cuda" else OnHost(method, optimiser)


class OnHost:
    """The host decides. What a forward pass changes, the running statistics of normalisations, is put back."""

    def __init__(self, method: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser
        self._running = [b for part in method.modules() if hasattr(part, "running_mean") for b in part.buffers(recurse=False)]
        self._before = [buffer.clone() for buffer in self._running]

    def begin(self) -> None:
        _copy(self._running, self._before)

    def finish(self, finite: Tensor, update: Callable[[], None]) -> bool:
        applied = bool(torch.isfinite(finite))
        if applied:
            self._optimiser.step()
            update()
        else:
            _copy(self._before, self._running)
        return applied


class OnDevice:
    """The device decides. Buffers and parameters without a gradient (target network, support set, running statistics) are moved into one
    block of memory for each type, so that they are kept and put back by one kernel. With an optimiser that knows no flag the same happens
    to the weights and to its state, which must be there before the first step."""

    def __init__(self, method: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser
        obeys = getattr(optimiser, "_step_supports_amp_scaling", False)
        state = [*method.buffers(), *(p for p in method.parameters() if not (p.requires_grad and obeys))]
        if not obeys:
            state += [x for of in optimiser.state.values() for x in of.values() if isinstance(x, Tensor)]
        self._now = [_join([x for x in state if x.dtype == dtype]) for dtype in dict.fromkeys(x.dtype for x in state)]
        self._before = [torch.empty_like(block) for block in self._now]

    def begin(self) -> None:
        for now, before in zip(self._now, self._before, strict=True):
            before.copy_(now)

    def finish(self, finite: Tensor, update: Callable[[], None]) -> Verdict:
        bad = ~torch.isfinite(finite)
        self._optimiser.found_inf = bad.float()  # pyright: ignore[reportAttributeAccessIssue] - torch's GradScaler sets it, too
        self._optimiser.step()
        update()
        for now, before in zip(self._now, self._before, strict=True):
            torch.where(bad, before, now, out=now)
        return Verdict(bad)


@torch.no_grad()
def _join(tensors: list[Tensor]) -> Tensor:
    """One block [n] with the contents of tensors of one type and device, which become views of it, with their shapes and strides."""
    room = [-(-x.numel() // _ALIGNMENT) * _ALIGNMENT for x in tensors]
    block = tensors[0].new_zeros(sum(room))
    for x, part in zip(tensors, block.split(room), strict=True):
        view = part.as_strided(x.shape, torch.empty_like(x).stride())
        view.copy_(x)
        x.data = view
    return block


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    if source:
        torch._foreach_copy_(target, source)
