"""What an encoder is worth: label draws, the experiment, its results, and their leak check.

`medssl.evaluate.experiment` and `medssl.evaluate.models` are imported where they are needed: they bring torch.
"""

from medssl.evaluate.label_draws import DRAWS_ABOVE, SMALL, headline_fraction
from medssl.evaluate.leakage import learnt_from_labels, refuse_leak
from medssl.evaluate.prediction_table import FAR, table_cells, table_columns
from medssl.evaluate.schema import (
    PREDICTIONS,
    RESULTS,
    SPLITS,
    DataFacts,
    EncoderFacts,
    LeakCheck,
    Range,
    ResultsDocument,
    RunDescription,
    RunFacts,
    Score,
    SubgroupRow,
    SummaryRow,
    TaskFacts,
    read_results,
)
from medssl.evaluate.task import Kind, Task, class_indices, class_order, define_task, label_columns

__all__ = [
    "DRAWS_ABOVE",
    "FAR",
    "PREDICTIONS",
    "RESULTS",
    "SMALL",
    "SPLITS",
    "DataFacts",
    "EncoderFacts",
    "Kind",
    "LeakCheck",
    "Range",
    "ResultsDocument",
    "RunDescription",
    "RunFacts",
    "Score",
    "SubgroupRow",
    "SummaryRow",
    "Task",
    "TaskFacts",
    "class_indices",
    "class_order",
    "define_task",
    "headline_fraction",
    "label_columns",
    "learnt_from_labels",
    "read_results",
    "refuse_leak",
    "table_cells",
    "table_columns",
]
