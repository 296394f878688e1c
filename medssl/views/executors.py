"""Executors, which apply a recipe's operations: albumentations on the CPU, in the loader's workers, or torch on the device, in batches."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from medssl.types import Size
from medssl.views.operations import Operation

# Makes one view of an image [C, H, W] from the image and a key such as (seed, step, row, view): a pure function that can be pickled.
ViewMaker = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
Executor = Literal["auto", "albumentations", "torch"]


def choose_executor(executor: Executor, device_type: str) -> Literal["albumentations", "torch"]:
    """The executor for a device: "auto" means "torch" on "cuda" and "albumentations" elsewhere. `device_type`: torch's name, such as
    "cpu"."""
    if executor == "auto":
        return "torch" if device_type == "cuda" else "albumentations"
    return executor


def make(executor: Executor, operations: Sequence[Operation], size: Size) -> ViewMaker:
    """The function that makes views of `size` x `size` pixels of one image at a time, on the CPU, with the `executor`."""
    match choose_executor(executor, "cpu"):
        case "albumentations":
            from medssl.views.albumentations_executor import ViewMaker as AlbumentationsViewMaker  # takes a second to import

            return AlbumentationsViewMaker(operations, size)
        case "torch":
            from medssl.views.torch_executor import ViewMaker as TorchViewMaker

            return TorchViewMaker(operations, size)
