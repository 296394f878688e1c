"""`make bench`: pretraining beside lightly's NNCLR in the same run, from files to trained images; same network, images, batch, threads.

    python benchmarks/bench.py [--data ../shared/data] [--rounds 7] [--only 32 96 224]

One table for each size: images/s with views made (interleaved rounds, so that a busy machine slows all sides; the ratio is the median of
the rounds' ratios), the share of a step spent waiting for its batch, and for each command on its own the seconds to its first step and
its peak memory. lightly runs twice: as its documentation builds it, in float32, and tuned as a careful user does it, with channels_last
and in the precision of medssl. pnnclr, too: with a target network, as trainings of 2,000 steps and more have it, and without one. Then
views of one core and the loop's own time. --data: the folder with chestxray/nih_pneumonia_224 and natural/cifar10_jpeg.tar.gz; without it,
phantoms and noise. All make views in the training process, as two cores leave no third.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peer
import torch
from PIL import Image
from views import CASES, measure

from medssl.console import Console
from medssl.data.phantom import radiograph
from medssl.pretraining.trainer import build_training
from medssl.runs.dataset import prepare_dataset
from medssl.runs.resolve_config import flags_and_sets, resolve_config
from medssl.train.loop import Plan, fit
from medssl.train.processes import join_team
from medssl.types import Batch, Step

CPU = torch.device("cpu")


class Case(NamedTuple):
    """`preset`: whose views are made. `steps`: of a round. `precision`: of medssl."""

    size: int
    batch: int
    preset: str
    channels: int
    steps: int
    precision: str = "auto"


CASES_OF_TRAINING = (Case(32, 128, "natural_cpu", 3, 2), Case(96, 64, "chest_xray_cpu", 1, 1), Case(224, 32, "chest_xray_cpu", 1, 1))


PLAIN, TUNED = "lightly", "lightly, tuned"
OURS = {
    "nnclr": "name: nnclr",
    "pnnclr": "name: pnnclr, momentum: 0.99",
    "pnnclr without target network": "name: pnnclr, momentum: 0, base: nnclr",  # the heads of the peer
}


def settings(case: Case, steps: int) -> list[str]:
    """Of a run, as for --set; METHOD stands for the method."""
    stem = "small" if case.size < 64 else "own"
    network = f"backbone={{name: timm, model: resnet18, stem: {stem}, arguments: {{channels: [64, 128, 256, 512]}}}}"
    method = f"method={{METHOD, hidden: {peer.HIDDEN}, width: {peer.WIDTH}, support_size: {peer.SUPPORT}}}"
    train = [f"train.batch_size={case.batch}", f"train.steps={steps}", "train.workers=0", f"train.precision={case.precision}"]
    return [f"data.size={case.size}", network, method, *train, "tracking.mlflow=false"]


class Trained:
    """One side of the comparison: `round` trains some steps; times are kept."""

    def __init__(self, network: torch.nn.Module, batches: Iterator[Any], step: Callable[[Any], None]) -> None:
        self._batches, self._step = batches, step
        self.parameters = sum(p.numel() for p in network.parameters())
        self.seconds: list[float] = []
        self.waiting: list[float] = []

    def round(self, steps: int) -> None:
        began, waited = time.perf_counter(), 0.0
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(self._batches)
            waited += time.perf_counter() - asked
            self._step(batch)
        self.seconds.append(time.perf_counter() - began)
        self.waiting.append(waited)


def ours(name: str, case: Case, folder: Path, stack: ExitStack) -> tuple[Trained, torch.dtype | None]:
    """The side, and the precision that it computes in."""
    sets = [text.replace("METHOD", OURS[name]) for text in settings(case, 10_000)]
    console = stack.enter_context(Console(rank=1))  # a silent one
    config, source = resolve_config(console, str(folder), case.preset, flags_and_sets(None, None, "cpu", sets))
    place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    job = build_training(place, config, prepare_dataset(source, config, console), stack.enter_context(join_team(CPU)))

    def step(batch: Batch) -> None:
        fit(job.method, [batch], job.optimiser, Plan(1, 1e-3, 0, CPU, job.plan.precision))

    return Trained(job.method.encoder.backbone, iter(job.feed), step), job.plan.precision


def lightlys(case: Case, folder: Path, precision: torch.dtype | None = None, channels_last: bool = False) -> Trained:
    theirs = peer.Peer(case.channels, case.size < 64, "cpu", precision, channels_last)
    return Trained(theirs.backbone, peer.batches(folder, case.size, case.channels, case.batch), theirs.step)


def training(case: Case, folder: Path, rounds: int) -> Iterator[str]:
    """The table's rows of one size."""
    with ExitStack() as stack:
        own = {name: ours(name, case, folder, stack) for name in OURS}
        precision = own["nnclr"][1]
        sides = {name: side for name, (side, _) in own.items()}
        sides |= {PLAIN: lightlys(case, folder), TUNED: lightlys(case, folder, precision, channels_last=True)}
        assert len({side.parameters for side in sides.values()}) == 1, "the same network"
        for _ in range(rounds + 1):
            for side in sides.values():
                side.round(case.steps)
    alone = {name: first_step(name, case, folder, precision) for name in sides}
    for name, side in sides.items():
        rate = case.steps * case.batch / statistics.median(side.seconds[1:])
        ratios = " | ".join(f"{ratio(sides[peer_name], side):.2f}" for peer_name in (PLAIN, TUNED))
        share = 100 * sum(side.waiting[1:]) / sum(side.seconds[1:])
        start, mib = alone[name]
        yield f"| {case.size} px, batch {case.batch} | {name} | {rate:.1f} | {ratios} | {share:.1f} % | {start:.1f} | {mib:.0f} |"


