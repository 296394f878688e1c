"""A finished pretraining goes on for more steps, in the same run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.config import Config, merge, resolve
from medssl.encoder.artefact import WEIGHTS
from medssl.errors import UserError

_LENGTH = ("epochs", "steps", "minutes", "min_steps", "warmup_epochs")


def is_complete(state: Mapping[str, Any], config: Config) -> bool:
    """Whether the checkpoint `state`, of a run with the configuration `config`, holds all of its steps."""
    return config.train.steps is not None and state["step"] >= config.train.steps


def lengthen(folder: Path, config: Config, done: int, overrides: Mapping[str, Any]) -> Config:
    """The configuration with the length that `overrides` (--set train.epochs or train.steps) or config.yaml ask for.

    The run in `folder` has all of its `done` steps. Raises UserError where nothing asks for more, unless the export of the encoder is
    missing, as after a kill in the last second.
    """
    asked = overrides.get("train", {})
    if "minutes" in asked:
        raise UserError("A finished run is made longer by --set train.epochs=N or --set train.steps=N, not by train.minutes.")
    if "epochs" in asked and "steps" not in asked:  # the steps follow from the images
        return resolve(merge(config.model_dump(), {"train": {"steps": None, "min_steps": 0}}))
    assert config.train.steps is not None
    if config.train.steps <= done and (asked.keys() & {"epochs", "steps"} or (folder / WEIGHTS).is_file()):
        raise UserError(
            f"The run in {folder} is finished, with {done} steps: there is nothing to resume. To make the run longer, add for instance "
            f"--set train.steps={2 * done}"
        )
    return config


def check_longer(folder: Path, config: Config, done: int) -> None:
    """Raise UserError if the run has as many steps already as `config` asks for."""
    if config.train.steps is not None and config.train.steps < done:
        raise UserError(
            f"The run in {folder} has {done} steps, and {config.train.epochs} epochs are {config.train.steps}. Name more epochs."
        )


def with_length_of(config: Config, other: Config) -> Config:
    """`config` with the settings of the length of `other`."""
    return resolve(merge(config.model_dump(), {"train": {name: getattr(other.train, name) for name in _LENGTH}}))
