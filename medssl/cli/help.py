"""The commands of the first hour: the demo, the check of the machine, the list of settings."""

from typing import Annotated

import typer

from medssl.cli.app import app
from medssl.cli.options import Data, DemoOut, Overwrite
from medssl.exit_codes import handle_errors


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
