"""The largest batch that fits into memory: searched before a run with `--set train.batch_size=auto`, and after a run out of memory. On a
CPU, the part of a preset's batch that fits."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from medssl.config import Config, merge, resolve
from medssl.errors import UserError
from medssl.pretraining.trainer import Training, build_training
from medssl.train import memory
from medssl.train.loop import Plan, fit
from medssl.types import Reporter, describe_size

AUTO = "train.batch_size=auto"
_SIZE_STEP = 8  # batches are multiples of it, which suits matrix units
_LARGEST_SIZE = 4096


def split_off_auto(sets: Sequence[str]) -> tuple[list[str], bool]:
    """The settings without `train.batch_size=auto`, and whether `sets` contained that setting. The preset's batch size is used until the
    largest one is known."""
    others = [item for item in sets if item.replace(" ", "") != AUTO]
    return others, len(others) < len(sets)


def with_smallest_batch(config: Config) -> Config:
    """The configuration with the batch size of the first trial, of which the images must be as many as the batch that it has."""
    return _with_batch_size(config, min(_SIZE_STEP, config.train.batch_size))


def with_largest_batch(reporter: Reporter, config: Config, job: Training) -> Config:
    """The configuration with the largest batch whose step fits into memory. Trial steps on copies of the job's model measure the memory.
    A warning says what changes against the batch size of the preset, which the configuration has.

    Raises UserError if no batch fits. With several processes one might run out of memory while the others wait: `fit_to_images` refuses
    that.
    """
    budget = memory.budget(job.plan.device)
    size, step_bytes = _find_largest(job, min(_LARGEST_SIZE, len(job.dataset.pretraining)), budget)
    if not size:
        raise UserError(f"Not even a batch of {_SIZE_STEP} fits into {_format_gib(budget)}. {_remedies(job, 0)}")
    lr, old = config.train.lr, config.train.batch_size
    reporter.say(f"batch     {size}, the largest that fits: a step takes {_format_gib(step_bytes)} of {_format_gib(budget)}")
    if size != old:
        reporter.warn(
            f"The preset's batch is {old}. With {size} an image of a contrastive method has {size - 1} negatives, not {old - 1}. The "
            "number of steps in an epoch changes, and so does the number of steps after which a support set is replaced. The learning rate "
            f"stays {lr:.3g}; scaled with the batch it would be {lr * size / old:.3g} (--set train.lr=...)."
        )
    return _with_batch_size(config, size)


def _with_batch_size(config: Config, size: int) -> Config:
    return resolve(merge(config.model_dump(), {"train": {"batch_size": size}}))


def with_micro_batch(config: Config, job: Training) -> tuple[Config, list[str]]:
    """On a CPU, the configuration with a `train.micro_batch` if a whole batch takes more memory than is free, and a sentence that says so.
    There the system would end the process without a word; a GPU raises an error, which `explain_out_of_memory` explains."""
    views, device = 2 * config.train.batch_size // job.team.size, job.plan.device
    if device.type != "cpu" or config.train.micro_batch is not None:
        return config, []
    image_bytes = memory.activation_bytes(job.method.encoder, config.data.channels, config.data.size)
    free = memory.budget(device) // job.team.size
    fits = views * image_bytes <= free
    part = job.team.minimum(
        views if fits else max(2, free // (2 * image_bytes) // 2 * 2)
    )  # half of it: weights and losses need memory, too
    if part >= views:
        return config, []
    sentence = (
        f"train.micro_batch {part}: that many images pass through the network at once, for all {views} views of a batch would take "
        f"{_format_gib(views * image_bytes)} of memory, and {_format_gib(free)} may be used. The loss is that of the whole batch."
    )
    return resolve(merge(config.model_dump(), {"train": {"micro_batch": part}})), [sentence]


@contextmanager
def explain_out_of_memory(job: Training) -> Iterator[None]:
    """If the block runs out of memory, raise a UserError with the settings that failed and the settings that would fit."""
    budget = memory.budget(job.plan.device)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # the frames still refer to the tensors of the failed step
        reason = str(error).split(". ")[0].splitlines()[0]
    else:
        return
    config = job.config
    size = job.team.size == 1 and _find_largest(job, config.train.batch_size - 1, budget)[0]
    raise UserError(
        f"Out of memory on {job.plan.device}, with batches of {config.train.batch_size} images of {describe_size(config.data.size)} "
        f"({config.train.precision}) and {_format_gib(budget)} for a step: {reason}. {_remedies(job, size)}"
    )


def _remedies(job: Training, size: int) -> str:
    batch = job.config.train.batch_size
    part = max(2, (size or batch // 2) // 2)
    fits = f"A batch of {size} would fit: --set train.batch_size={size}. " if size else ""
    return (
        f"{fits}--set train.micro_batch={part} computes the batch of {batch} in parts: the negatives and the loss are the same, the step "
        "takes less memory and a third more time, and batch normalisation uses the statistics of each part. Smaller images (data.size) or "
        "a smaller backbone also take less memory."
    )


def _find_largest(job: Training, largest: int, budget: int) -> tuple[int, int]:
    """The largest batch of at most `largest` images whose step fits into `budget` bytes, and its bytes; (0, 0) where none does."""
    if largest < 2:
        return 0, 0

    def measure(size: int) -> int:
        config = _with_batch_size(job.config, size)

        def step() -> None:
            trial = build_training(job.folder, config, job.dataset, job.team)
            fit(trial.method, [trial.feed.batch(0)], trial.optimiser, Plan(1, trial.plan.lr, 0, trial.plan.device, trial.plan.precision))

        return memory.peak_bytes(step, job.plan.device)

    return memory.largest_batch(measure, budget, largest, min(_SIZE_STEP, largest))


def _format_gib(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"
