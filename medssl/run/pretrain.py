"""`medssl pretrain`: from pictures to an encoder in a run folder."""

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl import methods, plugins
from medssl.config import Config, Tracking, dumped, merged, overrides, read_yaml, resolve
from medssl.data.loader import Loader, workers_here
from medssl.encoder.artefact import build_encoder
from medssl.errors import Interrupted, UserError
from medssl.nn.support_set import SupportSet
from medssl.run.choose import configured, given, listed
from medssl.run.data import Prepared, prepared, say, statistics
from medssl.run.export import export
from medssl.run.folder import config_of, create, describe
from medssl.run.watch import Job, Watch
from medssl.tracking.tracker import Tracker
from medssl.train import checkpoint, optimisers
from medssl.train.loop import Plan, choose_device, choose_precision, fit, on_device
from medssl.train.stop import stop_flag
from medssl.types import Reporter, Source
from medssl.views import grid, multi_crop


def pretrain(
    reporter: Reporter,
    *,
    data: str | None = None,
    method: str | None = None,
    preset: str | None = None,
    out: Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    resume: Path | None = None,
    overwrite: bool = False,
    sets: Sequence[str] = (),
) -> Path:
    """Pretrain an encoder and return its run folder. Raises UserError for wrong input, Interrupted after a stop with a checkpoint."""
    if resume is not None:
        state, note = checkpoint.load(resume)
        config = _resumed(resume, state, sets)
        source = listed(config.data)
        folder = resume
    else:
        config, source = configured(reporter, data, preset, given(method, seed, device, sets))
        folder = create(out, "pretrain", config.method.name, overwrite)
        describe(folder, config, "pretrain")
        state, note = None, ""
    found = prepared(source, config, reporter)
    job = assemble(folder, config, found, start=state["step"] if state else 0)
    if state is not None:
        restore(job, state)
    _announce(reporter, job, source, [note, *job.notes])
    return run(reporter, job)


def run(reporter: Reporter, job: Job) -> Path:
    """Train to the end, or to a wish to stop, then export the encoder."""
    config, folder = job.config, job.folder
    tags = {"kind": "pretrain", "method": config.method.name, "preset": config.preset, "data": job.found.store.card["fingerprint"]}
    with stop_flag() as stop, Tracker(folder, config, reporter.warn, step=job.start, tags=tags) as tracker:
        watch = Watch(reporter, tracker, job, stop, lambda done: save(job, done))
        done = fit(job.method, job.loader, job.optimiser, job.plan, start=job.start, on_step=watch)
        save(job, done)
        if stop and done < job.plan.total_steps:
            raise Interrupted(f"Stopped at step {done} of {job.plan.total_steps}. Go on with: medssl pretrain --resume {folder}")
        export(folder, config, job.found, job.method.encoder, watch.last)  # pyright: ignore[reportArgumentType]
        for name in ("views.png", "card.json", "encoder.safetensors"):
            tracker.artifact(folder / name)
    reporter.say(f"encoder   {folder / 'encoder.safetensors'}")
    return folder


