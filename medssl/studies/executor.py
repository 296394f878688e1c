"""Jobs carried out side by side, each by a process of its own with its share of the cores. One that fails costs itself only."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.data.workers import cores
from medssl.errors import UserError
from medssl.studies.plan import Job
from medssl.types import Reporter

_LOOK_SECONDS, _END_SECONDS = 0.1, 30.0
_LAST_LINES = 8


@dataclass(frozen=True)
class Failure:
    """A job that did not end well, and the last lines that it said; none where a job that it needs had failed."""

    job: Job
    lines: Sequence[str]


@dataclass(frozen=True)
class _Worker:
    job: Job
    process: subprocess.Popen[bytes]
    begin: float

    def close(self) -> None:
        """Of a process that has ended: its pipe."""
        assert self.process.stdin is not None
        self.process.stdin.close()


def n_jobs(wanted: int | None, device: str) -> int:
    """How many jobs at a time: as `wanted`; else one on a GPU, on the CPU one for every two cores."""
    if wanted is not None and wanted < 1:
        raise UserError(f"--jobs {wanted}: at least one job must run at a time.")
    return wanted or (1 if device == "cuda" else max(1, cores() // 2))


def run_jobs(jobs: Sequence[Job], number: int, reporter: Reporter) -> list[Failure]:
    """Do all jobs, `number` at a time and each after those that it needs. What a job says stands in NAME.log beside its run folder.

    Whatever ends this ends the processes: pretrainings save a checkpoint.
    """
    waiting, running = list(jobs), list[_Worker]()
    ended, failures = set[str](), dict[str, Failure]()
    names = {job.name for job in jobs}
    try:
        while waiting or running:
            for job in [job for job in waiting if failures.keys() & set(job.after)]:
                waiting.remove(job)
                failures[job.name] = Failure(job, ())
            for job in [job for job in waiting if not names & set(job.after) - ended][: number - len(running)]:
                waiting.remove(job)
                running.append(_started(job, number))
                reporter.say(f"started   {job.name}")
            time.sleep(_LOOK_SECONDS)
            for worker in [worker for worker in running if worker.process.poll() is not None]:
                running.remove(worker)
                worker.close()
                code, name = worker.process.returncode, worker.job.name
                took = f"{time.monotonic() - worker.begin:.0f} s"
                if code == 0:
                    ended.add(name)
                    reporter.say(f"done      {name} in {took} ({len(ended)} of {len(jobs)})")
                else:
                    failures[name] = Failure(worker.job, [*_last_lines(worker.job), f"(exit code {code})"])
                    reporter.warn(f"{name} failed after {took}")
    finally:
        _end(running)
    return list(failures.values())


def _started(job: Job, number: int) -> _Worker:
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    threads = max(1, cores() // number)
    message = json.dumps({"command": job.command, "arguments": {k: v for k, v in job.arguments.items() if v is not None}})
    with _log(job).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "medssl", "job", message],
            stdin=subprocess.PIPE,  # its end tells the worker that this process is gone
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a key press on Ctrl-C is for this process
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"},
        )
    return _Worker(job, process, time.monotonic())


def _end(running: Sequence[_Worker]) -> None:
    """Asks them to stop, and makes them stop after a while, or at a second Ctrl-C."""
    for worker in running:
        worker.process.terminate()
    ends = time.monotonic() + _END_SECONDS
    try:
        for worker in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, ends - time.monotonic()))
    finally:
        for worker in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
            worker.close()


def _log(job: Job) -> Path:
    return job.folder.with_name(f"{job.folder.name}.log")


def _last_lines(job: Job) -> list[str]:
    return _log(job).read_text("utf-8", errors="replace").splitlines()[-_LAST_LINES:]
