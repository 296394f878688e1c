"""`medssl report`: write the report of a run again, or compare several fine-tuning runs on one page."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medssl.compare import Run, write_comparison
from medssl.encoder.artefact import CARD
from medssl.errors import UserError
from medssl.evaluate.schema import RESULTS, read_results
from medssl.finetuning.run_report import write_run_report
from medssl.report.pretraining_page import write_pretraining_page
from medssl.report.run_files import REPORT
from medssl.runs.next_command import finetune_after_pretrain
from medssl.train.loop import choose_device
from medssl.types import Reporter

COMPARISON = "comparison.html"


def report(reporter: Reporter, *, runs: Sequence[Path], out: Path | None = None, overwrite: bool = False) -> Path:
    """Write the page of a pretraining run, or of fine-tuning runs (their folders, or folders of them), and return its path.

    One run: its own report.html and figures/ again, or `out`. Several: comparison.html, in the folder of runs where one was named, else
    here. Raises UserError for a run without complete results, and for a page that exists; a run's own report is replaced, too, unless the
    new one would lack pictures because images or classifier are not there.
    """
    if len(runs) == 1 and (runs[0] / CARD).is_file():
        page = out or runs[0] / REPORT
        _refuse_existing(page, overwrite or out is None)
        write_pretraining_page(runs[0], page, finetune_after_pretrain(runs[0]))
        reporter.say(f"report    {page} (1 run)")
        return page
    found = list(dict.fromkeys(run.resolve() for folder in runs for run in _runs(folder)))
    documents = {run: read_results(run) for run in found}
    if len(found) == 1:
        page, document = out or found[0] / REPORT, documents[found[0]]
        _refuse_existing(page, overwrite or out is None)
        with _of_changed_results(found):
            missing = write_run_report(found[0], document, choose_device("auto"), out, overwrite)
        if missing:
            reporter.warn(missing)
    else:
        page = out or (runs[0] / COMPARISON if len(runs) == 1 else Path(COMPARISON))
        _refuse_existing(page, overwrite)
        with _of_changed_results(found):
            write_comparison([Run.read(run, documents[run]) for run in found], page)
    reporter.say(f"report    {page} ({len(found)} run{'s' if len(found) > 1 else ''})")
    return page


@contextmanager
def _of_changed_results(runs: Sequence[Path]) -> Iterator[None]:
    """Turns errors of numbers and names that contradict each other into a message: each part of results.json is checked when the file is
    read, and not whether the parts fit together."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, ArithmeticError, ValueError, TypeError) as error:
        names = ", ".join(map(str, runs))
        raise UserError(f"The results of {names} do not fit together ({type(error).__name__}): was results.json changed?") from error


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
