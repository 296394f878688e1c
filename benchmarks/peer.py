"""lightly's NNCLR as its documentation builds it, the peer of `bench.py`. By itself it trains a few steps, as a user's script would:

python benchmarks/peer.py FOLDER --size 96 --channels 1 --batch 64 --steps 4 [--precision bf16 --channels-last]
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import NNCLRPredictionHead, NNCLRProjectionHead, NNMemoryBankModule
from lightly.transforms.simclr_transform import SimCLRTransform
from torch import nn
from torch.utils.data import DataLoader

HIDDEN, WIDTH, SUPPORT = 1024, 128, 512
Views = tuple[torch.Tensor, ...]


class Peer:
    """Network, loss, bank and optimiser; `step` trains on the views of one batch. `small`: a stem for images of 32 pixels. `precision`: the
    dtype of autocast. `channels_last`: the order in memory in which convolutions are fast."""

    def __init__(
        self, channels: int, small: bool, device: str = "cpu", precision: torch.dtype | None = None, channels_last: bool = False
    ) -> None:
        backbone = timm.create_model("resnet18", num_classes=0, in_chans=channels)
        if small:
            backbone.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
            backbone.maxpool = nn.Identity()
        self._order = torch.channels_last if channels_last else torch.contiguous_format
        self.backbone, features = backbone.to(torch.device(device), memory_format=self._order), 512  # pyright: ignore[reportCallIssue]
        self.projector = NNCLRProjectionHead(features, HIDDEN, WIDTH).to(device)
        self.predictor = NNCLRPredictionHead(WIDTH, HIDDEN, WIDTH).to(device)
        self.bank = NNMemoryBankModule(size=(SUPPORT, WIDTH)).to(device)
        self.loss = NTXentLoss(temperature=0.1)
        parameters = [p for part in (self.backbone, self.projector, self.predictor) for p in part.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
        self._device, self._precision = device, precision

    def step(self, views: Views) -> None:
        with torch.autocast(self._device, self._precision, enabled=self._precision is not None):
            z0, z1 = [self.projector(self.backbone(view.to(self._device, non_blocking=True, memory_format=self._order))) for view in views]
            p0, p1 = self.predictor(z0), self.predictor(z1)
            z0, z1 = self.bank(z0.detach(), update=False), self.bank(z1.detach(), update=True)
            loss = (self.loss(z0, p1) + self.loss(z1, p0)) / 2
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()


def batches(folder: Path, size: int, channels: int, batch_size: int, workers: int = 0) -> Iterator[Views]:
    """Its data set, transform and torch's loader, epoch after epoch. Of grey images the network sees one of its three equal channels."""
    data = LightlyDataset(str(folder), transform=SimCLRTransform(input_size=size))  # pyright: ignore[reportArgumentType]
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": torch.cuda.is_available()}
    loader: DataLoader[Any] = DataLoader(data, batch_size, shuffle=True, drop_last=True, **options)  # pyright: ignore[reportArgumentType]
    while True:
        for views, *_ in loader:
            yield tuple(view[:, :channels] for view in views)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    for name in ("size", "channels", "batch", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    precision = torch.bfloat16 if options.precision == "bf16" else None
    peer = Peer(options.channels, options.size < 64, "cpu", precision, options.channels_last)
    source = batches(options.folder, options.size, options.channels, options.batch)
    for number in range(options.steps):
        peer.step(next(source))
        print(f"step {number + 1}", flush=True)


if __name__ == "__main__":
    main()
