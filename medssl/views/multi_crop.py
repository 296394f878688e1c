"""Multi-crop: two whole views and, after them, smaller crops of little pieces (SwAV, Caron et al. 2020, section 3.2), for methods that ask
for `local_views`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medssl.types import LocalViews
from medssl.views import executors, keyed
from medssl.views.operations import Operation, ResizedCrop
from medssl.views.torch_executor import ViewMaker

# (images, rows, step, seed): all views of a batch, each [B, C, edge, edge], made where the images [B, C, H, W] are.
BatchMaker = Callable[[Tensor, Tensor, int, int], tuple[Tensor, ...]]

_STEP = 8  # crops' edges are multiples of it


def make(
    executor: executors.Executor, operations: Sequence[Operation], size: int, local: LocalViews | None
) -> tuple[executors.ViewMaker, int]:
    """The maker of a recipe's views, of `size` pixels, and the number of views: two, and the local ones where there are any."""
    groups = _view_groups(operations, size, local)
    makers = [executors.make(executor, group.operations, group.edge) for group in groups]
    return _MultiCrop(*makers) if len(makers) == 2 else makers[0], sum(group.number for group in groups)


def make_on_device(operations: Sequence[Operation], size: int, local: LocalViews | None, compiled: bool = False) -> tuple[BatchMaker, int]:
    """The same for whole batches, with torch: what `make("torch", ...)` makes of each image. `compiled`: as in `torch_executor.ViewMaker`.

    Views of one size are made together, which is one call for all local views.
    """
    groups = _view_groups(operations, size, local)
    makers = [ViewMaker(group.operations, group.edge, compiled) for group in groups]

    def views(images: Tensor, rows: Tensor, step: int, seed: int) -> tuple[Tensor, ...]:
        made: list[Tensor] = []
        for group, maker in zip(groups, makers, strict=True):
            keys = torch.cat([keyed.keys(seed, step, rows, len(made) + view) for view in range(group.number)])
            made += maker.views(images.repeat(group.number, 1, 1, 1), keys).chunk(group.number)
        return tuple(made)

    return views, sum(group.number for group in groups)


@dataclass(frozen=True)
class _ViewGroup:
    """Views that differ by chance only: how many there are and what makes them."""

    operations: Sequence[Operation]
    edge: int
    number: int


def _view_groups(operations: Sequence[Operation], size: int, local: LocalViews | None) -> list[_ViewGroup]:
    if local is None or local.number == 0:
        return [_ViewGroup(operations, size, 2)]
    edge = max(_STEP, round(local.edge * size / _STEP) * _STEP)
    return [
        _ViewGroup(_with_crop_area(operations, local.whole_area), size, 2),
        _ViewGroup(_with_crop_area(operations, local.area), edge, local.number),
    ]


def _with_crop_area(operations: Sequence[Operation], area: tuple[float, float]) -> list[Operation]:
    """The operations with another share of the image's area to cut out."""
    return [replace(operation, area=area) if isinstance(operation, ResizedCrop) else operation for operation in operations]


@dataclass(frozen=True)
class _MultiCrop:
    whole: executors.ViewMaker
    local: executors.ViewMaker

    def __call__(self, image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """The view that belongs to `key`, whose last number counts the views."""
        return (self.whole if key[-1] < 2 else self.local)(image, key)
