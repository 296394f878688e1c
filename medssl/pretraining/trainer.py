"""Build the parts of a pretraining, check them, and make and restore the state of a checkpoint."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl import methods, plugins
from medssl.config import Config, to_yaml
from medssl.data.loader import Batches, Loader, workers_here
from medssl.data.store import StoredVolumes
from medssl.errors import UserError
from medssl.nn.sync_norm import synchronise_norms
from medssl.planes import Planes
from medssl.pretraining.fit_to_data import fit_to_data, training_rows
from medssl.pretraining.from_weights import initial_encoder
from medssl.runs.dataset import PreparedDataset, channel_statistics
from medssl.runs.resolve_config import settings_of_result
from medssl.train import one_graph, optimisers
from medssl.train.feed import Feed, copy_to_gpu
from medssl.train.loop import Plan, choose_device
from medssl.train.precision import choose_precision
from medssl.train.processes import Team, device_of_process, tell_idle_gpus
from medssl.views import executors, grid, multi_crop


@dataclass
class Training:
    """All parts of a pretraining, ready to run from step `start`."""

    folder: Path
    config: Config
    dataset: PreparedDataset
    method: Any  # an nn.Module that satisfies types.Method
    optimiser: torch.optim.Optimizer
    feed: Feed
    plan: Plan
    start: int
    team: Team
    notes: list[str]
    executor: str  # what makes the views, where `views.executor` may say auto

    @property
    def computed_with(self) -> dict[str, str]:
        """What the settings that may be "auto" have become on this machine. It decides which numbers the training gives."""
        precision = "float32" if self.plan.precision is None else str(self.plan.precision).removeprefix("torch.")
        return {"device": self.plan.device.type, "train.precision": precision, "views.executor": self.executor}


def build_training(folder: Path, config: Config, dataset: PreparedDataset, team: Team, state: Mapping[str, Any] | None = None) -> Training:
    """The parts of a pretraining. The configuration and its seed determine the initial weights, but those that `backbone.init` names.
    `state`: the checkpoint of a run that goes on."""
    start, before = (state["step"], state.get("computed_with", {})) if state else (0, {})
    device = device_of_process(choose_device(config.device))
    rows = training_rows(config, dataset)
    config = fit_to_data(config, len(rows))
    method = _build_method(config, dataset, rows, device, start)
    local_views = getattr(method, "local_views", None)
    executor = executors.choose_executor(config.views.executor, device.type)
    feed, note = _build_feed(folder, config, dataset, team, rows, device, executor, local_views, start)
    if local_views and local_views.number:
        _check_crops(method.encoder, feed.batch(start).views[2])
    if team.size > 1:
        method = synchronise_norms(method)
    if config.train.compile:
        one_graph.compile_method(method, device, team.size)
    train = config.train
    assert train.steps is not None
    warmup = round(train.steps * min(train.warmup_epochs / train.epochs, 0.5))
    before_here = before.get("train.precision", "") if before.get("device") == device.type else ""
    chosen = choose_precision(train.precision, device, multi_crop.smallest_view(config.data.size, local_views), before_here)
    precision = team.broadcast_from_first(chosen)  # on CPUs measured
    plan = Plan(train.steps, train.lr, warmup, device, precision, train.max_bad_steps)
    groups = optimisers.encoder_rate_groups(method, train.weight_decay, train.encoder_rate)
    optimiser = optimisers.make(train.optimiser, method, train.lr, train.weight_decay, groups)
    notes = [note, tell_idle_gpus(team, device)]
    return Training(folder, config, dataset, method, optimiser, feed, plan, start, team, notes, executor)


def _build_method(config: Config, dataset: PreparedDataset, rows: np.ndarray, device: torch.device, start: int) -> Any:
    encoder = initial_encoder(config, *channel_statistics(dataset.store, rows), first_step=start)
    encoder.micro_batch = config.train.micro_batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        try:
            method = methods.build(config.method, encoder, len(dataset.classes)).to(device)
        except (MemoryError, RuntimeError, OverflowError) as error:
            if "allocate" not in str(error) and "overflow" not in str(error).lower() and not isinstance(error, MemoryError):
                raise
            raise UserError(
                "The method's parts do not fit into the memory: make its widths (method.hidden, method.width, method.prototypes) or "
                "method.support_size smaller."
            ) from None
    return method


def _build_feed(
    folder: Path,
    config: Config,
    dataset: PreparedDataset,
    team: Team,
    rows: np.ndarray,
    device: torch.device,
    executor: executors.Executor,
    local_views: Any,
    start: int,
) -> tuple[Feed, str]:
    """The batches, and a note for the user or ""."""
    images, train, size = dataset.store.images, config.train, config.data.size
    recipe = plugins.find("views.recipes", config.views.recipe.name).build(config.views.recipe)
    make_view, n_views = multi_crop.make(executor, recipe, size, local_views)
    in_boxes = isinstance(images, StoredVolumes)
    if team.first and not (folder / "views.png").exists():
        planes = Planes.of(dataset.store.card, dataset.store.table)
        shown = dict(zip(rows[:6].tolist(), images.draw(rows[:6], config.seed, 0), strict=True)) if in_boxes else images
        grid.save_grid(folder / "views.png", shown, make_view, rows[:6].tolist(), config.seed, planes)
    make_on_device = multi_crop.make_on_device(recipe, size, local_views)[0] if executor == "torch" else None
    gpu_images = None if in_boxes or not make_on_device else copy_to_gpu(images, device)
    share = train.batch_size // team.size
    stored_bytes = images.box_bytes if in_boxes else images[0].nbytes
    views_bytes = share * (stored_bytes if make_on_device else n_views * math.prod(config.data.shape) * 4)
    workers, note = (0, "") if gpu_images is not None else workers_here(train.workers, views_bytes)
    batches = Batches(
        None if gpu_images is not None else images,
        rows,
        None if make_on_device else make_view,
        config.seed,
        train.batch_size,
        labels=dataset.labels,
        patients=dataset.patients,
        n_views=n_views,
        share=(team.rank, team.size),
    )
    assert train.steps is not None
    loader = Loader(batches, train.steps, start, workers, pin=device.type == "cuda")
    return Feed(loader, device, make_on_device, gpu_images), note


@torch.no_grad()
def _check_crops(encoder: torch.nn.Module, crops: torch.Tensor) -> None:
    """Raises UserError if the network was built for one image size and fails on the method's smaller crops."""
    try:
        encoder.eval()(crops[:1])
    except (AssertionError, RuntimeError) as error:
        raise UserError(
            f"The encoder takes no crops of {crops.shape[-1]} pixels, which the method has beside its whole views: {error}. Give a "
            "vision transformer --set backbone.arguments='{dynamic_img_size: true, dynamic_img_pad: true}', choose another network, or do "
            "without crops: --set method.local_crops=0."
        ) from None