def ratio(theirs: Trained, own: Trained) -> float:
    """How many times as fast `own` is: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(theirs.seconds[1:], own.seconds[1:], strict=True))


def first_step(name: str, case: Case, folder: Path, precision: torch.dtype | None, steps: int = 3) -> tuple[float, float]:
    """Seconds from the command to its first trained step, and the peak of its memory in MiB after some more; images are prepared before."""
    with tempfile.TemporaryDirectory() as place:
        run, said = Path(place) / "run", Path(place) / "said"
        if name in (PLAIN, TUNED):
            options = {"size": case.size, "channels": case.channels, "batch": case.batch, "steps": steps}
            line = [peer.__file__, str(folder), *(part for key, value in options.items() for part in (f"--{key}", str(value)))]
            line += ["--channels-last", "--precision", "bf16" if precision else "fp32"] if name == TUNED else []
        else:
            sets = [
                text.replace("METHOD", OURS[name])
                for text in [*settings(case, steps), "monitor.log_every_steps=1", "monitor.knn_every_epochs=1000"]
            ]
            line = ["-m", "medssl", "pretrain", "--data", str(folder), "--preset", case.preset, "--out", str(run), "--device", "cpu"]
            line += [part for text in sets for part in ("--set", text)]
        began, first, peak = time.perf_counter(), 0.0, 0.0
        with said.open("wb") as output:
            process = subprocess.Popen([sys.executable, *line], stdout=output, stderr=output, env=os.environ)
        while process.poll() is None:
            told = said if name in (PLAIN, TUNED) else run / "metrics.jsonl"
            if not first and told.exists() and told.stat().st_size:
                first = time.perf_counter() - began
            peak = max(peak, high_water_mib(process.pid))
            time.sleep(0.02)
        assert process.returncode == 0 and first, said.read_text()
        return first, peak


def high_water_mib(process: int) -> float:
    try:
        return float(Path(f"/proc/{process}/status").read_text("utf-8").partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):  # it has just ended
        return 0.0


class Nothing(torch.nn.Module):
    """A method that does next to nothing: what a step takes is the loop's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, batch: Batch) -> Step:
        x = self.layer(batch.views[0])
        return Step(x.sum(), {}, embeddings=(x, x))

    def after_update(self, step: Step, progress: float) -> None:
        pass


def loop_microseconds(steps: int = 2000) -> tuple[float, float]:
    """Microseconds of a step: of the loop, and of the four lines that any loop has."""
    method, batch = Nothing(), Batch((torch.ones(1, 1),), torch.arange(1), 0, 0)
    optimiser = torch.optim.AdamW(method.parameters())
    began = time.perf_counter()
    fit(method, [batch] * steps, optimiser, Plan(steps, 1e-3, 0, CPU))
    middle = time.perf_counter()
    for _ in range(steps):
        optimiser.zero_grad()
        method(batch).loss.backward()
        optimiser.step()
    return 1e6 * (middle - began) / steps, 1e6 * (time.perf_counter() - middle) / steps


def images_for(case: Case, data: Path | None, place: Path) -> Path:
    """A folder of pictures: NIH radiographs, 2000 of CIFAR-10, or phantoms where there are none."""
    if data and case.preset == "chest_xray_cpu":
        return data / "chestxray/nih_pneumonia_224"
    folder = place / case.preset
    if folder.exists():
        return folder
    folder.mkdir()
    if data:
        with tarfile.open(data / "natural/cifar10_jpeg.tar.gz") as archive:
            members = (member for member in archive if member.isfile() and "train/" in member.name)
            archive.extractall(folder, islice(members, 2000), filter="data")
        return folder
    for number in range(1200):  # so that more than the support set of 512 are trained on
        grey = (255 * radiograph((number,), 1, 224, lesion=False)).astype(np.uint8)
        Image.fromarray(grey if case.channels == 1 else np.stack([grey] * 3, -1)[:32, :32]).save(folder / f"{number}.jpg")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", type=int, nargs="*", default=[case.size for case in CASES_OF_TRAINING])
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of medssl: train.precision")
    options = parser.parse_args()
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.rounds} rounds, {options.precision}\n")
    head = ("images", "trained by", "images/s", "times lightly", "times it, tuned", "waiting for data", "s to the first step", "peak MiB")
    print("| " + " | ".join(head) + " |\n" + len(head) * "|---" + "|")
    with tempfile.TemporaryDirectory() as place:
        os.environ["MEDSSL_CACHE"] = str(Path(place) / "cache")
        for case in CASES_OF_TRAINING:
            if case.size in options.only:
                folder = images_for(case, options.data if options.data.is_dir() else None, Path(place))
                print(*training(case._replace(precision=options.precision), folder, options.rounds), sep="\n", flush=True)
    print("\nThe loop takes {:.0f} microseconds a step, of which {:.0f} are the lines that any loop has.".format(*loop_microseconds()))
    torch.set_num_threads(1)
    print("\nViews of one core:\n\n| recipe | executor | views/s | times lightly | first batch, s |\n|---|---|---|---|---|")
    for recipe, size, channels in CASES:
        images = np.stack([255 * radiograph((i,), 1, size, lesion=False) for i in range(64)]).astype(np.uint8)
        kinds = ("albumentations", "lightly")
        print(*measure(recipe, images[:, None].repeat(channels, axis=1), "cpu", options.rounds, kinds), sep="\n", flush=True)


def processor() -> str:
    """The model of the processor (Linux), and what torch knows of it."""
    info = Path("/proc/cpuinfo")
    model = info.read_text("utf-8").partition("model name\t: ")[2].partition("\n")[0] if info.exists() else platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    main()
