"""What a fine-tuning asks of its data: the labels of images or whole volumes, or of volumes of slices where the labels belong to those."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from medssl.config import Config
from medssl.data.label_table import count_labels, label_lines
from medssl.data.sources.medmnist import ordinal
from medssl.data.volume_slices import whole_volumes
from medssl.data.volumes import Volumes, find_volumes
from medssl.errors import UserError
from medssl.evaluate.task import Counted, Task, define_task, without_unanswerable
from medssl.runs.dataset import PreparedDataset, report_dataset
from medssl.types import Reporter, Source


@dataclass(frozen=True)
class Question:
    """`table`: a row for each image, or where there are `volumes` for each volume; the rows of `task` are its rows. `sentence`: what the
    labels of volumes belong to, "" where the images are neither slices nor read in windows. `left_out`: why findings of the data are no
    part of the task."""

    task: Task
    table: pd.DataFrame
    volumes: Volumes | None
    sentence: str
    left_out: Sequence[str] = ()

    def report(self, reporter: Reporter, dataset: PreparedDataset, source: Source) -> None:
        """Say what was found, and how many images or volumes have each label."""
        report_dataset(dataset, source, reporter, self.volumes if self.task.counted == "volumes" else None)
        if self.sentence:
            reporter.say(f"volumes   {self.sentence}")
        for line in label_lines(count_labels(self.table), self.task.counted):
            reporter.say(f"label     {line}")
        for sentence in self.left_out:
            reporter.warn(f"a finding is left out: {sentence}")


def ask(dataset: PreparedDataset, columns: Sequence[str], config: Config) -> Question:
    """The question of the label columns `columns`; where none was chosen, without findings that cannot be learnt or tested. Raises
    UserError as `define_task`, and where attention has no volumes to pool."""
    volumes, sentence = find_volumes(dataset.store, columns)
    if volumes is None and config.finetune.pooling == "attention":
        reason = sentence or "these images are no slices of volumes"
        raise UserError(f"finetune.pooling=attention pools the slices of volumes, but {reason}. Leave the setting out.")
    ordered = config.finetune.ordered or ordinal(config.data.path)
    counted: Counted = "whole volumes" if whole_volumes(dataset.store) else "images"
    table, roles = dataset.store.table, dataset.roles
    if volumes is not None and not volumes.windowed:
        table, roles, counted = volumes.table, volumes.roles(roles, table), "volumes"
    chosen = bool(config.data.label) or len(columns) == 1
    columns, left_out = (columns, []) if chosen else without_unanswerable(table, columns, roles, counted)
    return Question(define_task(table, columns, roles, ordered, counted), table, volumes, sentence, left_out)
