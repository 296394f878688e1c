"""fast: images/s of a training beside its own limits, what each part costs, and what the time is spent on."""

import tempfile
from collections import Counter
from dataclasses import asdict
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from acceptance.record import Row
from acceptance.subjects import Network, Setting, build_method, feed_of, noise_images
from acceptance.timing import per_step, spent
from medssl.data.loader import workers_here
from medssl.nn import Encoder
from medssl.train import optimisers
from medssl.train.feed import copy_to_gpu
from medssl.train.loop import Plan, fit
from medssl.train.one_graph import compile_step

_STORE_BYTES = 2**29  # of the images that are trained on
_HEADS = {"hidden": 2048, "width": 256, "support_size": 4096}
_TINY_HEADS = {"hidden": 256, "width": 64, "support_size": 256}
_DATA_SHEET = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense products of bfloat16 a second, of the SXM cards
BUDGET, TINY_BUDGET = 1.2, 0.05  # seconds of each measurement


def budget_of(setting: Setting) -> float:
    """Seconds of each measurement."""
    return TINY_BUDGET if setting.tiny else BUDGET


class Training:
    """A training without an end. `variant`: `method`, `feed` ("resident": the images lie on the device; 8 or 16: they are read from a store
    of so many bits), `compile` (a mode of torch.compile for the network, or "step"), `compiled_views`, and settings of the method."""

    def __init__(self, network: Network, setting: Setting, folder: Path | None = None, **variant: Any) -> None:
        self.network, self.setting, self.batch = network, setting, network.batch
        feed, mode, compiled = (variant.pop(name, None) for name in ("feed", "compile", "compiled_views"))
        heads = _TINY_HEADS if setting.tiny else _HEADS
        self.method = build_method(variant.pop("method", "pnnclr"), network, setting, **{**heads, **variant})
        if mode == "step":
            compile_step(self.method)
        for part in self.method.modules() if mode not in {None, "step"} else ():
            if isinstance(part, Encoder):
                part.backbone.compile(mode=mode)
        self.optimiser = optimisers.make("adamw", self.method, 1e-3, 0.05)
        one = network.channels * network.size**2
        number = 2 * self.batch if setting.tiny else max(2 * self.batch, min(8192, _STORE_BYTES // one))
        images = noise_images(number, network.channels, network.size, feed or 8)
        there = None if feed else copy_to_gpu(images, setting.device)
        workers = 0
        if feed and folder is not None:  # from a file, as a store's
            np.save(folder / "images.npy", images)
            images = np.load(folder / "images.npy", mmap_mode="r")
            workers = workers_here(0 if setting.tiny else -1, self.batch * images[0].nbytes)[0]
        options = {"there": there, "workers": workers, "compiled": bool(compiled)}
        batches = feed_of(images, self.batch, setting, "natural", **options)
        self._batches, self.ready = iter(batches), batches.batch(0)
        self.plan = Plan(10**6, 1e-3, 0, setting.device, setting.precision)

    def whole(self, steps: int) -> None:
        """Views, steps, and the loop's checks."""
        fit(self.method, islice(self._batches, steps), self.optimiser, self.plan)

    def ceiling(self, steps: int) -> None:
        """The loop, on views that lie on the device already."""
        fit(self.method, repeat(self.ready, steps), self.optimiser, self.plan)

    def bare(self, steps: int) -> None:
        """The lines that any loop has, on the same views: nothing is checked, and the program never waits for the device."""
        self.method.train()
        for _ in range(steps):
            with torch.autocast(self.setting.device.type, self.plan.precision, enabled=self.plan.precision is not None):
                step = self.method(self.ready)
            self.optimiser.zero_grad(set_to_none=True)
            step.loss.backward()
            self.optimiser.step()
            self.method.after_update(step, 0.5)

    def views(self, steps: int) -> None:
        """Batches of views, without training."""
        for _ in islice(self._batches, steps):
            pass

    def operations(self) -> int:
        """Floating-point operations of the products and convolutions of a step."""
        with FlopCounterMode(display=False) as counter:
            self.ceiling(1)
        return counter.get_total_flops()


def training(network: Network, setting: Setting, peak: float, **variant: Any) -> Row:
    """The whole training, its ceiling, the bare step and the views alone; MFU by the `peak` that this card reached in a product, and by its
    data sheet; the largest memory."""
    reset_peak(setting)
    subject, budget = Training(network, setting, **variant), budget_of(setting)
    timings = {name: per_step(getattr(subject, name), setting, budget) for name in ("whole", "ceiling", "bare", "views")}
    seconds = {name: timing.seconds for name, timing in timings.items()}
    operations = subject.operations()
    row: Row = {"batch": network.batch, "method": variant.get("method", "pnnclr"), "precision": str(setting.precision)}
    row |= {name: timing.row((2 if name == "views" else 1) * network.batch) for name, timing in timings.items()}
    row |= {"of_ceiling": seconds["ceiling"] / seconds["whole"], "of_bare": seconds["bare"] / seconds["whole"]}
    row |= {"TFLOP_per_step": operations / 1e12, "MFU": operations / seconds["whole"] / peak}
    row |= {f"MFU_of_{name}": operations / seconds["whole"] / rate for name, rate in _DATA_SHEET.items() if name in _card(setting)}
    return row | peak_memory(setting)


def variant(network: Network, setting: Setting, **changes: Any) -> Row:
    """The whole training where one thing is changed."""
    benchmark = changes.pop("benchmark", torch.backends.cudnn.benchmark)
    before = torch.backends.cudnn.benchmark
    reset_peak(setting)
    with tempfile.TemporaryDirectory() as folder:
        try:
            torch.backends.cudnn.benchmark = benchmark
            timing = per_step(Training(network, setting, Path(folder), **changes).whole, setting, budget_of(setting))
        finally:
            torch.backends.cudnn.benchmark = before
    return {"batch": network.batch, "changes": changes, "benchmark": benchmark, "whole": timing.row(network.batch), **peak_memory(setting)}


def profile(network: Network, setting: Setting) -> Row:
    """What a step's time goes to: the share of the time in which the GPU computes, launches per step, and the kernels (on a CPU the
    operations) that take longest, with their shares."""
    subject = Training(network, setting)
    steps = 1 if setting.tiny else 5
    subject.whole(2 * steps)
    with torch.profiler.profile() as found:
        seconds = spent(subject.whole, steps, setting) * steps
    on_gpu = setting.device.type == "cuda"
    kind = "CUDA" if on_gpu else "CPU"
    parts = [event for event in found.events() or () if event.device_type.name == kind and not event.is_user_annotation]
    times = Counter[str]()
    for event in parts:
        times[event.name] += (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
    counts, total = Counter(event.name for event in parts), times.total()
    longest = {name[:90]: {"share": time / total, "per_step": counts[name] / steps} for name, time in times.most_common(15)}
    return {"network": asdict(network), "busy": total / seconds, "launches_per_step": len(parts) / steps, "longest": longest}


def _card(setting: Setting) -> str:
    return torch.cuda.get_device_name(setting.device) if setting.device.type == "cuda" else ""


def reset_peak(setting: Setting) -> None:
    """The peak of the allocator starts anew."""
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)


def peak_memory(setting: Setting) -> Row:
    """The largest memory since `reset_peak`; nothing on a CPU."""
    return {"peak_GiB": torch.cuda.max_memory_allocated(setting.device) / 2**30} if setting.device.type == "cuda" else {}
