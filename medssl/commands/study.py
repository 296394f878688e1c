"""`medssl study`: encoders x label fractions x draws x modes on several data sets, from one YAML file."""

import signal
from collections.abc import Sequence
from pathlib import Path

from medssl.commands.report import COMPARISON, report
from medssl.errors import Interrupted
from medssl.report.run_files import REPORT
from medssl.runs.lock import lock_run_dir
from medssl.studies.executor import Failure, n_jobs, run_jobs
from medssl.studies.plan import Job, Study, is_finished, pending_jobs, plan_jobs, read_study, save_study, with_preparation_jobs
from medssl.train.loop import choose_device
from medssl.types import Reporter


def study(reporter: Reporter, *, file: Path, dry_run: bool = False, jobs: int | None = None) -> list[Failure]:
    """Run the unfinished jobs of the study in `file`, `jobs` at a time; with `dry_run` only show them. Returns the jobs that failed.

    Raises UserError for wrong input, Interrupted after Ctrl-C.
    """
    wanted = read_study(file)
    if dry_run:
        _show_plan(wanted, reporter)
        return []
    try:
        return _run(wanted, jobs, reporter)
    except KeyboardInterrupt:
        raise Interrupted("Stopped. The same command continues with the jobs that are not finished.", signal.SIGINT) from None


def _run(wanted: Study, jobs: int | None, reporter: Reporter) -> list[Failure]:
    """Run the pending jobs, and write comparison.html of all finished fine-tunings."""
    out = Path(wanted.out)
    out.mkdir(parents=True, exist_ok=True)
    with lock_run_dir(out, reporter.warn):
        save_study(wanted)
        number = n_jobs(jobs, choose_device(wanted.device).type)
        pending = pending_jobs(plan_jobs(wanted))
        failures = run_jobs(with_preparation_jobs(pending) if number > 1 else pending, number, reporter)
        runs = [job.folder for job in plan_jobs(wanted) if job.command == "finetune" and is_finished(job)]
        for run in runs:
            if not (run / REPORT).is_file():  # the run was stopped after its results and before its page
                report(reporter, runs=[run])
        if runs:
            report(reporter, runs=runs, out=out / COMPARISON, overwrite=True)
    return failures


def _show_plan(wanted: Study, reporter: Reporter) -> None:
    """Say a line for each run, and the number of classifiers (cells) to fit."""
    jobs = plan_jobs(wanted)
    pending = {job.name: job for job in pending_jobs(jobs)}
    for job in jobs:
        state = "finished" if job.name not in pending else "goes on" if "resume" in pending[job.name].arguments else "to do"
        reporter.say(f"{job.name:40} {state:9}{f' {job.cells} cells' if job.cells else ''}")
    reporter.say(f"{_cells(jobs)} cells, {_cells([*pending.values()])} to do, in {len(pending)} jobs; folder {wanted.out}")


def _cells(jobs: Sequence[Job]) -> int:
    return sum(job.cells for job in jobs)
