"""The command line: commands and their options, one file a group. The work is done in `medssl.commands`.

Exit codes: 0 done; 2 the input is wrong (one message); 128 + n ended by signal n (130 Ctrl-C, 143 docker stop), where a pretraining
saves a checkpoint; 1 a bug of medssl (traceback), or another process of the same training has ended. `--help` imports only Typer, and
Typer's rich help is off, as it takes 0.4 seconds.
"""

from medssl.cli.app import app, main

# isort: off
from medssl.cli import training, encoders, results, help, jobs  # in the order of the help

__all__ = ["app", "encoders", "help", "jobs", "main", "results", "training"]
