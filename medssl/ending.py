"""How a command ends: its exit code, one message instead of a traceback for what is not a fault of medssl, a home where there is none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medssl.errors import Interrupted, LostProcess, UserError

if TYPE_CHECKING:
    from medssl.console import Console


@contextmanager
def outcome() -> Iterator["Console"]:
    """A console for the command, and its exit code."""
    from medssl.console import Console
    from medssl.train.launch import launched

    console = Console()
    try:
        launch = launched()
        console = Console(launch.rank, launch.size)
        _settle_home(console)
        with console:
            yield console
    except UserError as error:
        console.fail(str(error))
        _tell_torchrun(error)
        raise typer.Exit(2) from None
    except LostProcess as error:
        console.fail(str(error))
        raise typer.Exit(1) from None
    except Interrupted as stop:
        console.warn(str(stop))
        raise typer.Exit(128 + stop.signal if stop.signal else 3) from None
    except KeyboardInterrupt:
        console.warn("Stopped. There is no checkpoint to go on from.")
        raise typer.Exit(130) from None
    except Exception as error:
        _tell_torchrun(error)
        raise


def _settle_home(console: "Console") -> None:
    """MLflow cannot even be imported by a user without a home that he may write in, as containers and some nodes have them."""
    from medssl.data.cache import MAKESHIFT, cache_folder

    with suppress(RuntimeError):
        if os.access(Path.home(), os.W_OK):
            return
    os.environ |= {"MEDSSL_CACHE": str(cache_folder()), "HOME": str(MAKESHIFT.absolute())}
    with suppress(OSError):  # what cannot be written there says so itself
        MAKESHIFT.mkdir(exist_ok=True)
    console.warn(f"There is no home folder that can be written: {MAKESHIFT.absolute()} takes its place. Set HOME to another one.")


def _tell_torchrun(error: Exception) -> None:
    """What torchrun shows as the root cause, of the process that failed first."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
