"""A pretended GPU: torch's FakeTensorMode has tensors on "cuda" without memory and without a driver. Operations check devices and shapes.

    with pretended_gpu() as gpu:
        method.to("cuda") ...
    gpu.waits       what made the host wait for the device: a value that is read back, a shape that depends on one, a blocking copy
    gpu.launches    kernels that were launched, by part of the step

A tensor of the host beside one of the device is an error, also where torch would copy it without a word (the index of a table).
What is not seen: the order of streams, memory, numbers, and what a kernel of the library itself does.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)
# Copies from one device to the other may name both; a number is an argument of the kernel.
_COPIES = {"aten::_to_copy", "aten::copy_", "aten::_foreach_copy_", "aten::set_"}
# These only allocate or describe memory.
_NO_KERNEL = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided", "aten::_unsafe_view"}
# The host must know how long their result is, or reads numbers.
_WAITS = {
    *("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::bincount", "aten::masked_select"),
    *("aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::repeat_interleave", "aten::_linalg_eigh"),
}
_TENSORS_A_KERNEL = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}  # of lists of tensors, by the number of lists (ATen, MultiTensorApply.cuh)


class _FakeMode(FakeTensorMode):
    @property
    def avoid_device_init(self) -> bool:
        """Where there is a GPU, too."""
        return True


class Gpu(TorchDispatchMode):
    """Notes what each operation on the device would do. `part`: what the launches are counted as."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.launches: Counter[str] = Counter()
        self.part = "other"
        self.events = 0

    @contextmanager
    def counting(self, part: str) -> Iterator[None]:
        before, self.part = self.part, part
        yield
        self.part = before

    def counted(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose launches count as `part`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.counting(part):
                return function(*args, **kwargs)

        return call

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs, name = dict(kwargs or {}), func._schema.name
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        on_device = [x for x in given if x.is_cuda]
        if on_device and name not in _COPIES:
            other = [x for x in given if not x.is_cuda and x.ndim]
            assert not other, f"{name} has a tensor {tuple(other[0].shape)} of the host beside one of the device"
        if on_device and name in _WAITS:
            self.waits.append(name)
        result = self._result(func, name, args, kwargs)
        made = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self._note_copy(name, given, made, kwargs, args)
        if any(x.is_cuda for x in made or on_device) and name not in _NO_KERNEL and not _is_view(func):
            self.launches[self.part] += _kernels(args) if "_foreach_" in name or "_fused_" in name else 1
        return result

    def _result(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the operation returns; FakeTensorMode has no such values, no page-locked memory and no fused SGD."""
        if name == "aten::_local_scalar_dense":
            return True if args[0].dtype == torch.bool else 1.0 if args[0].dtype.is_floating_point else 1
        if name == "aten::is_pinned":
            return False
        if name == "aten::_fused_sgd_":
            assert all(p.shape == g.shape == m.shape for p, g, m in zip(*args[:3], strict=True))
            return None
        if name == "aten::_pin_memory":
            pinned: Any = torch.empty_like(args[0])
            pinned.is_page_locked = True
            return pinned
        return func(*args, **kwargs)

    def _note_copy(self, name: str, given: Sequence[Any], made: Sequence[Any], kwargs: Mapping[str, Any], args: Sequence[Any]) -> None:
        """A copy between devices waits, unless it is told not to, and page-locked memory is at its other end."""
        if name == "aten::_to_copy":
            source, target = given[0], made[0]
        elif name == "aten::copy_":
            target, source = given
        else:
            return
        free = kwargs.get("non_blocking") or args[2:] == (True,)
        if source.is_cuda != target.is_cuda and not (free and (source.is_cuda or hasattr(source, "is_page_locked"))):
            self.waits.append(f"{name} to {target.device.type}")


class _Event:
    """An event of a stream. To wait for the newest one is to wait for the device; older ones have passed."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._number = gpu, 0

    def record(self, *_: Any) -> None:
        self._gpu.events += 1
        self._number = self._gpu.events

    def synchronize(self) -> None:
        if self._number == self._gpu.events:
            self._gpu.waits.append("cudaEventSynchronize")


@contextmanager
def pretended_gpu(capability: tuple[int, int] = (9, 0)) -> Iterator[Gpu]:
    """Tensors made inside are pretended ones, and real ones become pretended ones where they are used."""
    gpu, mode = Gpu(), _FakeMode(allow_non_fake_inputs=True)
    answers = {"is_available": True, "device_count": 1, "current_device": 0, "get_device_capability": capability}
    answers |= {"is_bf16_supported": capability >= (8, 0), "mem_get_info": (2**36, 2**36), "_lazy_init": None}
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch(f"torch.cuda.{name}", lambda *_, answer=answer, **__: answer))
        stack.enter_context(patch("torch.cuda.Event", lambda *_, **__: _Event(gpu)))
        stack.enter_context(patch("torch.utils._foreach_utils._foreach_supported_types", [torch.Tensor, nn.Parameter, FakeTensor]))
        stack.enter_context(patch.object(nn.Module, "_apply", _apply))
        stack.enter_context(patch.object(torch.Tensor, "numpy", _numpy))
        stack.enter_context(patch.object(torch.Tensor, "__deepcopy__", _deepcopy))
        hooks: dict[Any, Callable[[torch.Tensor], None]] = {}
        stack.enter_context(
            patch.object(nn.Module, "register_full_backward_hook", lambda module, hook, **_: _add_hook(hooks, module, hook))
        )
        stack.enter_context(patch.object(torch.Tensor, "backward", gpu.counted("backward", lambda loss, **_: _backward(loss, hooks))))
        stack.enter_context(patch("torch._C._current_graph_task_id", lambda: 0))  # as asked by torch.utils.checkpoint
        stack.enter_context(mode)
        stack.enter_context(gpu)
        yield gpu


def _apply(self: nn.Module, change: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
    """As torch's, but a parameter is replaced by a new one: torch would exchange the contents, which pretended tensors refuse."""
    for child in self.children():
        child._apply(change)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            changed = change(parameter.detach())
            if changed.device != parameter.device or not isinstance(parameter, FakeTensor):
                self._parameters[name] = nn.Parameter(changed, parameter.requires_grad)
    for name, buffer in self._buffers.items():
        self._buffers[name] = None if buffer is None else change(buffer)
    return self


def _deepcopy(self: torch.Tensor, _memo: Any) -> torch.Tensor:
    """As torch's, which copies the memory: a pretended tensor has none."""
    new = self.detach().clone()
    return nn.Parameter(new, self.requires_grad) if isinstance(self, nn.Parameter) else new


def _add_hook(hooks: dict[Any, Callable[[torch.Tensor], None]], module: nn.Module, hook: Callable[..., Any]) -> Any:
    """As torch's for a module with one output, whose node in the graph is kept in `hooks`."""

    def note(_module: nn.Module, _input: Any, output: torch.Tensor) -> None:
        hooks[output.grad_fn] = lambda gradient: hook(module, (None,), (gradient,))

    return module.register_forward_hook(note)


def _backward(loss: torch.Tensor, hooks: Mapping[Any, Callable[[torch.Tensor], None]]) -> None:
    """As torch's, node by node, with no `hooks` but those of modules. torch's own engine asks for a driver where a node is on a GPU."""
    assert loss.grad_fn is not None
    nodes: list[Any] = [loss.grad_fn]
    waiting = Counter[Any]()
    for node in nodes:
        following = [following for following, _ in node.next_functions if following is not None]
        nodes += [each for each in dict.fromkeys(following) if each not in waiting]
        waiting.update(following)
    gradients: dict[Any, dict[int, torch.Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    ready = nodes[:1]
    with torch.no_grad():
        while ready:
            ready.sort(key=lambda node: node._sequence_nr())  # the latest of the forward pass is the first of the backward pass
            node = ready.pop()
            given = gradients.pop(node, {})
            if node in hooks and 0 in given:
                hooks[node](given[0])
            results = node(*(given.get(i) for i in range(len(node._input_metadata)))) if given else [None] * len(node.next_functions)
            results = results if isinstance(results, tuple | list) else [results]
            for (following, place), result in zip(node.next_functions, results, strict=True):
                if following is None:
                    continue
                if result is not None:
                    of_node = gradients.setdefault(following, {})
                    result = _as_its_input(result, following._input_metadata[place])
                    of_node[place] = of_node[place] + result if place in of_node else result
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)


def _as_its_input(gradient: torch.Tensor, of: Any) -> torch.Tensor:
    """The gradient summed where the input was broadcast, with its type, as torch's engine does it."""
    gradient = gradient if gradient.shape == torch.Size(of.shape) else gradient.sum_to_size(of.shape)
    assert gradient.device == of.device, f"a gradient on {gradient.device} of a tensor on {of.device}"
    return gradient if gradient.dtype == of.dtype else gradient.to(of.dtype)


def _numpy(self: torch.Tensor, **_: Any) -> np.ndarray:
    """As torch's, with zeros for the contents that a pretended tensor does not have."""
    if self.is_cuda:
        raise TypeError("can't convert a tensor of the device to numpy: use Tensor.cpu() first")
    return np.zeros(tuple(self.shape), dtype=str(self.dtype).removeprefix("torch."))


def _is_view(func: Any) -> bool:
    """Whether the results are the arguments' memory, which stays as it is, or no tensors."""
    if func.namespace == "prim":
        return True
    returned = [x.alias_info for x in func._schema.returns]
    return bool(returned) and all(alias is not None and not alias.is_write for alias in returned)


def _kernels(args: Sequence[Any]) -> int:
    """Of an operation on lists of tensors: a kernel takes many of them, but one each where types differ within a list."""
    lists = [x for x in args if isinstance(x, list | tuple) and x and isinstance(x[0], torch.Tensor)]
    if any(len({x.dtype for x in of}) > 1 for of in lists):
        return len(lists[0])
    return math.ceil(len(lists[0]) / _TENSORS_A_KERNEL[min(len(lists), 5)])
