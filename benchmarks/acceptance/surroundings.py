"""fast: what the card itself reaches, and what a training does besides its steps: look-ups, monitors, checkpoints, features."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from acceptance.record import Row
from acceptance.speed import Training, budget_of
from acceptance.subjects import Setting, noise_images
from acceptance.timing import per_step, repeated
from medssl.evaluate.models import extract
from medssl.nn import SupportSet, l2_normalize
from medssl.pretraining.health import step_metrics
from medssl.train import checkpoint
from medssl.train.bad_steps import Applied
from medssl.train.diagnosis import CollapseMonitor
from medssl.train.loop import fit
from medssl.types import Rows, Step


def card(setting: Setting) -> Row:
    """Operations a second of products of bfloat16 matrices, of random numbers as zeros are faster; bytes a second of a copy, read and
    written; the time of one launch."""
    device, on_gpu = setting.device, setting.device.type == "cuda"
    edge, size, budget = 8192 if on_gpu else 256, 2**30 if on_gpu else 2**22, budget_of(setting)
    a, x = torch.randn(edge, edge, device=device, dtype=torch.bfloat16), torch.zeros(size, dtype=torch.uint8, device=device)
    y, one = torch.empty_like(x), torch.zeros(1, device=device)
    product = per_step(repeated(lambda: torch.mm(a, a)), setting, budget)
    copy = per_step(repeated(lambda: y.copy_(x)), setting, budget)
    launch = per_step(repeated(lambda: one.add_(1)), setting, budget)
    flops = 2 * edge**3 / product.seconds
    return {
        "TFLOP_per_s": flops / 1e12,
        "copy_TB_per_s": 2 * size / copy.seconds / 1e12,
        "launch_us": 1e6 * launch.seconds,
        "warm": product.warm,
    }


def look_up(setting: Setting) -> Row:
    """The nearest of 65,536 rows for 1024 images, the push, and the plain product with its maximum in float32 and bfloat16."""
    size, width, number = (2048, 32, 64) if setting.tiny else (65_536, 256, 1024)
    support, z = SupportSet(size, width).to(setting.device), l2_normalize(torch.randn(number, width)).to(setting.device)
    tags = torch.arange(4 * number, device=setting.device).reshape(number, 4)
    rows, short = support.rows, support.rows.bfloat16()
    works = {
        "medssl": lambda: support.nearest(z, tags),
        "push": lambda: support.push(Rows(z, tags)),
        "plain_fp32": lambda: (z @ rows.T).argmax(1),
        "plain_bf16": lambda: (z.bfloat16() @ short.T).argmax(1),
    }
    return {f"{name}_ms": 1e3 * per_step(repeated(work), setting, budget_of(setting) / 3).seconds for name, work in works.items()}


def monitors(setting: Setting) -> Row:
    """What the training does every few steps, on its own thread: metrics of a step, the search for a collapse, a checkpoint; and features
    of images a second, as at an evaluation."""
    subject, steps = Training(setting.resnet18, setting), list[Step]()
    subject.ceiling(2)

    def keep(done: int, step: Step, lr: float, applied: Applied) -> bool:  # noqa: ARG001 - the loop's call
        steps.append(step)
        return True

    batch = subject.ready
    fit(subject.method, [batch], subject.optimiser, subject.plan, on_step=keep)
    collapse, budget = CollapseMonitor(subject.method.encoder, batch.views[0]), budget_of(setting) / 3
    works = {"metrics_of_a_step": lambda: step_metrics(steps[0], 0), "collapse": lambda: collapse(steps[0], 0.1)}
    row: Row = {f"{name}_ms": 1e3 * per_step(repeated(work), setting, budget).seconds for name, work in works.items()}
    with tempfile.TemporaryDirectory() as folder:
        state = {"step": 1, "method": subject.method.state_dict(), "optimiser": subject.optimiser.state_dict()}
        row["checkpoint_s"] = _seconds(lambda: checkpoint.save(Path(folder), state))
        row["checkpoint_MB"] = (Path(folder) / checkpoint.LAST).stat().st_size / 1e6
    images = noise_images(16 if setting.tiny else 8192, 3, setting.resnet18.size)
    rows = torch.arange(len(images)).numpy()
    extract(subject.method.encoder, images, rows[:8], setting.device)
    seconds = _seconds(lambda: extract(subject.method.encoder, images, rows, setting.device))
    return {**row, "features_of_images_per_s": len(images) / seconds}


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
