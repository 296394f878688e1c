"""Who applies a recipe's operations: "auto" is albumentations on the CPU; one that works on the device fits behind the same recipes."""

from collections.abc import Callable, Sequence

import numpy as np

from medssl.views.operations import Operation

# Makes the view of an image [C, H, W] that belongs to a key: a pure function of both, and picklable.
ViewMaker = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


def make(executor: str, operations: Sequence[Operation], size: int) -> ViewMaker:
    """The `executor` ("auto" or "albumentations") of `operations` for views of `size` x `size` pixels."""
    from medssl.views.albumentations_executor import ViewMaker as AlbumentationsViewMaker  # albumentations takes a second to import

    assert executor in ("auto", "albumentations"), executor
    return AlbumentationsViewMaker(operations, size)
