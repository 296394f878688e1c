"""The parts of a pretraining, put together; its checks, its checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl import methods, plugins
from medssl.config import Config, to_yaml
from medssl.data.loader import Batches, Loader, workers_here
from medssl.encoder.artefact import build_encoder
from medssl.errors import UserError
from medssl.nn import Encoder, SupportSet
from medssl.nn.sync_norm import synchronise_norms
from medssl.runs.dataset import PreparedDataset, channel_statistics
from medssl.runs.resolve_config import settings_of_result
from medssl.train import optimisers
from medssl.train.feed import Feed, copy_to_gpu
from medssl.train.loop import Plan, choose_device, choose_precision
from medssl.train.processes import Team, device_of_process
from medssl.views import executors, grid, multi_crop


@dataclass
class Training:
    """All that a pretraining is made of, ready to run from step `start`."""

    folder: Path
    config: Config
    found: PreparedDataset
    method: Any  # an nn.Module that satisfies types.Method
    optimiser: torch.optim.Optimizer
    feed: Feed
    plan: Plan
    start: int
    team: Team
    notes: list[str]


def build_training(folder: Path, config: Config, found: PreparedDataset, team: Team, start: int = 0) -> Training:
    """The parts of a pretraining; weights and all else follow from the configuration and the seed. `start`: the step to go on from."""
    device = device_of_process(choose_device(config.device))
    rows = found.pretraining
    if methods.uses_labels(config.method.name):
        rows = _labelled(rows, config.method.name, found)
    if not len(rows):
        raise UserError(f"None of the {len(found.roles)} images is left to pretrain on: they are for the test, held out, or leak.")
    method = _method(config, found, rows, device)
    local = getattr(method, "local_views", None)
    feed, total, note = _feed(folder, config, found, team, rows, device, local, start)
    _check_support(method, len(rows))
    if local and local.number:
        _check_crops(method.encoder, feed.batch(start).views[2])
    if team.size > 1:
        method = synchronise_norms(method)
    train, per_epoch = config.train, feed.steps_per_epoch
    warmup = min(round(train.warmup_epochs * per_epoch), total // 2)
    plan = Plan(total, train.lr, warmup, device, choose_precision(train.precision, device), train.max_bad_steps)
    optimiser = optimisers.make(train.optimiser, method, train.lr, train.weight_decay)
    return Training(folder, config, found, method, optimiser, feed, plan, start, team, [note])


def _method(config: Config, found: PreparedDataset, rows: np.ndarray, device: torch.device) -> Any:
    mean, std = channel_statistics(found.store, rows)
    encoder = build_encoder(config.backbone.model_dump(), config.data.channels, config.data.size, mean, std, config.seed)
    encoder.micro_batch = config.train.micro_batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        method = methods.build(config.method, encoder, len(found.classes)).to(device)
    if config.train.compile:
        for part in method.modules():
            if isinstance(part, Encoder):
                part.backbone.compile()
    return method


def _feed(
    folder: Path, config: Config, found: PreparedDataset, team: Team, rows: np.ndarray, device: torch.device, local: Any, start: int
) -> tuple[Feed, int, str]:
    """The batches, the number of all steps, and a note for the user or ""."""
    images, train, size = found.store.images, config.train, config.data.size
    recipe = plugins.find("views.recipes", config.views.recipe.name).build(config.views.recipe)
    executor = executors.choose_executor(config.views.executor, device.type)
    make_view, n_views = multi_crop.make(executor, recipe, size, local)
    if team.first and not (folder / "views.png").exists():
        grid.save_grid(folder / "views.png", images, make_view, rows[:6].tolist(), config.seed)
    make_there = multi_crop.make_on_device(recipe, size, local)[0] if executor == "torch" else None
    there = copy_to_gpu(images, device) if make_there else None
    share = train.batch_size // team.size
    views_bytes = share * (images[0].nbytes if make_there else n_views * config.data.channels * size**2 * 4)
    workers, note = (0, "") if there is not None else workers_here(train.workers, views_bytes)
    total = train.steps or train.epochs * max(1, len(rows) // train.batch_size)
    batches = Batches(
        None if there is not None else images,
        rows,
        None if make_there else make_view,
        config.seed,
        train.batch_size,
        labels=found.labels,
        patients=found.patients,
        n_views=n_views,
        share=(team.rank, team.size),
    )
    loader = Loader(batches, total, start, workers, pin=device.type == "cuda")
    return Feed(loader, device, make_there, there), total, note


def _labelled(rows: np.ndarray, method: str, found: PreparedDataset) -> np.ndarray:
    """The rows that have a label, for a method that learns from labels."""
    if len(found.classes) < 2:
        raise UserError(
            f"--method {method} learns from labels, and the data has none of two classes in one column. Name the column with "
            "--set data.label=NAME, or choose a method that needs no labels, such as pnnclr."
        )
    return rows[found.labels[rows] >= 0]


def _check_support(method: torch.nn.Module, images: int) -> None:
    """A support set or queue larger than the data holds every image's own past: its nearest neighbour, or negative, would be itself."""
    for part in method.modules():
        if isinstance(part, SupportSet) and part.neighbours == "any" and len(part.rows) > images:
            raise UserError(
                f"The support set of {len(part.rows)} embeddings is larger than the {images} training images: an image would find itself "
                f"in it. Make it smaller: --set method.support_size={max(1, images // 2)}; or, with nnclr and pnnclr, let images find "
                "others only: --set method.neighbours=other_images."
            )


@torch.no_grad()
def _check_crops(encoder: torch.nn.Module, crops: torch.Tensor) -> None:
    """A network that was built for one size of image refuses a method's smaller crops."""
    try:
        encoder.eval()(crops[:1])
    except (AssertionError, RuntimeError) as error:
        raise UserError(
            f"The encoder takes no crops of {crops.shape[-1]} pixels, which the method has beside its whole views: {error}. Give a "
            "vision transformer --set backbone.arguments='{dynamic_img_size: true, dynamic_img_pad: true}', choose another network, or do "
            "without crops: --set method.local_crops=0."
        ) from None


def training_state(job: Training, done: int) -> dict[str, Any]:
    """What a checkpoint holds after `done` steps."""
    return {
        "step": done,
        "data": job.found.store.card["content"],
        "method": job.method.state_dict(),
        "optimiser": job.optimiser.state_dict(),
        "config": to_yaml(settings_of_result(job.config)),
    }


def restore(job: Training, state: dict[str, Any]) -> None:
    """Put the job where the checkpoint was taken. Raises UserError where the data is not the same any more."""
    if state["data"] != job.found.store.card["content"]:
        raise UserError(f"The data of {job.folder} has changed since the checkpoint was written. Start a new run on it.")
    job.method.load_state_dict(state["method"], strict=True)
    job.optimiser.load_state_dict(state["optimiser"])
