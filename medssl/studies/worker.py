"""One job of a study in its own process: `python -m medssl job JSON`. The job ends when the process that started it ends."""

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
    """Run a command of medssl: `message` is a JSON object with "command" and "arguments", as medssl.studies.executor writes it."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    job = json.loads(message)
    arguments: dict[str, Any] = {key: Path(value) if key in _PATHS else value for key, value in job["arguments"].items()}
    getattr(importlib.import_module(f"medssl.commands.{job['command']}"), job["command"])(reporter, **arguments)


def _end_with_parent() -> None:
    """Wait for the end of the parent process, then stop this one. Standard input is a pipe to which nothing is written, so the read returns
    when the parent has ended, even after a kill. At SIGTERM a pretraining saves a checkpoint."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
