"""What a configuration leaves open, in numbers: which images are trained on, for how many steps, and what the method calls "auto"."""

import numpy as np

from medssl import methods
from medssl.config import Config, merge, resolve
from medssl.errors import UserError
from medssl.runs.dataset import PreparedDataset


def fit_to_data(config: Config, images: int, steps: int | None = None) -> Config:
    """The configuration with a number of steps, and with numbers where its method says "auto". `images`: those that are trained on;
    `steps`: the number that a budget of time holds.

    An epoch of a small data set is a few steps, and ten of them teach a network little: `train.epochs` are `train.min_steps` at least.
    """
    train = config.train
    steps = steps or train.steps or max(train.min_steps, train.epochs * max(1, images // train.batch_size))
    method = methods.fit_to(config.method, images, steps)
    return resolve(merge(config.model_dump(), {"method": method.model_dump(), "train": {"steps": steps, "minutes": None}}))


def training_rows(config: Config, dataset: PreparedDataset) -> np.ndarray:
    """The rows of the images that the method trains on. Raises UserError where there is none."""
    rows = dataset.pretraining
    if methods.uses_labels(config.method.name):
        rows = _labelled_rows(rows, config.method.name, dataset)
    if not len(rows):
        raise UserError(
            f"None of the {len(dataset.roles)} images is left to pretrain on: all are for the test or in the hold-out, or leak."
        )
    return rows


def _labelled_rows(rows: np.ndarray, method: str, dataset: PreparedDataset) -> np.ndarray:
    """The rows with a label, for a method that learns from labels. Raises UserError if the data has fewer than two classes."""
    if len(dataset.classes) < 2:
        raise UserError(
            f"--method {method} learns from labels, and the data has none of two classes in one column. Name the column with "
            "--set data.label=NAME, or choose a method that needs no labels, such as pnnclr."
        )
    return rows[dataset.labels[rows] >= 0]