def assemble(folder: Path, config: Config, found: Prepared, start: int = 0) -> Job:
    """The parts of a pretraining; weights and all else follow from the configuration and the seed. `start`: the step to go on from."""
    device = choose_device(config.device)
    rows = found.pretraining
    if methods.learns_from_labels(config.method.name):
        rows = _labelled(rows, config.method.name, found)
    if not len(rows):
        raise UserError(f"None of the {len(found.roles)} images is left to pretrain on: they are for the test, held out, or leak.")
    mean, std = statistics(found.store, rows)
    encoder = build_encoder(config.backbone.model_dump(), config.data.channels, config.data.size, mean, std, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        method = methods.build(config.method, encoder, len(found.classes)).to(device)
    recipe = plugins.find("views.recipes", config.views.recipe.name).build(config.views.recipe)
    make_view, n_views = multi_crop.make(config.views.executor, recipe, config.data.size, getattr(method, "local_views", None))
    if not (folder / "views.png").exists():
        grid.save_grid(folder / "views.png", found.store.images, make_view, rows[:6].tolist(), config.seed)
    train = config.train
    batch_bytes = n_views * train.batch_size * config.data.channels * config.data.size**2 * 4
    workers, note = workers_here(train.workers, batch_bytes)
    steps_per_epoch = max(1, len(rows) // train.batch_size)
    total = train.steps or train.epochs * steps_per_epoch
    plan = Plan(
        total,
        train.lr,
        min(round(train.warmup_epochs * steps_per_epoch), total // 2),
        device,
        choose_precision(train.precision, device),
        train.max_bad_steps,
    )
    loader = Loader(
        found.store.images,
        rows,
        make_view,
        config.seed,
        train.batch_size,
        total,
        start=start,
        workers=workers,
        labels=found.labels,
        patients=found.patients,
        n_views=n_views,
    )
    _check_support(method, len(rows))
    if n_views > 2:
        crop = make_view(found.store.images[rows[0]], (config.seed, 0, 0, n_views - 1))
        _check_crops(encoder, torch.from_numpy(crop)[None].to(device))
    optimiser = optimisers.make(train.optimiser, method, train.lr, train.weight_decay)
    return Job(folder, config, found, method, optimiser, loader, plan, start, [note])


def _labelled(rows: np.ndarray, method: str, found: Prepared) -> np.ndarray:
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
def _check_crops(encoder: torch.nn.Module, crop: torch.Tensor) -> None:
    """A network that was built for one size of image refuses a method's smaller crops."""
    try:
        encoder.eval()(crop)
    except (AssertionError, RuntimeError) as error:
        raise UserError(
            f"The encoder takes no crops of {crop.shape[-1]} pixels, which the method has beside its whole views: {error}. Give a vision "
            "transformer --set backbone.arguments='{dynamic_img_size: true, dynamic_img_pad: true}', choose another network, or do without "
            "crops: --set method.local_crops=0."
        ) from None


def save(job: Job, done: int) -> None:
    """Checkpoint the job after `done` steps."""
    state = {
        "step": done,
        "data": job.found.store.card["content"],
        "method": job.method.state_dict(),
        "optimiser": job.optimiser.state_dict(),
        "config": dumped(_fixed(job.config)),
    }
    checkpoint.save(job.folder, state)


def restore(job: Job, state: dict[str, Any]) -> None:
    """Put the job where the checkpoint was taken. Raises UserError where the data is not the same any more."""
    if state["data"] != job.found.store.card["content"]:
        raise UserError(f"The data of {job.folder} has changed since the checkpoint was written. Start a new run on it.")
    job.method.load_state_dict(state["method"], strict=True)
    job.optimiser.load_state_dict(state["optimiser"])


def _fixed(config: Config) -> Config:
    """The part of a configuration that makes the result: without the data's path and all that `--resume --set` may change."""
    free = {
        "data": {"path": ""},
        "device": "auto",
        "tracking": Tracking().model_dump(),
        "train": {"workers": -1, "save_every_steps": 1},
        "monitor": {"on_collapse": "stop"},
    }
    return resolve(merged(config.model_dump(), free))


def _resumed(folder: Path, state: dict[str, Any], sets: Sequence[str]) -> Config:
    """The run's own configuration with `sets` over it, which may change the data's path, the device, the workers, saving, tracking
    and what follows on a collapse."""
    if (folder / "encoder.safetensors").is_file():
        raise UserError(f"The run in {folder} is finished: there is nothing to resume.")
    config_of(folder)
    config = resolve(merged(read_yaml(folder / "config.yaml"), overrides(sets)))
    if dumped(_fixed(config)) != state["config"]:
        raise UserError(
            f"The configuration is not the one that {folder} was started with (config.yaml or --set). A run goes on as it was; only "
            "data.path, device, tracking, train.workers, train.save_every_steps and monitor.on_collapse may differ. Start a new run for "
            "anything else."
        )
    return config


def _announce(reporter: Reporter, job: Job, source: Source, notes: Sequence[str]) -> None:
    say(job.found, source, reporter)
    for note in filter(None, notes):
        reporter.warn(note)
    plan, config = job.plan, job.config
    parameters = sum(p.numel() for p in job.method.encoder.parameters())
    precision = "float32" if plan.precision is None else str(plan.precision).removeprefix("torch.")
    reporter.say(f"method    {config.method.name}, encoder of {parameters / 1e6:.1f} million parameters, {plan.device}, {precision}")
    minutes = seconds_per_step(job) * (plan.total_steps - job.start) / 60
    left = f"steps {job.start} to {plan.total_steps}" if job.start else f"{plan.total_steps} steps"
    reporter.say(f"training  {left}, {len(job.found.pretraining)} images, about {minutes:.0f} min; run folder {job.folder}")


def seconds_per_step(job: Job, steps: int = 3) -> float:
    """Seconds for one step, measured on a copy of the method with the first batch; the job stays as it is."""
    trial = copy.deepcopy(job.method)
    optimiser = optimisers.make(job.config.train.optimiser, trial, job.plan.lr, job.config.train.weight_decay)
    batch = on_device(job.loader.batch(job.start), job.plan.device)
    fit(trial, [batch], optimiser, Plan(1, job.plan.lr, 0, job.plan.device, job.plan.precision))
    began = time.monotonic()
    fit(trial, [batch] * steps, optimiser, Plan(steps, job.plan.lr, 0, job.plan.device, job.plan.precision))
    return (time.monotonic() - began) / steps
