"""Runs jobs in parallel, each in its own process with a share of the cores. A job that fails does not end the others."""

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

_POLL_SECONDS, _STOP_SECONDS = 0.1, 30.0
_LAST_LINES = 8


@dataclass(frozen=True)
class Failure:
    """A job that failed. `lines`: the last lines of its log; empty if the job did not start, as a job that it needs failed."""

    job: Job
    lines: Sequence[str]


@dataclass(frozen=True)
class _RunningJob:
    job: Job
    process: subprocess.Popen[bytes]
    started: float

    def close(self) -> None:
        """Closes the pipe of a process that has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()


def n_jobs(wanted: int | None, device: str) -> int:
    """The number of parallel jobs: `wanted`, or if it is None, one on a GPU, and one for every two cores on a CPU."""
    if wanted is not None and wanted < 1:
        raise UserError(f"--jobs {wanted}: at least one job must run at a time.")
    return wanted or (1 if device == "cuda" else max(1, cores() // 2))


def run_jobs(jobs: Sequence[Job], number: int, reporter: Reporter) -> list[Failure]:
    """Run all jobs, `number` at a time, each after the jobs that it needs; return the failures. The output of a job is in NAME.log next to
    its run folder.

    If an exception or a signal ends this function, it stops the processes; a pretraining then saves a checkpoint.
    """
    waiting, running = list(jobs), list[_RunningJob]()
    done, failures = set[str](), dict[str, Failure]()
    names = {job.name for job in jobs}
    try:
        while waiting or running:
            for job in [job for job in waiting if failures.keys() & set(job.after)]:
                waiting.remove(job)
                failures[job.name] = Failure(job, ())
            for job in [job for job in waiting if not names & set(job.after) - done][: number - len(running)]:
                waiting.remove(job)
                running.append(_start(job, number))
                reporter.say(f"started   {job.name}")
            time.sleep(_POLL_SECONDS)
            for ended in [item for item in running if item.process.poll() is not None]:
                running.remove(ended)
                ended.close()
                code, name = ended.process.returncode, ended.job.name
                seconds = f"{time.monotonic() - ended.started:.0f} s"
                if code == 0:
                    done.add(name)
                    reporter.say(f"done      {name} in {seconds} ({len(done)} of {len(jobs)})")
                else:
                    failures[name] = Failure(ended.job, [*_last_lines(ended.job), f"(exit code {code})"])
                    reporter.warn(f"{name} failed after {seconds}")
    finally:
        _stop_processes(running)
    return list(failures.values())


def _start(job: Job, number: int) -> _RunningJob:
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, cores() // number))
    message = json.dumps({"command": job.command, "arguments": {k: v for k, v in job.arguments.items() if v is not None}})
    with _log_file(job).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "medssl", "job", message],
            stdin=subprocess.PIPE,  # the job ends itself when this pipe is closed
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C on the terminal reaches only this process
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"},
        )
    return _RunningJob(job, process, time.monotonic())


def _stop_processes(running: Sequence[_RunningJob]) -> None:
    """Ask the processes to stop; kill those that still run after 30 seconds or at a second Ctrl-C."""
    for item in running:
        item.process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    try:
        for item in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                item.process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for item in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(item.process.pid, signal.SIGKILL)
            item.process.wait()
            item.close()


def _log_file(job: Job) -> Path:
    return job.folder.with_name(f"{job.folder.name}.log")


def _last_lines(job: Job) -> list[str]:
    return _log_file(job).read_text("utf-8", errors="replace").splitlines()[-_LAST_LINES:]
