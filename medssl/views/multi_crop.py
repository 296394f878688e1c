"""Multi-crop: two whole views and, after them, smaller crops of little pieces (SwAV, Caron et al. 2020, section 3.2), for methods that ask
for `local_views`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medssl.types import LocalViews
from medssl.views import executors
from medssl.views.operations import Operation, ResizedCrop

_STEP = 8  # crops' edges are multiples of it


def make(executor: str, operations: Sequence[Operation], size: int, local: LocalViews | None) -> tuple[executors.ViewMaker, int]:
    """The maker of a recipe's views, of `size` pixels, and the number of views: two, and the local ones where there are any."""
    if local is None or local.number == 0:
        return executors.make(executor, operations, size), 2
    edge = max(_STEP, round(local.edge * size / _STEP) * _STEP)
    whole = executors.make(executor, _cropped(operations, local.whole_area), size)
    return _MultiCrop(whole, executors.make(executor, _cropped(operations, local.area), edge)), 2 + local.number


def _cropped(operations: Sequence[Operation], area: tuple[float, float]) -> list[Operation]:
    """The operations with another share of the image's area to cut out."""
    return [replace(operation, area=area) if isinstance(operation, ResizedCrop) else operation for operation in operations]


@dataclass(frozen=True)
class _MultiCrop:
    whole: executors.ViewMaker
    local: executors.ViewMaker

    def __call__(self, image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """The view that belongs to `key`, whose last number counts the views."""
        return (self.whole if key[-1] < 2 else self.local)(image, key)
