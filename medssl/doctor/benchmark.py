"""The acceptance test of a new machine: the demo's pretraining on phantoms, on every GPU, compared with the values in expected.json.

Numbers: losses and gradient norms of five batches with the initial weights, in float32. Left out is what differs between devices (the
random noise of pNNCLR) and what makes large differences from rounding (nearest neighbours, updates of the weights). Speed: images per
second of the real training, after a warm-up.
"""

import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from medssl.data.workers import cores
from medssl.doctor.check_result import CheckResult, make_result
from medssl.pretraining.trainer import Training, build_training
from medssl.runs.dataset import prepare_dataset
from medssl.runs.resolve_config import flags_and_sets, resolve_config
from medssl.train import memory
from medssl.train.bad_steps import Applied
from medssl.train.launch import Launch
from medssl.train.loop import choose_device, fit
from medssl.train.processes import Team
from medssl.types import Reporter, Step

EXPECTED = Path(__file__).with_name("expected.json")
BATCHES, _WARM_UP, _MIN_STEPS = 5, 5, 20  # steps
_COMMON_SETTINGS = ("data.source.size=128", "tracking.mlflow=false")
_FIXED_SETTINGS = (
    "views.executor=torch",  # the same numbers on CPU and GPU
    "train.precision=fp32",
    "train.workers=0",
    f"train.steps={BATCHES}",
    "train.optimiser=sgd",
    "train.lr=1e-30",  # so small that the weights stay the same
    "method.noise=0",
    "method.alpha=0",
    "method.stop_gradient=true",  # the gradients of expected.json are those of the predictions alone
)
_ENDLESS = ("train.steps=1000000", "train.warmup_epochs=0", "method.momentum=0")  # as the demo trains, until the clock ends the training


@dataclass(frozen=True)
class Benchmark:
    """The measurements on one device. `peak_bytes`: the largest growth of memory; on a GPU, of torch's own memory."""

    device: str
    processor: str
    cores: int
    precision: str
    steps: int
    seconds: float
    images_per_second: float
    peak_bytes: int
    first_loss: float
    last_loss: float
    losses: tuple[float, ...]
    gradients: tuple[float, ...]

    def entry(self) -> dict[str, Any]:
        """The entry of expected.json for this speed."""
        values = asdict(self)
        names = ("processor", "cores", "precision", "images_per_second", "steps", "seconds", "peak_bytes")
        return {**{name: values[name] for name in names}, "torch": torch.__version__}


def burn_in(reporter: Reporter, seconds: float, card: Path = EXPECTED) -> Iterator[tuple[Benchmark | None, list[CheckResult]]]:
    """For each device in turn, the measurements and their results. An error on one device is a result, too; the measurements are then
    None. `card`: the file with the expected values."""
    expected = json.loads(card.read_text("utf-8"))
    with _isolated_cache() as folder:
        for device in _devices():
            try:
                measured = _measure(reporter, folder, device, seconds)
            except Exception as error:  # whatever a broken driver, card or library raises
                first = (str(error).splitlines() or [type(error).__name__])[0]
                yield (
                    None,
                    [make_result(f"burn-in {device}", f"ended: {first}", error="Repair what the lines above name, then run it again.")],
                )
            else:
                yield measured, judge_benchmark(measured, expected)


def judge_benchmark(measured: Benchmark, expected: Mapping[str, Any]) -> list[CheckResult]:
    """The results for numbers, learning and speed. `expected`: the content of expected.json."""
    kind = torch.device(measured.device).type
    return [_check_numbers(measured, kind, expected["numbers"]), _check_learning(measured), _check_speed(measured, kind, expected["speed"])]


def _check_numbers(measured: Benchmark, kind: str, expected: Mapping[str, Any]) -> CheckResult:
    errors = {}
    for name, values in (("losses", measured.losses), ("gradients", measured.gradients)):
        reference = expected[name]["values"]
        errors[name] = max(abs(a - b) / b if math.isfinite(a) else math.inf for a, b in zip(values, reference, strict=True))
    deviating = [name for name, error in errors.items() if not error <= expected[name]["relative"][kind]]
    text = ", ".join(f"{name} within {error:.0e} ({expected[name]['relative'][kind]:.0e} is allowed)" for name, error in errors.items())
    return make_result(
        f"numbers {measured.device}",
        text,
        error=f"The {' and '.join(deviating)} are not those that are expected ({_format_values(expected['losses']['values'])}; "
        f"here {_format_values(measured.losses)}): this device computes something else. Do not train on it. Try other versions of driver "
        "and torch; if the numbers stay wrong, the hardware may be faulty."
        if deviating
        else "",
    )


def _check_learning(measured: Benchmark) -> CheckResult:
    text = f"the loss went from {measured.first_loss:.3f} to {measured.last_loss:.3f} in {measured.steps} steps"
    learns = measured.last_loss < measured.first_loss
    return make_result(
        f"learning {measured.device}", text, warning="" if learns else "It should fall: train for longer, with --burn-in 60."
    )


