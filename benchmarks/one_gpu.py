"""One GPU, by arithmetic: what a training step of pnnclr computes, moves and launches, and the images/s that follow. Nothing is measured.

    python benchmarks/one_gpu.py

Each step runs once on tensors that have shapes and no values, so that every operation is seen. Of an operation that launches kernels, what
counts is its floating-point operations (torch's own formulas), the bytes of the tensors that it reads and writes, and its launches. Its
time is the longer of its operations at 75 % of the card's peak and its bytes at 80 % of the card's bandwidth. The tables are in
docs/explanation/scale.md.
"""

import argparse
import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from acceptance.subjects import NETWORKS, Network, Setting, build_method, views_maker
from torch import Tensor
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from medssl.train import optimisers
from medssl.types import Batch
from medssl.views import torch_executor

_OF_PEAK, _OF_BANDWIDTH = 0.75, 0.8
_LAUNCH = 5e-6  # seconds of the program for one launch, assumed
_FEED = 0.8 * 64e9  # bytes a second to the card: 80 % of PCIe 5.0 x16 in one direction
_HEADS = {"hidden": 2048, "width": 256, "support_size": 16_384}
_BLOCK, _MOST_BLOCKS = 65_536, 320  # torch's kernels over lists of tensors: numbers of a block, blocks of a launch
_TENSORS_OF_A_LAUNCH = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}  # by the number of lists
_NO_KERNEL = ("prim.", "profiler.", "aten.empty", "aten.new_empty", "aten.detach", "aten._unsafe_view", "aten.as_strided_", "aten.resize_")
_APPLY_ALL = torch_executor._apply_all  # what of the views the card computes
_INDEXED = ("aten.index.", "aten.gather.", "aten.index_select.", "aten.embedding.")  # read as much as they write


@dataclass(frozen=True)
class Card:
    """From NVIDIA's data sheets of the SXM cards: dense operations a second and bytes a second."""

    name: str
    bfloat16: float
    float32: float
    bandwidth: float


CARDS = (Card("H100", 989e12, 67e12, 3.35e12), Card("H200", 989e12, 67e12, 4.8e12))


@dataclass(frozen=True)
class Kernel:
    """One operation on the device. `short`: whether it computes in bfloat16."""

    name: str
    operations: int
    moved: int
    launches: int
    short: bool

    def seconds(self, card: Card) -> float:
        """On the card, without the program's time for the launch."""
        return max(self._computing(card), self._moving(card))

    def is_bound_by_memory(self, card: Card) -> bool:
        """Whether its bytes take longer than its operations."""
        return self._moving(card) > self._computing(card)

    def _computing(self, card: Card) -> float:
        return self.operations / (_OF_PEAK * (card.bfloat16 if self.short else card.float32))

    def _moving(self, card: Card) -> float:
        return self.moved / (_OF_BANDWIDTH * card.bandwidth)


@dataclass
class Kernels(TorchDispatchMode):
    """Notes the kernels of all operations inside its block."""

    found: list[Kernel] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not func.is_view and not str(func).startswith(_NO_KERNEL):
            self.found.append(_kernel(func, args, kwargs, out))
        return out

    def total(self, what: str) -> int:
        """The sum of `operations`, `moved` or `launches`."""
        return sum(getattr(kernel, what) for kernel in self.found)

    def seconds(self, card: Card) -> float:
        """Of all kernels, one after another."""
        return sum(kernel.seconds(card) for kernel in self.found)

    def memory_seconds(self, card: Card) -> float:
        """Of the kernels that are bound by memory."""
        return sum(kernel.seconds(card) for kernel in self.found if kernel.is_bound_by_memory(card))


def _kernel(func: Any, args: Any, kwargs: Any, out: Any) -> Kernel:
    name, read, written = str(func), list(_tensors((args, kwargs))), list(_tensors(out))
    formula = flop_registry.get(func._overloadpacket)
    operations = int(formula(*args, **kwargs, out_val=out)) if formula else _attention(name, args)
    moved = _bytes(read) + (_bytes(written) or _bytes(_changed(func, args)))
    launches = 1
    if name.startswith(_INDEXED):
        moved = 2 * _bytes(written)
    elif name.startswith("aten.index_put"):
        moved = 2 * _bytes(read[-1:])
    elif "batch_norm" in name:  # statistics first, then the values: two passes over what is read
        moved += _bytes(read)
        launches = 2
    elif "convolution_backward" in name:  # one for the weights, one for the images; both read the gradient
        moved += _bytes(read[:1])
        launches = 2
    elif "_foreach" in name or "_fused" in name:
        lists = [part for part in args if isinstance(part, list | tuple) and part and isinstance(part[0], Tensor)]
        launches = _launches_of_lists(lists)
    short = bool(read) and max(read, key=lambda x: x.numel()).dtype == torch.bfloat16
    return Kernel(name, operations, moved, launches, short)


def _attention(name: str, args: Any) -> int:
    """Operations of attention, whose formula torch has for GPUs only: two products, and five in the backward pass."""
    if "scaled_dot_product" not in name:
        return 0
    q, k = (args[1], args[2]) if "backward" in name else (args[0], args[1])
    product = 2 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3]
    return product * (5 if "backward" in name else 2)


def _changed(func: Any, args: Any) -> Iterable[Tensor]:
    """The tensors that an operation without a result writes into."""
    changed = [arg for arg, known in zip(args, func._schema.arguments, strict=False) if known.is_write]
    return _tensors(changed)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor))


def _bytes(tensors: Iterable[Tensor]) -> int:
    """What lies in memory: an expanded tensor is no larger than what it was made of."""
    return sum(min(x.nbytes, x.untyped_storage().nbytes()) for x in tensors)


