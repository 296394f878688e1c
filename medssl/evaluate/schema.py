"""results.json: what its readers rely on, checked when it is read."""

import json
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ConfigDict

from medssl.config import Frozen, resolve_part
from medssl.errors import UserError
from medssl.evaluate.results import FORMAT, RESULTS


class _Known(Frozen):
    """What is asked of a document; it may hold more."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class _Score(_Known):
    mean: float
    low: float
    high: float


class _Counts(_Known):
    low: int
    high: int


class _Row(_Known):
    fraction: float
    labels: str
    mode: str
    init: str
    draws: int
    n_labels: _Counts
    n_patients: _Counts
    auroc: _Score


class _Class(_Known):
    name: str


class _Tested(_Known):
    n_labels: int
    n_patients: int


class _Task(_Known):
    column: str
    classes: tuple[_Class, ...]
    test: _Tested


class _Interval(_Known):
    level: float
    bootstraps: int


class _Document(_Known):
    task: _Task
    interval: _Interval
    summary: tuple[_Row, ...]
    paired: tuple[dict[str, Any], ...]


def document_of(run: Path) -> dict[str, Any]:
    """A run's results.json. Raises UserError that names the run where it is missing, damaged or of another format."""
    path = run / RESULTS
    if not path.is_file():
        raise UserError(f"{run} holds no {RESULTS}: it is no finished fine-tuning. Name another run, or run `medssl finetune` again.")
    try:
        document = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}). Fine-tune again, or leave that run out.") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        written = document.get("format") if isinstance(document, dict) else None
        raise UserError(f"{path} has format {written!r}, and this medssl reads {FORMAT}. Fine-tune again, or leave that run out.")
    try:
        resolve_part(_Document, document)
    except UserError as error:
        raise UserError(f"{path} is not whole. Fine-tune again, or leave that run out.\n{str(error).partition(chr(10))[2]}") from None
    if not document["summary"]:
        raise UserError(f"{path} holds no score. Fine-tune again, or leave that run out.")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
