"""Copies between host and device for which nobody waits: from page-locked memory there, and read late on the way back."""

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on `device`. The host does not wait for the copy to a GPU."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


class Arriving:
    """A tensor of a device on its way to the host. Whoever gives the device more work before `read` waits for this tensor alone."""

    def __init__(self, x: Tensor) -> None:
        self._host, self._event = x.to("cpu", non_blocking=True), torch.cuda.Event() if x.is_cuda else None
        if self._event is not None:
            self._event.record()

    def read(self) -> Tensor:
        """The tensor, as soon as it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._host
