"""From a loader's batches to batches of views on the device.

On a GPU the next batch is copied during the training step of the current batch, from page-locked memory on a separate CUDA stream. If views
are made on the GPU, only the stored images are copied, once and in 8 or 16 bits; if all images are on the GPU, only row numbers are copied.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import starmap

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from medssl.data.loader import Loader
from medssl.types import Batch

_GPU_CACHE_SHARE = 0.4  # of the GPU's free memory; weights, activations and the optimiser need the rest

# (images [b, c, h, w] or [b, c, d, h, w], rows [b] on the host, step, seed) -> views
MakeViews = Callable[[Shaped[Tensor, "b c *edges"], Int[Tensor, " b"], int, int], tuple[Tensor, ...]]


class Feed:
    """The batches of `loader` on `device`. `make_views`: makes views from stored images on the device, None if the loader makes them.
    `images`: all stored images, if they are on the device already."""

    def __init__(self, loader: Loader, device: torch.device, make_views: MakeViews | None = None, images: Tensor | None = None) -> None:
        self.steps_per_epoch = loader.steps_per_epoch
        self._loader, self._device, self._make_views, self._images = loader, device, make_views, images

    def batch(self, step: int) -> Batch:
        """The batch of one step, made in this process."""
        batch = self._loader.batch(step)
        return self._with_views(batch.to(self._device), batch.rows)

    def __iter__(self) -> Iterator[Batch]:
        if self._device.type == "cuda":
            return starmap(self._with_views, self._prefetch())
        return (self._with_views(batch, batch.rows) for batch in self._loader)

    def _prefetch(self) -> Iterator[tuple[Batch, Tensor]]:
        """Yields each batch, and its rows on the host, after the copy of the next one has started."""
        stream, waiting = torch.cuda.Stream(self._device), None
        for batch in self._loader:
            with torch.cuda.stream(stream):
                on_device, copied = batch.to(self._device), torch.cuda.Event()
                copied.record(stream)
            if waiting is not None:
                yield self._wait_for_copy(*waiting[:2]), waiting[2]
            waiting = on_device, copied, batch.rows
        if waiting is not None:
            yield self._wait_for_copy(*waiting[:2]), waiting[2]

    def _wait_for_copy(self, batch: Batch, copied: torch.cuda.Event) -> Batch:
        """Make the current stream wait until the batch is copied. The memory of the batch stays reserved until that stream has used it."""
        current = torch.cuda.current_stream(self._device)
        current.wait_event(copied)
        for part in (*batch.views, batch.rows, batch.labels, batch.patients):
            if part is not None:
                part.record_stream(current)
        return batch

    def _with_views(self, batch: Batch, rows: Tensor) -> Batch:
        """The batch with its views. `rows`: its rows on the host, where random numbers are drawn."""
        if self._make_views is None:
            return batch
        images = batch.views[0] if self._images is None else self._images[batch.rows]
        return replace(batch, views=self._make_views(images, rows, batch.step, batch.seed))


def copy_to_gpu(images: np.ndarray, device: torch.device) -> Tensor | None:
    """All stored images on the GPU, if they have 8 bits and take at most 0.4 of the free GPU memory; otherwise None."""
    if device.type != "cuda" or images.dtype != np.uint8 or images.nbytes > _GPU_CACHE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return None
    gpu_images = torch.empty(images.shape, dtype=torch.uint8, device=device)
    rows = max(1, 2**28 // images[0].nbytes)
    for start in range(0, len(images), rows):  # 256 MB at a time: the store is a memory map
        gpu_images[start : start + rows] = torch.from_numpy(np.ascontiguousarray(images[start : start + rows]))
    return gpu_images