def _check_speed(measured: Benchmark, kind: str, expected: Mapping[str, Any]) -> CheckResult:
    text = (
        f"{measured.images_per_second:.1f} images/s in {measured.precision} on {measured.processor} with {measured.cores} cores, "
        f"memory {measured.peak_bytes / 2**20:.0f} MiB"
    )
    entries = expected[kind]
    same = [
        entry["images_per_second"]
        for entry in (entries if isinstance(entries, list) else ())
        if all(entry[name] == getattr(measured, name) for name in ("processor", "cores", "precision"))
    ]
    if not same:
        return make_result(f"speed {measured.device}", f"{text}; nothing to compare with yet")
    share = measured.images_per_second / max(same)
    slow = "Something else may run on it, or cooling or power limit it." if not share >= expected["least"] else ""
    return make_result(f"speed {measured.device}", f"{text}; {share:.2f} times what is expected", warning=slow)


def _measure(reporter: Reporter, folder: Path, device: str, seconds: float) -> Benchmark:
    choose_device(device)  # fails before any work is done
    losses, gradients = _fixed_numbers(reporter, folder, device)
    job = _build_job(reporter, folder, device, _ENDLESS)
    clock = _Clock(reporter, device, seconds)
    peak = memory.peak_bytes(lambda: fit(job.method, job.feed, job.optimiser, job.plan, on_step=clock), job.plan.device)
    elapsed = clock.times[-1] - clock.times[_WARM_UP - 1]
    steps = len(clock.times) - _WARM_UP
    return Benchmark(
        device=device,
        processor=_processor(device),
        cores=cores(),
        precision=str(job.plan.precision or torch.float32).removeprefix("torch."),
        steps=len(clock.times),
        seconds=round(elapsed, 2),
        images_per_second=round(steps * job.config.train.batch_size / elapsed, 2),
        peak_bytes=peak,
        first_loss=_mean(clock.losses[:_WARM_UP]),
        last_loss=_mean(clock.losses[-_WARM_UP:]),
        losses=losses,
        gradients=gradients,
    )


class _Clock:
    """The loop's `on_step`: records time and loss of each step, and ends the training after `seconds`, but not before 25 steps."""

    def __init__(self, reporter: Reporter, device: str, seconds: float) -> None:
        self._reporter, self._device, self._seconds = reporter, device, seconds
        self.times: list[float] = []
        self.losses: list[float] = []

    def __call__(self, done: int, step: Step, lr: float, applied: Applied) -> bool:  # noqa: ARG002 - the loop's signature
        self.losses.append(step.loss.item())
        self.times.append(time.monotonic())
        passed = self.times[-1] - self.times[0]
        ends = passed >= self._seconds and done >= _MIN_STEPS + _WARM_UP
        total = round(self._seconds)
        self._reporter.progress(f"burn-in {self._device}", total if ends else min(int(passed), total - 1), total)
        return ends


def _fixed_numbers(reporter: Reporter, folder: Path, device: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Loss and gradient norm of each of five batches."""
    job = _build_job(reporter, folder, device, _FIXED_SETTINGS)
    losses, gradients = [], []

    def record_step(done: int, step: Step, lr: float, applied: Applied) -> bool:  # noqa: ARG001 - the loop's signature
        losses.append(step.loss.item())
        gradients.append(torch.nn.utils.get_total_norm([p.grad for p in job.method.parameters() if p.grad is not None]).item())
        return False

    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        fit(job.method, job.feed, job.optimiser, job.plan, on_step=record_step)
    return tuple(losses), tuple(gradients)


def _build_job(reporter: Reporter, folder: Path, device: str, sets: Sequence[str]) -> Training:
    config, source = resolve_config(reporter, "phantom", "demo", flags_and_sets(None, 0, device, [*_COMMON_SETTINGS, *sets]))
    return build_training(folder, config, prepare_dataset(source, config, reporter), Team(Launch()))


@contextmanager
def _isolated_cache() -> Iterator[Path]:
    """A temporary folder with its own cache and a fixed site key: the split depends on keyed hashes, and is then always the same."""
    old_values = {name: os.environ.get(name) for name in ("MEDSSL_CACHE", "MEDSSL_KEY_FILE")}
    with tempfile.TemporaryDirectory(prefix="medssl-burn-in-") as temporary:
        key = Path(temporary) / "site.key"
        key.write_bytes(bytes(range(32)))
        os.environ |= {"MEDSSL_CACHE": temporary, "MEDSSL_KEY_FILE": str(key)}
        try:
            yield Path(temporary)
        finally:
            for name, value in old_values.items():
                os.environ.pop(name)
                os.environ |= {name: value} if value is not None else {}


def _devices() -> list[str]:
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else ["cpu"]


def _processor(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    return next((line.partition(": ")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _format_values(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
