"""Who applies a recipe's operations: albumentations on the CPU, in the loader's processes, or torch, batched, on the device."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from medssl.views.operations import Operation

# Makes the view of an image [C, H, W] that belongs to a key: a pure function of both, and picklable.
ViewMaker = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
Executor = Literal["auto", "albumentations", "torch"]


def choose_executor(executor: Executor, device_type: str) -> Literal["albumentations", "torch"]:
    """What "auto" stands for on a device, by torch's name of it: "torch" on "cuda", else "albumentations"."""
    if executor == "auto":
        return "torch" if device_type == "cuda" else "albumentations"
    return executor


def make(executor: Executor, operations: Sequence[Operation], size: int) -> ViewMaker:
    """The maker of views of `size` x `size` pixels, one image at a time on the CPU, by the `executor`."""
    match choose_executor(executor, "cpu"):
        case "albumentations":
            from medssl.views.albumentations_executor import ViewMaker as AlbumentationsViewMaker  # takes a second to import

            return AlbumentationsViewMaker(operations, size)
        case "torch":
            from medssl.views.torch_executor import ViewMaker as TorchViewMaker

            return TorchViewMaker(operations, size)
