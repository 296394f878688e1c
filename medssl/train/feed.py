"""From a loader's batches to batches of views on the device.

On a GPU the next batch is on its way, from page-locked memory on a stream of its own, while the present one is trained on; where the recipe
is carried out there, what travels are the stored images, once and in 8 or 16 bits, or only the rows' numbers where all images fit there.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from medssl.data.loader import Loader
from medssl.types import Batch

_GPU_CACHE_SHARE = 0.4  # of the GPU's free memory; weights, activations and the optimiser need the rest

# (images [b, c, h, w], rows [b], step, seed) -> views
MakeViews = Callable[[Shaped[Tensor, "b c h w"], Int[Tensor, " b"], int, int], tuple[Tensor, ...]]


class Feed:
    """The batches of `loader` on `device`. `make_views`: where views are made there, from images as stored; `images`: all of them, if they
    are there already."""

    def __init__(self, loader: Loader, device: torch.device, make_views: MakeViews | None = None, images: Tensor | None = None) -> None:
        self.steps_per_epoch = loader.steps_per_epoch
        self._loader, self._device, self._make_views, self._images = loader, device, make_views, images

    def batch(self, step: int) -> Batch:
        """The batch of one step, made here and now."""
        return self._with_views(self._loader.batch(step).to(self._device))

    def __iter__(self) -> Iterator[Batch]:
        return map(self._with_views, self._prefetch() if self._device.type == "cuda" else iter(self._loader))

    def _prefetch(self) -> Iterator[Batch]:
        """Each batch when the copy of the next one has begun."""
        stream, waiting = torch.cuda.Stream(self._device), None
        for batch in self._loader:
            with torch.cuda.stream(stream):
                moved, copied = batch.to(self._device), torch.cuda.Event()
                copied.record(stream)
            if waiting is not None:
                yield self._wait_for_copy(*waiting)
            waiting = moved, copied
        if waiting is not None:
            yield self._wait_for_copy(*waiting)

    def _wait_for_copy(self, batch: Batch, copied: torch.cuda.Event) -> Batch:
        """The batch, once its copy is done; its memory is not used again before this stream is done with it."""
        present = torch.cuda.current_stream(self._device)
        present.wait_event(copied)
        for part in (*batch.views, batch.rows, batch.labels, batch.patients):
            if part is not None:
                part.record_stream(present)
        return batch

    def _with_views(self, batch: Batch) -> Batch:
        if self._make_views is None:
            return batch
        images = batch.views[0] if self._images is None else self._images[batch.rows]
        return replace(batch, views=self._make_views(images, batch.rows, batch.step, batch.seed))


def copy_to_gpu(images: np.ndarray, device: torch.device) -> Tensor | None:
    """All stored images on the GPU, where they are of 8 bits and take no more than 0.4 of its free memory; None elsewhere."""
    if device.type != "cuda" or images.dtype != np.uint8 or images.nbytes > _GPU_CACHE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return None
    there = torch.empty(images.shape, dtype=torch.uint8, device=device)
    rows = max(1, 2**28 // images[0].nbytes)
    for start in range(0, len(images), rows):  # 256 MB at a time: the store is a memory map
        there[start : start + rows] = torch.from_numpy(np.ascontiguousarray(images[start : start + rows]))
    return there
