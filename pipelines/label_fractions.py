"""How much is a label worth? Encoders x label fractions x draws x modes, on several data sets, from one YAML file.

    python pipelines/label_fractions.py study.yaml [--dry-run] [--jobs N]

pipelines/label_fractions.yaml is an example. Stopped or killed, the same command goes on: what is finished is not run again.
docs/studies.md says what is kept where, and how to read the comparison.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from medssl.commands.report import COMPARISON, REPORT, report
from medssl.console import Console
from medssl.errors import UserError
from medssl.runs.lock import lock_run_dir
from medssl.studies.executor import Failure, n_jobs, run_jobs
from medssl.studies.plan import Job, Study, is_finished, pending_jobs, plan_jobs, read_study, save_study, with_preparation_jobs
from medssl.train.loop import choose_device
from medssl.types import Reporter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path, metavar="FILE", help="the study's YAML file")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument("--jobs", type=int, metavar="N", help="how many at a time (default: one for every two cores; one on a GPU)")
    options = parser.parse_args()
    os.umask(0o077)  # what a run writes is for its user alone
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with Console() as console:
        try:
            study = read_study(options.study)
            failures = [] if options.dry_run else carry_out(study, options.jobs, console)
            if options.dry_run:
                tell(study, console)
        except UserError as error:
            console.fail(str(error))
            sys.exit(2)
        except KeyboardInterrupt:
            console.warn("Stopped. The same command goes on with what is left.")
            sys.exit(130)
        for failure in failures:
            console.fail("\n  ".join([f"{failure.job.name} failed", *(failure.lines or ["what it needs had failed"])]))
        sys.exit(1 if failures else 0)


def carry_out(study: Study, jobs: int | None, reporter: Reporter) -> list[Failure]:
    """Do what is left of the study and join all that is finished in comparison.html. Returns what failed."""
    out = Path(study.out)
    out.mkdir(parents=True, exist_ok=True)
    with lock_run_dir(out, reporter.warn):
        save_study(study)
        number = n_jobs(jobs, choose_device(study.device).type)
        todo = pending_jobs(plan_jobs(study))
        failures = run_jobs(with_preparation_jobs(todo) if number > 1 else todo, number, reporter)
        runs = [job.folder for job in plan_jobs(study) if job.command == "finetune" and is_finished(job)]
        for run in runs:
            if not (run / REPORT).is_file():  # stopped between the results and their page
                report(reporter, runs=[run])
        if runs:
            report(reporter, runs=runs, out=out / COMPARISON, overwrite=True)
    return failures


def tell(study: Study, reporter: Reporter) -> None:
    """The plan: a line for each run, and how many classifiers there are to fit."""
    jobs = plan_jobs(study)
    todo = {job.name: job for job in pending_jobs(jobs)}
    for job in jobs:
        state = "finished" if job.name not in todo else "goes on" if "resume" in todo[job.name].arguments else "to do"
        reporter.say(f"{job.name:40} {state:9}{f' {job.cells} cells' if job.cells else ''}")
    reporter.say(f"{count(jobs)} cells, {count(list(todo.values()))} to do, in {len(todo)} jobs; folder {study.out}")


def count(jobs: list[Job]) -> int:
    return sum(job.cells for job in jobs)


if __name__ == "__main__":
    main()
