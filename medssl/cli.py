"""The command line: commands and their options. The work is done in `medssl.commands`.

Exit codes: 0 done; 2 the input is wrong (one message); 128 + n ended by signal n (130 Ctrl-C, 143 docker stop), where a pretraining
saves a checkpoint; 1 a bug of medssl (traceback), or another process of the same training has ended. `--help` imports only Typer, and
Typer's rich help is off, as it takes 0.4 seconds.
"""

import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from medssl import __version__
from medssl.cli_options import Data, DemoOut, Device, Out, Overwrite, Seed, Set
from medssl.exit_codes import handle_errors

app = typer.Typer(
    name="medssl",
    help="Self-supervised pretraining on medical images, and honest fine-tuning with few labels. Offline.\n\n"
    "\b\nFirst:  medssl demo\nThen:   medssl doctor\n        medssl prepare --data FOLDER\n        medssl pretrain --data FOLDER\n"
    "        medssl finetune --labels 10pct\n        medssl predict --data FOLDER",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The entry point of the command."""
    os.umask(0o077)  # only the user may read the files of a run
    signal.signal(signal.SIGTERM, _end)  # without a handler, process 1 of a container would ignore the signal
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None) is not None:
        print("warning: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is ignored: it would let a model file run code.", file=sys.stderr)
    app()


def _end(number: int, frame: object) -> None:  # noqa: ARG001 - the signature of a handler
    sys.exit(128 + number)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medssl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None: ...


@app.command()
def prepare(
    data: Data = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Prepare as this preset needs it.  [default: chosen]")] = None,
    out: Annotated[Path | None, typer.Option(metavar="STORE", help="The folder to write.  [default: in the cache, for pretrain]")] = None,
    shard: Annotated[str | None, typer.Option(metavar="N/OF", help="Do one share of the work, as in 3/16.")] = None,
    sets: Set = None,
) -> None:
    """Read all images once, show what was found, what was left out and what leaks, and write a store.

    Example: medssl prepare --data chestxray/
    """
    with handle_errors() as console:
        from medssl.commands.prepare import prepare as command

        command(console, data=data, preset=preset, out=out, shard=shard, sets=sets or ())


@app.command()
def pretrain(
    data: Data = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="The method to learn with.  [default: the preset's]")] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="A complete configuration.  [default: chosen by the data and the device]")
    ] = None,
    out: Out = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many times all images are seen.  [default: the preset's]")
    ] = None,
    seed: Seed = None,
    device: Device = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Continue this run from its last checkpoint.")] = None,
    overwrite: Overwrite = False,
    sets: Set = None,
) -> None:
    """Learn an encoder from images alone.

    Example: medssl pretrain --data chestxray/
    """
    with handle_errors() as console:
        from medssl.commands.pretrain import pretrain as command

        changes = (*(sets or ()), *((f"train.epochs={epochs}",) if epochs else ()))
        command(
            console,
            data=data,
            method=method,
            preset=preset,
            out=out,
            seed=seed,
            device=device,
            resume=resume,
            overwrite=overwrite,
            sets=changes,
        )


@app.command()
def finetune(
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of labels, or several: A,B.  [default: the only one]")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="10pct (or 10% or 0.1), 1pct,10pct,100pct, 50shot (patients a class) or all.")
    ] = None,
    mode: Annotated[str | None, typer.Option(metavar="MODE", help="linear (a probe on the encoder's features), knn or full.")] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="PATH", help="A run folder or an encoder file.  [default: the newest finished pretraining]")
    ] = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = None,
    device: Device = None,
    overwrite: Overwrite = False,
    sets: Set = None,
) -> None:
    """Make a classifier from an encoder and few labels, and measure the gain over the same network without pretraining.

    Example: medssl finetune --labels 10pct
    """
    with handle_errors() as console:
        if labels is not None:
            from medssl.data.split import parse_labels

            parse_labels(labels)
        from medssl.commands.finetune import finetune as command

        command(
            console,
            label=label,
            labels=labels,
            mode=mode,
            encoder=encoder,
            data=data,
            out=out,
            seed=seed,
            device=device,
            overwrite=overwrite,
            sets=sets or (),
        )


@app.command()
def predict(
    data: Annotated[
        str,
        typer.Option(metavar="PATH|NAME", help="New images: what finetune takes, with labels or without."),
    ],
    model: Annotated[
        str | None, typer.Option(metavar="PATH", help="A fine-tuning's run folder.  [default: the newest finished one]")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The table to write.")] = Path("predictions.csv"),
    abstain_below: Annotated[float, typer.Option(min=0, max=1, metavar="SHARE", help="Make no prediction below this confidence.")] = 0.0,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table if it exists.")] = False,
    sets: Set = None,
) -> None:
    """Write what a classifier predicts for new images, its confidence, and how much the images differ from the training images.

    Example: medssl predict --data ward/ --abstain-below 0.8
    """
    with handle_errors() as console:
        from medssl.commands.predict import predict as command

        command(console, data=data, model=model, out=out, abstain_below=abstain_below, device=device, overwrite=overwrite, sets=sets or ())


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
def demo(out: DemoOut = None, overwrite: Overwrite = False) -> None:
    """Show the whole way on synthetic radiographs. Needs no data, no network, and a few minutes.

    Example: medssl demo --out runs/demo
    """
    with handle_errors() as console:
        from medssl.commands.demo import demo as command

        command(console, out=out, overwrite=overwrite)


@app.command()
def doctor(
    data: Data = None,
    burn_in: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="Also train on phantoms for this time, and compare speed and numbers.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of lines.")] = False,
) -> None:
    """Check this machine before a training: software, GPUs, memory, folders, decoders, tracking server.

    The exit code is 2 if something is wrong, and 0 otherwise, also with warnings.

    Example: medssl doctor --burn-in 60
    """
    with handle_errors() as console:
        from medssl.commands.doctor import doctor as command

        healthy = command(console, data=data, burn_in=burn_in, as_json=as_json)
    if not healthy:
        raise typer.Exit(2)


@app.command()
def settings(
    word: Annotated[str | None, typer.Argument(metavar="WORD", help="Only settings with this word in their name or meaning.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a page in Markdown.")] = False,
) -> None:
    """List what --set can change: name, type or choices, default, meaning.

    Example: medssl settings temperature
    """
    with handle_errors() as console:
        from medssl.commands.settings import settings as command

        command(console, word=word, markdown=markdown)


@app.command()
def track(runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, or folders of them.")]) -> None:
    """Send to MLflow what is missing there of finished or stopped runs, because its server was down. Nothing is sent twice.

    Example: medssl track runs
    """
    with handle_errors() as console:
        from medssl.commands.track import track as command

        command(console, runs=runs)


@app.command(hidden=True)
def job(message: str) -> None:
    """One job of a study, as medssl.studies.executor starts it."""
    with handle_errors() as console:
        from medssl.studies.worker import run_job

        run_job(console, message)
