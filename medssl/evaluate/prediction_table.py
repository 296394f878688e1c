"""The columns of a table of predictions: what a classifier says of an image, and where it had better say nothing."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from numpy import ndarray

FAR = 0.99  # out of distribution above this, where images are counted


class TableCells(NamedTuple):
    """The cells of one image, in the order of `columns`, and whether any decision was left open."""

    cells: list[str]
    abstained: bool


def table_columns(kind: str, classes: Sequence[str]) -> list[str]:
    """The names of the columns; of "multilabel" each label has its own three for the decision."""
    decisions = [f"_{name}" for name in classes] if kind == "multilabel" else [""]
    three = [f"{column}{end}" for end in decisions for column in ("prediction", "confidence", "abstained")]
    return [*(f"prob_{name}" for name in classes), *three, "out_of_distribution"]


def table_cells(kind: str, classes: Sequence[str], prob: Float[ndarray, " k"], far: float, abstain_below: float) -> TableCells:
    """What stands in them. A decision whose confidence, the probability of what it says, is below `abstain_below` is left open."""
    cells, decisions = [_number(p) for p in prob.tolist()], decide(kind, classes, prob)
    for name, confidence in decisions:
        sure = confidence >= abstain_below
        cells += [name if sure else "", _number(confidence), "false" if sure else "true"]
    return TableCells([*cells, _number(far)], any(confidence < abstain_below for _, confidence in decisions))


def decide(kind: str, classes: Sequence[str], prob: Float[ndarray, " k"]) -> list[tuple[str, float]]:
    """What the probabilities say, with its confidence; of "multilabel" for each label."""
    if kind == "multilabel":
        return [("present" if p >= 0.5 else "absent", max(p, 1 - p)) for p in prob.tolist()]
    return [(classes[int(prob.argmax())], float(prob.max()))]


def _number(value: float) -> str:
    return f"{value:.6f}"
