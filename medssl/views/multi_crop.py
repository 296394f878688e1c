"""Multi-crop (SwAV, Caron et al. 2020, section 3.2), for methods with `local_views`: two views of large crops, and after them local views,
which are smaller images of smaller crops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.types import LocalViews, Size
from medssl.views import executors, keyed_random
from medssl.views.operations import AnyOperation, Operation, ResizedCrop
from medssl.views.torch_executor import ViewMaker
from medssl.views.torch_volumes import BatchViewMaker

# (images, rows on the host, step, seed) -> all views of a batch, each [B, C, edge, edge] or [B, C, D, H, W], on the device of the images.
BatchMaker = Callable[[Tensor, Tensor, int, int], tuple[Tensor, ...]]

_STEP = 8  # the edge of a local view is a multiple of it, in pixels


def make(
    executor: executors.Executor, operations: Sequence[AnyOperation], size: Size, local: LocalViews | None
) -> tuple[executors.ViewMaker, int]:
    """The function that makes the views of one image with a recipe's operations, and the number of views: two of `size` pixels, and the
    local views. Volumes have no local views: raises UserError for a method that asks for them."""
    if not isinstance(size, int):
        _refuse_local(local)
        return executors.make(executor, operations, size), 2
    groups = _view_groups(executors.of_images(operations), size, local)
    makers = [executors.make(executor, group.operations, group.edge) for group in groups]
    return _MultiCrop(*makers) if len(makers) == 2 else makers[0], sum(group.number for group in groups)


def make_on_device(
    operations: Sequence[AnyOperation], size: Size, local: LocalViews | None, compiled: bool = False
) -> tuple[BatchMaker, int]:
    """The function that makes the views of whole batches with torch, and the number of views. The views are those of `make("torch", ...)`.
    `compiled`: as in `torch_executor.ViewMaker`.

    Views of one size are made in one call.
    """
    if not isinstance(size, int):
        _refuse_local(local)
        of_volumes = BatchViewMaker(executors.of_volumes(operations), size)
        return lambda images, rows, step, seed: of_volumes.views(images, rows, step, seed, range(2)), 2
    groups = _view_groups(executors.of_images(operations), size, local)
    makers = [ViewMaker(group.operations, group.edge, compiled) for group in groups]

    def views(images: Tensor, rows: Tensor, step: int, seed: int) -> tuple[Tensor, ...]:
        made: list[Tensor] = []
        for group, maker in zip(groups, makers, strict=True):
            keys = torch.cat([keyed_random.keys(seed, step, rows, len(made) + view) for view in range(group.number)])
            made += maker.views(images, keys).chunk(group.number)
        return tuple(made)

    return views, sum(group.number for group in groups)


def smallest_view(size: Size, local: LocalViews | None) -> Size:
    """The size of the smallest view: of a local one where there are such, else that of the images."""
    return size if local is None or not isinstance(size, int) or local.number == 0 else _local_edge(size, local)


def _local_edge(size: int, local: LocalViews) -> int:
    return max(_STEP, round(local.edge * size / _STEP) * _STEP)


def _refuse_local(local: LocalViews | None) -> None:
    if local is not None and local.number:
        raise UserError(
            "This method has smaller crops beside its two views, and whole volumes have none. Leave them out: --set method.local_crops=0"
        )


@dataclass(frozen=True)
class _ViewGroup:
    """The `number` views that have the same operations and the same edge in pixels."""

    operations: Sequence[Operation]
    edge: int
    number: int


def _view_groups(operations: Sequence[Operation], size: int, local: LocalViews | None) -> list[_ViewGroup]:
    if local is None or local.number == 0:
        return [_ViewGroup(operations, size, 2)]
    return [
        _ViewGroup(_with_crop_area(operations, local.whole_area), size, 2),
        _ViewGroup(_with_crop_area(operations, local.area), _local_edge(size, local), local.number),
    ]


def _with_crop_area(operations: Sequence[Operation], area: tuple[float, float]) -> list[Operation]:
    """The operations, where crops take another range of shares of the image's area."""
    return [replace(operation, area=area) if isinstance(operation, ResizedCrop) else operation for operation in operations]


@dataclass(frozen=True)
class _MultiCrop:
    whole: executors.ViewMaker
    local: executors.ViewMaker

    def __call__(self, image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """The view of `key`. The key's last number is that of the view: 0 and 1 for the large crops, then the local views."""
        return (self.whole if key[-1] < 2 else self.local)(image, key)
