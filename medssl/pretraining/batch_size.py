"""The largest batch that fits: found before a run on `--set train.batch_size=auto`, and named where a run ended for lack of memory."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from medssl.config import Config, merge, resolve
from medssl.errors import UserError
from medssl.pretraining.trainer import Training, build_training
from medssl.train import memory
from medssl.train.loop import Plan, fit
from medssl.types import Reporter

AUTO = "train.batch_size=auto"
_STEP = 8  # batches are multiples of it, which suits matrix units
_MOST = 4096


def split_off_auto(sets: Sequence[str]) -> tuple[list[str], bool]:
    """The settings without `train.batch_size=auto`, and whether it was among them: until it is known, the preset's stands."""
    kept = [item for item in sets if item.replace(" ", "") != AUTO]
    return kept, len(kept) < len(sets)


def with_smallest_batch(config: Config) -> Config:
    """The configuration with the batch that trials begin with."""
    return _with(config, _STEP)


def with_largest_batch(reporter: Reporter, job: Training, old: int) -> Config:
    """The job's configuration with the largest batch whose step fits into memory, measured by steps on copies; says what changes against
    the batch of `old` images that the preset has.

    Raises UserError where none fits, and with several processes, of which one might run short while the others wait for it.
    """
    if job.team.size > 1:
        raise UserError(f"{AUTO} works with one process. Find the batch with one, then multiply it by the number of processes.")
    budget = memory.budget(job.plan.device)
    size, taken = _largest(job, min(_MOST, len(job.found.pretraining)), budget)
    if not size:
        raise UserError(f"Not even a batch of {_STEP} fits into {_gib(budget)}. {_ways_out(job, 0)}")
    lr = job.config.train.lr
    reporter.say(f"batch     {size}, the largest whose step fits: {_gib(taken)} of {_gib(budget)} that a step may take")
    if size != old:
        reporter.warn(
            f"The preset's batch is {old}. With {size} an image of a contrastive method has {size - 1} negatives, not {old - 1}; an epoch "
            f"has other steps, and a support set turns over in other times. The learning rate stays {lr:.3g}; scaled with the batch it "
            f"would be {lr * size / old:.3g} (--set train.lr=...)."
        )
    return _with(job.config, size)


def _with(config: Config, size: int) -> Config:
    return resolve(merge(config.model_dump(), {"train": {"batch_size": size}}))


@contextmanager
def explain_out_of_memory(job: Training) -> Iterator[None]:
    """Turns lack of memory in the block into a UserError that says what was tried and what would fit."""
    budget = memory.budget(job.plan.device)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what was computed
        first = str(error).split(". ")[0].splitlines()[0]
    else:
        return
    config = job.config
    size = job.team.size == 1 and _largest(job, config.train.batch_size - 1, budget)[0]
    raise UserError(
        f"Out of memory on {job.plan.device}, with batches of {config.train.batch_size} images of {config.data.size} pixels "
        f"({config.train.precision}) and {_gib(budget)} for a step: {first}. {_ways_out(job, size)}"
    )


def _ways_out(job: Training, size: int) -> str:
    batch = job.config.train.batch_size
    part = max(2, (size or batch // 2) // 2)
    fits = f"A batch of {size} would fit: --set train.batch_size={size}. " if size else ""
    return (
        f"{fits}--set train.micro_batch={part} computes the batch of {batch} in parts: same negatives and loss, less memory, a third more "
        "time; batch normalisation then sees the parts. Smaller images (data.size) or a smaller backbone take less, too."
    )


def _largest(job: Training, most: int, budget: int) -> tuple[int, int]:
    def measure(size: int) -> int:
        config = _with(job.config, size)

        def step() -> None:
            trial = build_training(job.folder, config, job.found, job.team)
            fit(trial.method, [trial.feed.batch(0)], trial.optimiser, Plan(1, trial.plan.lr, 0, trial.plan.device, trial.plan.precision))

        return memory.peak_bytes(step, job.plan.device)

    return memory.largest_batch(measure, budget, max(_STEP, most), _STEP)


def _gib(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"
