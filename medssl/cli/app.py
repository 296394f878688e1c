"""The program itself: its help, its entry point, its signals. The commands add themselves in the files beside this one."""

import os
import signal
import sys
from typing import Annotated

import typer

from medssl import __version__
from medssl.output import make_lasting

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
    make_lasting()
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