def _launches_of_lists(lists: list[Any]) -> int:
    if not lists:
        return 1
    blocks = sum(math.ceil(x.numel() / _BLOCK) for x in lists[0])
    at_once = _TENSORS_OF_A_LAUNCH[min(5, len(lists))]
    return max(math.ceil(len(lists[0]) / at_once), math.ceil(blocks / _MOST_BLOCKS))


@dataclass(frozen=True)
class Counted:
    """The kernels of a step of `network`: of the training itself, of its views, and of taking the batch from the images on the card."""

    network: Network
    step: Kernels
    views: Kernels
    gather: Kernels

    @property
    def launches(self) -> int:
        """Of the whole step."""
        return sum(part.total("launches") for part in (self.step, self.views, self.gather))

    @property
    def stored_bytes(self) -> int:
        """Of the batch, as it goes to the card where the images are not there."""
        return self.network.batch * self.network.channels * self.network.size**2

    def seconds(self, card: Card) -> dict[str, float]:
        """What a step's time goes to. The kernels of the first four follow one another; launches and feeding happen beside them."""
        memory = self.step.memory_seconds(card)
        kernels = {"products": self.step.seconds(card) - memory, "memory": memory}
        kernels |= {"views": self.views.seconds(card), "gather": self.gather.seconds(card)}
        return {**kernels, "launches": self.launches * _LAUNCH, "feed": self.stored_bytes / _FEED}

    def bound(self, card: Card) -> tuple[float, str]:
        """The seconds of a step, and what most of them are spent on."""
        spent = self.seconds(card)
        kernels = {name: spent.pop(name) for name in ("products", "memory", "views", "gather")}
        name, longest = max(spent.items(), key=lambda item: item[1])
        whole = sum(kernels.values())
        return (longest, name) if longest > whole else (whole, max(kernels, key=lambda name: kernels[name]))


def count(network: Network) -> Counted:
    """A step of pnnclr with a target network, AdamW and autocast in bfloat16; nothing is computed."""
    setting, batch = Setting(torch.device("cpu"), tiny=False), network.batch
    method = build_method("pnnclr", network, setting, **_HEADS)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(mode):
        method = copy.deepcopy(method)
    step, views, gather = Kernels(), Kernels(), Kernels()
    with mode:
        method.train()
        optimiser = optimisers.make("adamw", method, 1e-3, 0.05)
        shape, rows = (batch, network.channels, network.size, network.size), torch.arange(batch)
        _train(method, optimiser, shape, rows)  # the optimiser's state is made at the first step
        with step:
            _train(method, optimiser, shape, rows)
        with gather:
            images = torch.empty((2 * batch, *shape[1:]), dtype=torch.uint8)[rows]
        with patch.object(torch_executor, "_apply_all", lambda *given: _make_views(views, *given)):
            views_maker("natural", network.size)(images, rows, 0, 0)
    return Counted(network, step, views, gather)


def _make_views(kernels: Kernels, images: Tensor, *given: Any) -> Tensor:
    """The part of the views that the card computes, and before it the copy of what the host has drawn."""
    kernels.found.append(Kernel("copy", 0, _bytes(_tensors(given)), 1, short=False))
    with kernels:
        return _APPLY_ALL(images, *given)


def _train(method: Any, optimiser: torch.optim.Optimizer, shape: tuple[int, ...], rows: Tensor) -> None:
    batch = Batch((torch.empty(shape), torch.empty(shape)), rows, 0, 0, rows, rows)
    with torch.autocast("cpu", torch.bfloat16):
        step = method(batch)
    optimiser.zero_grad()
    step.loss.backward()
    torch.nn.utils.get_total_norm([p.grad for p in method.parameters() if p.grad is not None])
    optimiser.step()
    method.after_update(step, 0.5)


def counts(steps: list[Counted]) -> str:
    """The table of what a step does, on any card."""
    head = ("network", "px", "batch", "GFLOP per image", "GB moved per step", "GB of that for views", "launches", "of these for views")
    lines = []
    for counted in steps:
        network, step, views = counted.network, counted.step, counted.views
        flops = step.total("operations") / network.batch / 1e9
        moved, of_views = (step.total("moved") + views.total("moved")) / 1e9, views.total("moved") / 1e9
        lines.append(
            f"| {network.model} | {network.size} | {network.batch} | {flops:.2f} | {moved:.1f} | {of_views:.1f} | {counted.launches} "
            f"| {views.total('launches')} |"
        )
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *lines])


def speeds(steps: list[Counted], card: Card) -> str:
    """The table of what follows for one card, in milliseconds and images/s."""
    head = ("network", "px", "products", "memory", "views", "gather", "launches", "feed", "bound by", "images/s", "MFU", "smallest batch")
    lines = []
    for counted in steps:
        spent, batch = counted.seconds(card), counted.network.batch
        whole, bound = counted.bound(card)
        times = " | ".join(f"{1e3 * seconds:.2f}" for seconds in spent.values())
        kernels = sum(spent.values()) - spent["launches"] - spent["feed"]
        mfu = counted.step.total("operations") / whole / card.bfloat16
        rest = f"{bound} | {_rounded(batch / whole)} | {mfu:.0%} | {_rounded(batch * spent['launches'] / kernels)}"
        lines.append(f"| {counted.network.model} | {counted.network.size} | {times} | {rest} |")
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *lines])


def _rounded(rate: float) -> str:
    return f"{float(f'{rate:.2g}'):,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    steps = [count(network) for network in NETWORKS]
    print(counts(steps), flush=True)
    for card in CARDS:
        print(f"\n{card.name}:\n\n{speeds(steps, card)}")


if __name__ == "__main__":
    main()
