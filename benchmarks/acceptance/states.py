"""right: what is kept must be the same on the other device: an encoder, a checkpoint, and the state after a step that is not finite."""

import tempfile
import warnings
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acceptance.record import Row
from acceptance.subjects import NO_NOISE, SMALL, Network, Setting, build_method, feed_of, fixed_batch, full_float32, noise_images
from medssl.encoder import artefact
from medssl.nn import Encoder
from medssl.train import checkpoint, optimisers
from medssl.train.loop import Plan, fit

_LR = 1e-3
_SAME_FEATURES = 1e-3  # of the largest feature
_NOISE_FLOOR = 1e-6
State = dict[str, Tensor]


def encoder(network: Network, setting: Setting) -> Row:
    """An encoder that was trained and saved on the device is used on the CPU, and one that was saved on the CPU is used on the device. The
    differences of features are shares of the largest one; those in TF32 are told, and those in full float32 are judged."""
    images = torch.rand(8, network.channels, network.size, network.size, generator=torch.Generator().manual_seed(0))
    row: Row = {}
    for there in dict.fromkeys((setting.device.type, "cpu")):
        trained, loaded = _saved_and_loaded(network, images, setting, there)
        with torch.no_grad():
            expected = loaded(images)
            row[f"saved_on_{there}"] = _apart(trained(images.to(there)), expected)
            loaded.to(setting.device)
            row[f"saved_on_{there}_used_on_{setting.device.type}"] = _apart(loaded(images.to(setting.device)), expected)
            with full_float32():
                row[f"saved_on_{there}_in_full_float32"] = _apart(loaded(images.to(setting.device)), expected)
    return {**row, "ok": all(value <= _SAME_FEATURES for name, value in row.items() if name.endswith("float32"))}


def _saved_and_loaded(network: Network, images: Tensor, setting: Setting, there: str) -> tuple[Encoder, Encoder]:
    """An encoder on the device `there`, and what is loaded on the CPU from its file. Raises UserError where the file is refused, as where
    the probe image has other features than the card says."""
    trained = network.encoder(setting.tiny).to(there).train()
    with torch.no_grad():
        for _ in range(3):  # so that running statistics are not those of the start
            trained(images.to(there))
    with tempfile.TemporaryDirectory() as folder:
        options: Any = {"backbone": network.backbone(setting.tiny), "channels": network.channels, "size": network.size, "card": {}}
        artefact.save(trained, Path(folder), **options)
        return trained.eval(), artefact.load(Path(folder))[0]


def _apart(found: Tensor, expected: Tensor) -> float:
    return float((found.cpu() - expected).abs().max() / expected.abs().max())


class Run:
    """A short training that can be saved and continued, in float32."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.step = setting, 0
        self.method = build_method("pnnclr", setting.resnet18, setting, **{**SMALL, **NO_NOISE})
        self.optimiser = optimisers.make("adamw", self.method, _LR, 0.05)

    def train(self, steps: int) -> "Run":
        """So many more steps, on the batches of their numbers."""
        setting = self.setting
        feed = feed_of(noise_images(2 * setting.rows, 3, setting.resnet18.size), setting.rows, setting, "natural", start=self.step)
        plan = Plan(1000, _LR, 0, setting.device)
        self.step = fit(self.method, islice(feed, steps), self.optimiser, plan, start=self.step)
        return self

    def moved(self, setting: Setting) -> "Run":
        """A new run on the setting's device, continued from a checkpoint of this one."""
        with tempfile.TemporaryDirectory() as folder:
            state = {"step": self.step, "method": self.method.state_dict(), "optimiser": self.optimiser.state_dict()}
            checkpoint.save(Path(folder), state)
            loaded, _ = checkpoint.load(Path(folder))
        other = Run(setting)
        other.step = loaded["step"]
        other.method.load_state_dict(loaded["method"], strict=True)
        optimisers.restore(other.optimiser, loaded["optimiser"])
        return other

    def weights(self) -> Tensor:
        """All trained weights as one row in float64 on the CPU."""
        return torch.cat([p.detach().flatten().double().cpu() for p in self.method.parameters() if p.requires_grad])


def resume(setting: Setting) -> Row:
    """Three steps on one device and three on the other, beside six on the CPU (in a tiny run one, beside two). A difference is a share of
    the way that the weights go in all steps. Two devices round differently, and AdamW makes large steps of small gradients at the start: so
    a run on the device says how far apart runs are that were never interrupted."""
    cpu, half = setting.on("cpu"), 1 if setting.tiny else 3
    with full_float32():
        begin, whole = Run(cpu).weights(), Run(cpu).train(2 * half).weights()
        way = (whole - begin).norm()
        apart = lambda run, other=whole: float((run.weights() - other).norm() / way)  # noqa: E731
        of_device = Run(setting).train(2 * half)
        row = {
            "never_interrupted": apart(of_device),
            "cpu_then_device": apart(Run(cpu).train(half).moved(setting).train(half)),
            "device_then_cpu": apart(Run(setting).train(half).moved(cpu).train(half)),
            "device_then_device": apart(Run(setting).train(half).moved(setting).train(half), of_device.weights()),
        }
    largest = max(2 * row["never_interrupted"], _NOISE_FLOOR)
    return {**row, "ok": row["never_interrupted"] < 0.5 and all(row[name] <= largest for name in row)}


def bad_step(setting: Setting) -> Row:
    """After three steps, one whose views are NaN: which parts of the state it changed, and what the next finite step did."""
    run = Run(setting)
    batch = fixed_batch(run.method, setting)
    plan = Plan(1000, _LR, 0, setting.device, setting.precision)
    fit(run.method, repeat(batch, 3), run.optimiser, plan)
    before = _state(run)
    bad = replace(batch, views=(batch.views[0] * torch.nan, *batch.views[1:]), step=3)
    fit(run.method, [bad], run.optimiser, plan, start=3)
    changed = _differences(before, _state(run))
    fit(run.method, [replace(batch, step=4)], run.optimiser, plan, start=4)
    trained = _differences(before, _state(run))
    return {"changed": changed[:8], "changed_by_the_next_step": len(trained), "ok": not changed and len(trained) > 100}


def _state(run: Run) -> State:
    """Copies of all tensors of the method and of the optimiser."""
    optimiser = {f"{i}.{key}": value for i, state in enumerate(run.optimiser.state.values()) for key, value in state.items()}
    tensors = {**run.method.state_dict(), **optimiser}
    return {name: value.detach().cpu().clone() for name, value in tensors.items() if isinstance(value, Tensor)}


def _differences(before: State, after: State) -> list[str]:
    return [name for name, value in before.items() if not torch.equal(value, after[name])]


def host_waits(name: str, setting: Setting, **options: Any) -> Row:
    """How often a step of the loop makes the program wait for the GPU, by torch's own detector, and in which lines."""
    if setting.device.type != "cuda":
        return {"not_measured": "a CPU has no queue to wait for"}
    method = build_method(name, setting.resnet18, setting, **{**SMALL, **options})
    batch, optimiser = fixed_batch(method, setting), optimisers.make("adamw", method, _LR, 0.05)
    plan, steps = Plan(1000, _LR, 0, setting.device, setting.precision), 4
    fit(method, repeat(batch, 3), optimiser, plan)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fit(method, repeat(batch, steps), optimiser, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in told if "synchroniz" in str(warning.message)]
    lines = sorted({f"{Path(warning.filename).name}:{warning.lineno}" for warning in waits})
    return {"waits_per_step": len(waits) / steps, "lines": lines}
