"""Executors, which apply a recipe's operations: albumentations on the CPU, in the loader's workers, or torch on the device, in batches.
Views of volumes are made by OpenCV where those of images are made by albumentations.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from medssl.errors import UserError
from medssl.types import Size
from medssl.views.operations import AnyOperation, Operation, VolumeOperation

# Makes one view of an image [C, H, W] or a volume [C, D, H, W] from the image and a key such as (seed, step, row, view): a pure function
# that can be pickled.
ViewMaker = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
Executor = Literal["auto", "albumentations", "torch"]


def choose_executor(executor: Executor, device_type: str) -> Literal["albumentations", "torch"]:
    """The executor for a device: "auto" means "torch" on "cuda" and "albumentations" elsewhere. `device_type`: torch's name, such as
    "cpu"."""
    if executor == "auto":
        return "torch" if device_type == "cuda" else "albumentations"
    return executor


def make(executor: Executor, operations: Sequence[AnyOperation], size: Size) -> ViewMaker:
    """The function that makes views of `size` of one image or volume at a time, on the CPU, with the `executor`. Raises UserError for
    operations of the other kind."""
    if not isinstance(size, int):
        from medssl.views import torch_volumes, volumes

        maker = volumes.ViewMaker if choose_executor(executor, "cpu") == "albumentations" else torch_volumes.BatchViewMaker
        return maker(of_volumes(operations), size)
    operations = of_images(operations)
    match choose_executor(executor, "cpu"):
        case "albumentations":
            from medssl.views.albumentations_executor import ViewMaker as AlbumentationsViewMaker  # takes a second to import

            return AlbumentationsViewMaker(operations, size)
        case "torch":
            from medssl.views.torch_executor import ViewMaker as TorchViewMaker

            return TorchViewMaker(operations, size)


def of_images(operations: Sequence[AnyOperation]) -> list[Operation]:
    """The operations, which must be those of images. Raises UserError where one is for volumes."""
    found = [operation for operation in operations if isinstance(operation, Operation)]
    if len(found) < len(operations):
        raise UserError("views.recipe: this recipe is for whole volumes (data.volumes=whole). For images: chest_xray or natural.")
    return found


def of_volumes(operations: Sequence[AnyOperation]) -> list[VolumeOperation]:
    """The operations, which must be those of volumes. Raises UserError where one is for images."""
    found = [operation for operation in operations if isinstance(operation, VolumeOperation)]
    if len(found) < len(operations):
        raise UserError("views.recipe: this recipe is for images. For whole volumes: volume_ct, volume_mr or volume_shape.")
    return found
