"""The frame of every command: exit codes, one message without a traceback for errors of the user, and a home folder if there is none."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medssl.errors import Interrupted, LostProcess, UserError

if TYPE_CHECKING:
    from medssl.console import Console


@contextmanager
def handle_errors() -> Iterator["Console"]:
    """The console of a command. An error in the block becomes a message and an exit code; a bug keeps its traceback."""
    from medssl.console import Console
    from medssl.train.launch import read_launch

    console, launch = Console(), None
    try:
        launch = read_launch()
        console = Console(launch.rank, launch.size)
        _replace_missing_home(console)
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
        if launch and launch.size > 1:  # torchrun sends SIGTERM to the others once one process has ended: the exit code stays this one's
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        console.warn(str(stop))
        raise typer.Exit(128 + stop.signal if stop.signal else 3) from None
    except KeyboardInterrupt:
        console.warn("Stopped. There is no checkpoint from which the run can continue.")
        raise typer.Exit(130) from None
    except Exception as error:
        _tell_torchrun(error)
        raise


def _replace_missing_home(console: "Console") -> None:
    """Containers and some cluster nodes give users no home folder that they can write to, and importing MLflow fails without one."""
    from medssl.data.cache import MAKESHIFT, cache_folder

    with suppress(RuntimeError):
        if os.access(Path.home(), os.W_OK):
            return
    os.environ |= {"MEDSSL_CACHE": str(cache_folder()), "HOME": str(MAKESHIFT.absolute())}
    with suppress(OSError):  # the first write into the folder reports the error
        MAKESHIFT.mkdir(exist_ok=True)
    console.warn(f"There is no home folder that can be written: {MAKESHIFT.absolute()} is used instead. Set HOME to another folder.")


def _tell_torchrun(error: Exception) -> None:
    """Records the error where torchrun looks for it: torchrun shows the first one as the root cause."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
