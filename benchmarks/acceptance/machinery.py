"""right: what happens where memory runs out, how much memory the support set takes, and a training in a process group."""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist

from acceptance.record import Row
from acceptance.subjects import NO_NOISE, SMALL, Setting, build_method, fixed_batch, full_float32, loss_and_gradient, noise_images
from medssl.config import merge, parse_overrides, resolve
from medssl.data.split import Leaks
from medssl.data.store import Store
from medssl.errors import UserError
from medssl.nn import SupportSet, l2_normalize
from medssl.nn.sync_norm import synchronise_norms
from medssl.pretraining.batch_size import explain_out_of_memory
from medssl.pretraining.trainer import Training, build_training
from medssl.runs.dataset import PreparedDataset
from medssl.runs.presets import load
from medssl.train import memory, optimisers
from medssl.train.loop import Plan, fit
from medssl.train.processes import join_team, wrap_distributed

_ROOM = 3 * 2**30  # bytes of the GPU that the training may use in the test of running out of memory
_WHOLE_PRODUCT = 65_536 * 512 * 4  # bytes of the scores of a batch of 512 with the support set: a look-up must not hold them all
_SAME = 1e-4


def out_of_memory(setting: Setting) -> Row:
    """A training that does not fit ends in a message, and the batch that the message names does fit."""
    with tempfile.TemporaryDirectory() as place:
        job = _job(Path(place), setting, 12 if setting.tiny else 256)
        ballast = _leave_room(setting)
        try:
            with explain_out_of_memory(job):
                _take_too_much(job)
            said = "nothing: all fitted"
        except UserError as error:
            said = str(error)
        fits = re.search(r"--set train\.batch_size=(\d+)", said)
        if fits:
            _train(_job(Path(place), setting, int(fits[1])))
        del ballast
    return {"message": said, "fits": fits and int(fits[1]), "ok": "Out of memory" in said and bool(fits)}


def _job(folder: Path, setting: Setting, batch: int) -> Training:
    """A pretraining as the command builds it, on images that need no preparation."""
    size, number = (16, 32) if setting.tiny else (224, 512)
    network = "backbone={name: timm, model: resnet18" + (", arguments: {channels: [8, 8, 16, 16]}}" if setting.tiny else "}")
    sets = [network, f"data.size={size}", f"train.batch_size={batch}", "train.steps=1000", "views.executor=torch", "method.hidden=256"]
    sets += ["train.workers=0", f"device={setting.device}", "data.source=store"]
    config = resolve(merge(load("natural"), parse_overrides(sets)))
    images: Any = noise_images(number, 3, size)
    patients, nothing = pd.DataFrame({"patient": [f"{row}" for row in range(number)]}), np.empty((0, 2), int)
    leaks = Leaks(nothing, nothing, nothing, nothing, nothing, np.empty(0, int))
    store = Store(folder, images, patients, {"content": "", "settings": {}})
    dataset = PreparedDataset(store, np.full(number, "train"), np.zeros(number, bool), "", leaks)
    with join_team(setting.device) as team:
        return build_training(folder, config, dataset, team)


def _leave_room(setting: Setting) -> torch.Tensor | None:
    """Memory that stays taken, so that a GPU has little left; a CPU's memory is left alone."""
    if setting.device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return torch.empty(max(0, memory.free_bytes(setting.device) - _ROOM), dtype=torch.uint8, device=setting.device)


def _take_too_much(job: Training) -> None:
    if job.plan.device.type == "cuda":
        _train(job)
    else:
        torch.empty(2**50, dtype=torch.uint8)


def _train(job: Training) -> None:
    fit(job.method, [job.feed.batch(0)], job.optimiser, Plan(1, job.plan.lr, 0, job.plan.device, job.plan.precision))


def memory_of_support_set(setting: Setting) -> Row:
    """The peaks of a look-up of 512 images among 65,536 rows, and of a whole step with them."""
    width = 32 if setting.tiny else 256
    support, z = SupportSet(65_536, width).to(setting.device), l2_normalize(torch.randn(512, width)).to(setting.device)
    tags = torch.arange(4 * 512, device=setting.device).reshape(512, 4)
    support.nearest(z[:8], tags[:8])  # what a library sets up at its first product does not count
    look_up = memory.peak_bytes(lambda: support.nearest(z, tags), setting.device)
    options = {**SMALL, "width": width, "support_size": 65_536, "hidden": 256 if setting.tiny else 2048}
    method = build_method("pnnclr", setting.resnet18, setting, **options)
    batch = fixed_batch(method, setting, setting.rows if setting.tiny else 512)
    optimiser, plan = optimisers.make("adamw", method, 1e-3, 0.05), Plan(1000, 1e-3, 0, setting.device, setting.precision)
    step = memory.peak_bytes(lambda: fit(method, [batch], optimiser, plan), setting.device)
    of_set = sum(buffer.nbytes for buffer in method.support.buffers())
    row = {"set_MiB": of_set / 2**20, "look_up_MiB": look_up / 2**20, "whole_product_MiB": _WHOLE_PRODUCT / 2**20, "step_MiB": step / 2**20}
    return {**row, "ok": look_up < _WHOLE_PRODUCT / 2}


def one_process(setting: Setting) -> Row:
    """A step in a process group of one (NCCL on a GPU, gloo on a CPU), in DistributedDataParallel, beside the step without a group."""
    backend = "nccl" if setting.device.type == "cuda" else "gloo"
    with full_float32():
        loss, gradient = _step(setting, distributed=False)
        with tempfile.TemporaryDirectory() as folder:
            dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
            try:
                total = torch.ones(3, device=setting.device)
                dist.all_reduce(total)
                loss_of_group, gradient_of_group = _step(setting, distributed=True)
            finally:
                dist.destroy_process_group()
    difference = float((gradient - gradient_of_group).norm() / gradient.norm())
    fits = abs(loss - loss_of_group) <= _SAME * abs(loss) and difference <= 10 * _SAME and float(total.sum()) == 3
    return {"backend": backend, "loss": loss, "loss_of_group": loss_of_group, "gradient_differs": difference, "ok": fits}


def _step(setting: Setting, distributed: bool) -> tuple[float, torch.Tensor]:
    method: Any = build_method("pnnclr", setting.resnet18, setting, **{**SMALL, **NO_NOISE})
    batch = fixed_batch(method, setting)
    return loss_and_gradient(method, wrap_distributed(synchronise_norms(method)) if distributed else method, batch)
