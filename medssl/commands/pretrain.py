"""`medssl pretrain`: from images to an encoder in a run folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from medssl.config import Config, merge, resolve
from medssl.errors import Interrupted, UserError
from medssl.output import reasons_kept_in
from medssl.plain_yaml import parse_yaml, read_yaml
from medssl.pretraining.batch_size import explain_out_of_memory, split_off_auto, with_largest_batch, with_micro_batch, with_smallest_batch
from medssl.pretraining.callbacks import StepCallback, TrainingMonitor
from medssl.pretraining.fit_to_data import training_rows
from medssl.pretraining.fit_to_images import describe_fitted_length, fit_to_images, is_given
from medssl.pretraining.from_weights import check_same_weights, follow_weights, init_setting, load_start
from medssl.pretraining.lengthen import check_longer, is_complete, lengthen, with_length_of
from medssl.pretraining.time_budget import fit_to_minutes
from medssl.pretraining.trainer import (
    Training,
    build_training,
    check_same_images,
    restore,
    tell_other_machine,
    training_state,
)
from medssl.report import pretraining_page
from medssl.report.run_files import REPORT
from medssl.runs.command_line import command_line
from medssl.runs.dataset import data_tags, prepare_dataset, report_dataset
from medssl.runs.lock import lock_run_dir
from medssl.runs.model_cards import export_encoder
from medssl.runs.models_to_track import models_to_track
from medssl.runs.next_command import finetune_after_pretrain
from medssl.runs.resolve_config import (
    absolute_path,
    check_place,
    flags_and_sets,
    list_source,
    resolve_config,
    settings_of_result,
    warn_of_table,
)
from medssl.runs.run_dir import CONFIG, check_new_run, describe_run, load_config, open_run, write_config, write_description
from medssl.runs.start import keep_start
from medssl.runs.to_label import has_labels, write_list
from medssl.tracking.tracker import Tracker
from medssl.train import checkpoint
from medssl.train.busy_cores import tell_busy_cores
from medssl.train.loop import choose_device, fit
from medssl.train.processes import device_of_process, join_team, wrap_distributed
from medssl.train.stop import StopFlag, StopRequested, stop_flag
from medssl.types import Batch, Reporter, Source, counted


def pretrain(
    reporter: Reporter,
    *,
    data: str | None = None,
    method: str | None = None,
    preset: str | None = None,
    out: Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    init: Path | None = None,
    resume: Path | None = None,
    overwrite: bool = False,
    sets: Sequence[str] = (),
) -> Path:
    """Pretrain an encoder and return its run folder. Processes that torchrun or srun started train together. `init`: weights to start
    from, see `encoder.foreign`.

    Raises UserError for wrong input, Interrupted after a stop with a checkpoint, LostProcess if another process has ended.
    """
    given = flags_and_sets(method, seed, device, sets := [*sets, *init_setting(init)])
    sets, auto_batch_size = split_off_auto(sets)
    overrides = flags_and_sets(method, seed, device, sets)
    if resume is not None:
        _refuse_beside_resume(resume, {"--preset": preset, "--out": out})
        state, note = checkpoint.load(resume)
        config, source = _resume(reporter, resume, state, data, overrides)
    else:
        state, note = None, ""
        config, source = _start(reporter, data, preset, overrides)
    with join_team(chosen_device := device_of_process(choose_device(config.device))) as team, ExitStack() as stack:
        busy = tell_busy_cores(chosen_device, team.size)  # before processes of our own keep cores busy
        if team.first:
            check_new_run(out, overwrite) if resume is None else _reopen_folder(stack, reporter, resume)
        with team.local_first():
            dataset = prepare_dataset(source, config, reporter, retry=team.first and resume is None)
        sentences: list[str] = []
        if state is not None:
            check_same_images(resume or Path(), dataset, state)
        else:
            config, dataset, sentences = fit_to_images(config, dataset, given, team.size)
        folder = team.broadcast_from_first(resume or (_open_folder(stack, reporter, out, config, overwrite) if team.first else Path()))
        if auto_batch_size:
            config = with_largest_batch(reporter, config, build_training(folder, with_smallest_batch(config), dataset, team))
        job = build_training(folder, config, dataset, team, state)
        if state is None and not is_given(given, "train", "batch_size"):
            config, more = with_micro_batch(config, job)
            sentences += more
            job = build_training(folder, config, dataset, team, state) if more else job
        with explain_out_of_memory(job):
            if config.train.minutes is not None:
                job = build_training(folder, fit_to_minutes(reporter, config, job), dataset, team, state)
            if state is not None:
                _restore(job, state)
            elif team.first:
                write_description(folder, job.config, "pretrain")
            if team.first:
                checkpoint.check_disk_space(folder, job.method)
            sentences += describe_fitted_length(config, job.config, len(training_rows(config, dataset)))
            _announce(reporter, job, source, [note, busy, *job.notes], sentences)
            return train_and_export(reporter, job)


def _refuse_beside_resume(folder: Path, flags: Mapping[str, object]) -> None:
    """Raises UserError for flags that a run which goes on cannot follow."""
    if given := [flag for flag, value in flags.items() if value is not None]:
        raise UserError(f"--resume goes on in {folder} with the settings of that run. Leave out {' and '.join(given)}.")


def _start(reporter: Reporter, data: str | None, preset: str | None, overrides: dict[str, Any]) -> tuple[Config, Source]:
    config, source = resolve_config(reporter, data, preset, overrides)
    if len(source.records) == 1:
        what = "volume" if source.whole else "image"
        slices = " Or leave data.volumes=whole out: each slice is an image then." if source.whole else ""
        raise UserError(
            f"{data} has a single {what}, but pretraining compares {what}s with each other. Name several {what}s with --data.{slices}"
        )
    return follow_weights(reporter, config, overrides), source


def _resume(reporter: Reporter, folder: Path, state: dict[str, Any], data: str | None, overrides: dict[str, Any]) -> tuple[Config, Source]:
    """The configuration of the run, and its images. `data`: where they are now, if they have been moved."""
    checkpoint.check_whole(folder, state)
    moved = {} if data is None else {"data": {"path": absolute_path(data)}}
    config = _resumed_config(folder, state, merge(moved, overrides))
    check_same_weights(config, overrides)
    check_place(config.data, folder)
    source = list_source(config.data)
    warn_of_table(reporter, source)
    return config, source


def _restore(job: Training, state: dict[str, Any]) -> None:
    """Continue from the checkpoint. A new length and a new place of the images are written to config.yaml, so that a later resume knows
    them."""
    check_longer(job.folder, job.config, state["step"])
    job.notes.append(tell_other_machine(job, state))
    restore(job, state)
    before = load_config(job.folder) if job.team.first else job.config
    if (before.train.steps, before.data.path) != (job.config.train.steps, job.config.data.path):
        write_config(job.folder, job.config, "pretrain")


def _open_folder(stack: ExitStack, reporter: Reporter, out: Path | None, config: Config, overwrite: bool) -> Path:
    """A new run folder, locked for this process until the stack is closed."""
    folder = stack.enter_context(open_run(out, "pretrain", config.method.name, overwrite, reporter.warn))
    stack.enter_context(describe_run(folder, config, "pretrain"))
    if (start := load_start(config)) is not None:
        keep_start(folder, config, start)
    return folder


def _reopen_folder(stack: ExitStack, reporter: Reporter, folder: Path) -> None:
    """The folder of a run that goes on, locked for this process until the stack is closed."""
    stack.enter_context(lock_run_dir(folder, reporter.warn))
    stack.enter_context(reasons_kept_in(folder))


def train_and_export(reporter: Reporter, job: Training) -> Path:
    """Train to the end or to a stop signal. At the end the first process exports the encoder."""
    config, folder, team = job.config, job.folder, job.team
    tags = {"kind": "pretrain", "method": config.method.name, "preset": config.preset, **data_tags(config, job.dataset)}
    with stop_flag() as stop, ExitStack() as stack:
        stack.push(lambda kind, *_: team.wait() if kind is Interrupted else None)  # the first process has closed its tracker by then
        tracker = monitor = None
        if team.first:
            tracker = stack.enter_context(Tracker(folder, config, reporter.warn, step=job.start, tags=tags, stop=lambda: bool(stop)))
            monitor = TrainingMonitor(reporter, tracker, job, stop)
        on_step = StepCallback(job, stop, monitor)
        batches = job.feed if team.size > 1 else _interruptible(job.feed, stop)
        forward = wrap_distributed(job.method) if team.size > 1 else None
        done = fit(job.method, batches, job.optimiser, job.plan, start=job.start, on_step=on_step, forward=forward)
        if team.first:
            checkpoint.save(folder, training_state(job, done))
        team.wait()  # a launcher ends all processes once one has ended: the state must be saved before
        if done < job.plan.total_steps:
            signal_number = on_step.signal or stop.signal
            again = command_line("pretrain", {"resume": folder})
            raise Interrupted(f"Stopped at step {done} of {job.plan.total_steps}. Continue with: {again}", signal_number)
        if tracker and monitor:
            export_encoder(folder, config, job.dataset, job.method.encoder, monitor.last)
            if not config.train.keep_optimiser:
                checkpoint.save_alone(folder, training_state(job, done, optimiser=False), reporter.warn)
            pretraining_page.copy_audit(job.dataset.store.path, folder)
            pretraining_page.write_pretraining_page(folder, folder / REPORT, finetune_after_pretrain(folder))
            for name in ("views.png", "card.json", "encoder.safetensors", REPORT):
                tracker.log_artifact(folder / name)
            for model in models_to_track(folder, config):
                tracker.log_model(model)
        team.wait()
    reporter.say(f"encoder   {folder / 'encoder.safetensors'}")
    reporter.say(f"report    {folder / REPORT}")
    reporter.say(f"next      {finetune_after_pretrain(folder)}")
    return folder


def _interruptible(batches: Iterator[Batch] | Any, stop: StopFlag) -> Iterator[Batch]:
    """The batches until a stop signal, which also ends the wait for the next batch."""
    iterator = iter(batches)
    while True:
        try:
            with stop.interruptible():
                batch = next(iterator, None)
        except StopRequested:
            return
        if batch is None:
            return
        yield batch


def _resumed_config(folder: Path, state: dict[str, Any], overrides: dict[str, Any]) -> Config:
    """The configuration of the run, with `overrides` on top. They may change the data's path, the device, the workers, saving, tracking and
    what happens on a collapse; of a finished run also its length."""
    load_config(folder)
    config, before = resolve(merge(read_yaml(folder / CONFIG), overrides)), resolve(parse_yaml(state["config"], "the checkpoint"))
    if is_complete(state, before):
        config = lengthen(folder, config, state["step"], overrides)
        before = with_length_of(before, config)
    if settings_of_result(config) != settings_of_result(before):
        raise UserError(
            f"The configuration is not the one that {folder} was started with (config.yaml, a flag or --set). Only "
            "data.path (--data), data.follow_links, backbone.init (the same weights elsewhere), device, tracking, train.workers, "
            "train.save_every_steps, train.keep_optimiser, train.compile and monitor.on_collapse may differ, and the length of a finished "
            "run. Start a new run for anything else."
        )
    return config


def _announce(reporter: Reporter, job: Training, source: Source, notes: Sequence[str], sentences: Sequence[str]) -> None:
    """`notes`: warnings; `sentences`: what was fitted to the images."""
    report_dataset(job.dataset, source, reporter)
    kept = (job.dataset.roles == "test") | job.dataset.holdout
    if job.team.first and not has_labels(job.dataset).any() and (path := write_list(job.dataset, source, kept)):
        reporter.say(f"          the images that are kept for a later test are named in {path}: label some of them, too")
    for number, sentence in enumerate(sentences):
        reporter.say(f"{'' if number else 'fitted':9} {sentence}")
    for note in filter(None, notes):
        reporter.warn(note)
    plan, config, team, precision = job.plan, job.config, job.team, job.computed_with["train.precision"]
    parameters = sum(p.numel() for p in job.method.encoder.parameters())
    fitted = ", ".join(
        f"{name} {value if isinstance(value, str) else format(value, 'g')}"
        for name in ("base", "support_size", "momentum")
        if (value := getattr(config.method, name, None)) is not None
    )
    method = f"{config.method.name} ({fitted})" if fitted else config.method.name
    reporter.say(f"method    {method}, encoder of {parameters / 1e6:.1f} million parameters, {plan.device}, {precision}")
    if team.size > 1:
        reporter.say(f"processes {team.size}, each with {config.train.batch_size // team.size} of the {config.train.batch_size} of a batch")
    steps = f"steps {job.start} to {plan.total_steps}" if job.start else f"{plan.total_steps} steps"
    reporter.say(f"training  {steps}, {len(job.dataset.pretraining)} {counted(config.data.size)}; run folder {job.folder}")
