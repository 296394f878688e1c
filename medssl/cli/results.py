"""The commands that read, join and send what runs have written."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.app import app
from medssl.exit_codes import handle_errors


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Fine-tuning runs, or folders of them.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page to write.  [default: the run's report.html; of several comparison.html]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page if it exists.")] = False,
) -> None:
    """Write a run's report again, or join several runs in one comparison: encoders, label fractions, data sets.

    Example: medssl report runs/study
    """
    with handle_errors() as console:
        from medssl.commands.report import report as command

        command(console, runs=runs, out=out, overwrite=overwrite)


@app.command()
def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study's YAML file; pipelines/label_fractions.yaml is an example.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Jobs at a time.  [default: one for every two cores; one on a GPU]")
    ] = None,
) -> None:
    """Compare encoders on several data sets: pretrain, fine-tune at all label fractions, and join the results on one page.

    After a stop or a kill, the same command continues. The exit code is 1 if a job failed; the other jobs still run.

    Example: medssl study pipelines/label_fractions.yaml --dry-run
    """
    with handle_errors() as console:
        from medssl.commands.study import study as command

        failures = command(console, file=file, dry_run=dry_run, jobs=jobs)
        for failure in failures:
            console.fail("\n  ".join([f"{failure.job.name} failed", *(failure.lines or ["a job that it needs failed"])]))
    if failures:
        raise typer.Exit(1)


@app.command()
def track(runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, or folders of them.")]) -> None:
    """Send to MLflow what is missing there of finished or stopped runs, because its server was down. Nothing is sent twice.

    Example: medssl track runs
    """
    with handle_errors() as console:
        from medssl.commands.track import track as command

        command(console, runs=runs)
