"""One job of a study, in a process of its own: `python -m medssl job JSON`. It ends with the process that started it.

What it says goes to the job's log.
"""

import importlib
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

from medssl.types import Reporter

_PATHS = {"out", "resume", "cells"}


def run_job(reporter: Reporter, message: str) -> None:
    """Do what `executor` asks for: a command of medssl and its arguments."""
    threading.Thread(target=_follow, name="lifeline", daemon=True).start()
    job = json.loads(message)
    arguments: dict[str, Any] = {key: Path(value) if key in _PATHS else value for key, value in job["arguments"].items()}
    getattr(importlib.import_module(f"medssl.commands.{job['command']}"), job["command"])(reporter, **arguments)


def _follow() -> None:
    """Standard input is a pipe that nobody writes into: it ends with the other side, also by a kill. A pretraining then saves itself."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
