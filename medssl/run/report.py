"""`medssl report`: the report of a fine-tuning run written again, or several runs joined in one comparison."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ConfigDict

from medssl.config import Frozen, resolve_part
from medssl.errors import UserError
from medssl.evaluate.comparison import Run
from medssl.evaluate.comparison_page import write_comparison
from medssl.evaluate.pairs import read_predictions
from medssl.evaluate.report import write_report
from medssl.evaluate.results import FORMAT, PREDICTIONS, RESULTS
from medssl.types import Reporter

REPORT, COMPARISON = "report.html", "comparison.html"


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


def report(reporter: Reporter, *, runs: Sequence[Path], out: Path | None = None, overwrite: bool = False) -> Path:
    """Write the page of fine-tuning runs (their folders, or folders of them) and return its path.

    One run: its own report.html again, or `out`. Several: comparison.html, in the folder of runs where one was named, else here. Raises
    UserError for a run without whole results, and for a page that exists.
    """
    found = list(dict.fromkeys(run.resolve() for folder in runs for run in _runs(folder)))
    documents = {run: document_of(run) for run in found}
    if len(found) == 1:
        page = out or found[0] / REPORT
        _refuse_existing(page, overwrite or out is None)
        write_report(documents[found[0]], page)
    else:
        page = out or (runs[0] / COMPARISON if len(runs) == 1 else Path(COMPARISON))
        _refuse_existing(page, overwrite)
        write_comparison([_run(run, documents[run]) for run in found], page)
    reporter.say(f"report    {page} ({len(found)} run{'s' if len(found) > 1 else ''})")
    return page


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


def _run(folder: Path, document: dict[str, Any]) -> Run:
    return Run(folder.name, folder.parent.name, document, read_predictions(folder / PREDICTIONS, document))


def _runs(folder: Path) -> Iterator[Path]:
    """The run in a folder, or all that lie there: one below it, as in runs/, or two, as in a study."""
    if (folder / RESULTS).is_file():
        yield folder
        return
    below = sorted(path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{RESULTS}"))
    if not below:
        raise UserError(f"There is no finished fine-tuning in {folder}: no {RESULTS} there. Name a run that `medssl finetune` made.")
    yield from below


def _refuse_existing(page: Path, overwrite: bool) -> None:
    if page.is_dir():
        raise UserError(f"--out {page} is a folder. Name a file, such as {page / COMPARISON}.")
    if page.exists() and not overwrite:
        raise UserError(f"{page} exists. Name another file with --out, or add --overwrite to replace it.")
    if not page.absolute().parent.is_dir():
        raise UserError(f"There is no folder {page.absolute().parent} to write {page.name} into. Make it, or name another --out.")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