def training_state(job: Training, done: int, optimiser: bool = True) -> dict[str, Any]:
    """The content of a checkpoint after `done` steps, with or without the state of the optimiser."""
    return {
        "step": done,
        "data": job.dataset.store.card["content"],
        "rows": _digest_rows(job.dataset),
        "computed_with": job.computed_with,
        "method": job.method.state_dict(),
        **({"optimiser": job.optimiser.state_dict()} if optimiser else {}),
        "config": to_yaml(settings_of_result(job.config)),
    }


def check_same_images(folder: Path, dataset: PreparedDataset, state: dict[str, Any]) -> None:
    """Raises UserError unless the images, labels and training patients are those of the checkpoint `state` of the run in `folder`."""
    rows = _digest_rows(dataset)
    if state["data"] != dataset.store.card["content"] or state.get("rows", rows) != rows:  # earlier checkpoints have no rows
        raise UserError(
            f"The data of {folder} has changed since the checkpoint was written: there are other images, labels or patients. Name the "
            "images of the run with --data, or start a new run on these."
        )


def tell_other_machine(job: Training, state: dict[str, Any]) -> str:
    """A note where a run goes on with another precision, executor or device than that of its checkpoint; "" where not."""
    now, before = job.computed_with, state.get("computed_with", {})  # earlier checkpoints do not say
    changed = [f"{name} {before[name]} before, {now[name]} now" for name in now if name in before and before[name] != now[name]]
    if not changed:
        return ""
    return (
        f"The run goes on with other arithmetic than at its last checkpoint: {'; '.join(changed)}. Its numbers will differ a little from "
        "those of the same machine."
    )


def restore(job: Training, state: dict[str, Any]) -> None:
    """Load the state of a checkpoint into the job. Raises UserError for a checkpoint of another version of the method."""
    try:
        job.method.load_state_dict(state["method"], strict=True)
    except RuntimeError:
        raise UserError(
            f"The checkpoint in {job.folder} was written by another version of medssl, whose {job.config.method.name} had other parts. "
            "Finish the run with that version, or start a new one."
        ) from None
    if "optimiser" in state:  # a finished run that is made longer starts with a new optimiser
        optimisers.restore(job.optimiser, state["optimiser"])


def _digest_rows(dataset: PreparedDataset) -> str:
    """A hash of the rows that are trained on. They change with the patients in a table, even if images and labels stay."""
    return hashlib.sha256(dataset.pretraining.astype("<i8").tobytes()).hexdigest()
