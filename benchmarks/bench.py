"""`make bench`: speed beside lightly, a peer, in the same run, on the same images, backbone, batch and threads. Prints one table.

    rows: pretraining images/s of nnclr and pnnclr against lightly's NNCLR (float32, ResNet-18, AdamW); views/s of one core against
    lightly's SimCLR transform; host overhead of the loop per step.

Each ratio is the median of interleaved rounds, so that a busy machine slows both sides. Images: phantoms, 8 bit, grey.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import NNCLRPredictionHead, NNCLRProjectionHead, NNMemoryBankModule
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image
from torch import nn

from medssl import plugins
from medssl.data.phantom import radiograph
from medssl.encoder.artefact import build_encoder
from medssl.nn.encoder import to_unit
from medssl.train import optimisers
from medssl.train.loop import Plan, fit
from medssl.types import Batch
from medssl.views import executors

HIDDEN, WIDTH, SUPPORT = 2048, 256, 4096
CPU = torch.device("cpu")


class LightlyNNCLR(nn.Module):
    """lightly's NNCLR as its documentation builds it, behind the same call as ours."""

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = NNCLRProjectionHead(features, HIDDEN, WIDTH)
        self.predictor = NNCLRPredictionHead(WIDTH, HIDDEN, WIDTH)
        self.bank = NNMemoryBankModule(size=(SUPPORT, WIDTH))
        self.loss = NTXentLoss(temperature=0.1)

    def step(self, views: tuple[torch.Tensor, ...]) -> torch.Tensor:
        projections = [self.projector(self.encoder(to_unit(view))) for view in views]
        (z0, z1), (p0, p1) = projections, [self.predictor(z) for z in projections]
        z0, z1 = self.bank(z0.detach(), update=False), self.bank(z1.detach(), update=True)
        return (self.loss(z0, p1) + self.loss(z1, p0)) / 2


def ours(name: str, size: int, batch: Batch) -> Callable[[], None]:
    encoder = build_encoder({"name": "timm", "stem": "own"}, 1, size, torch.tensor([0.5]), torch.tensor([0.25]), 0)
    module = plugins.find("methods", name)
    method = module.build(module.Config(hidden=HIDDEN, width=WIDTH, support_size=SUPPORT), encoder)
    optimiser = optimisers.make("adamw", method, 1e-3, 0.05)

    def step() -> None:
        fit(method, [batch], optimiser, Plan(1, 1e-3, 0, CPU))

    return step


def lightlys(size: int, batch: Batch) -> Callable[[], None]:
    encoder = build_encoder({"name": "timm", "stem": "own"}, 1, size, torch.tensor([0.5]), torch.tensor([0.25]), 0)
    model = LightlyNNCLR(encoder.backbone.to(memory_format=torch.contiguous_format), encoder.num_features)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)

    def step() -> None:
        optimiser.zero_grad()
        model.step(batch.views).backward()
        optimiser.step()

    return step


def rates(work: dict[str, Callable[[], None]], amount: int, rounds: int) -> dict[str, list[float]]:
    """Units per second of each piece of work, one value a round; a first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, run in work.items():
            began = time.perf_counter()
            run()
            if turn:
                found[name].append(amount / (time.perf_counter() - began))
    return found


def row(title: str, found: dict[str, list[float]], ours_name: str, peer: str) -> str:
    ratio = statistics.median(a / b for a, b in zip(found[ours_name], found[peer], strict=True))
    return f"| {title} | {statistics.median(found[ours_name]):.1f} | {statistics.median(found[peer]):.1f} | {ratio:.2f} |"


def training(size: int, batch_size: int, rounds: int) -> list[str]:
    image = torch.randint(0, 256, (batch_size, 1, size, size), dtype=torch.uint8)
    batch = Batch((image, image.flip(-1)), torch.arange(batch_size), 0, 0)
    work = {"nnclr": ours("nnclr", size, batch), "pnnclr": ours("pnnclr", size, batch), "lightly": lightlys(size, batch)}
    found = rates(work, batch_size, rounds)
    return [row(f"{name} training, images/s, {size} px, batch {batch_size}", found, name, "lightly") for name in ("nnclr", "pnnclr")]


def views(size: int, rounds: int) -> str:
    pixels = (255 * radiograph((1,), 1, size, lesion=False)).astype(np.uint8)
    recipe = plugins.find("views.recipes", "chest_xray")
    make = executors.make("auto", recipe.build(recipe.Config()), size)
    peer, picture = SimCLRTransform(input_size=size), Image.fromarray(pixels).convert("RGB")
    work = {
        "ours": lambda: [make(pixels[None], (0, 0, i, 0)) for i in range(100)] and None,
        "lightly": lambda: [peer(picture) for _ in range(50)] and None,  # two views a call
    }
    return row(f"views of one core, views/s, {size} px (chest_xray against SimCLRTransform)", rates(work, 100, rounds), "ours", "lightly")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {rounds} rounds\n")
    print("| what | medssl | lightly | ratio |\n|---|---|---|---|")
    for size, batch_size in ((32, 64), (96, 32)):
        print("\n".join(training(size, batch_size, rounds)), flush=True)
    torch.set_num_threads(1)
    print(views(224, rounds))


if __name__ == "__main__":
    main()
