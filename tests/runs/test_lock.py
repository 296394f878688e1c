"""Two runs in one folder: the second is refused, whatever machine the first is on, and a dead one keeps nobody out. With real processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medssl.errors import UserError
from medssl.runs import lock
from medssl.runs.lock import LOCK, lock_run_dir
from medssl.runs.run_dir import open_run

# Holds the folder until its standard input ends. "apart": it is on another machine, and the drive keeps its locks from us. "slow": it
# takes a while to write its name. "forked": it has a child, which prints its number.
HOLDER = """
import fcntl, os, sys, time
from pathlib import Path
from medssl.runs import lock
folder, how = Path(sys.argv[1]), sys.argv[2]
lock.RENEW_SECONDS = 0.05
if how == "apart":
    lock.BOOT_ID = folder.parent / "kernel"
    lock.BOOT_ID.write_text("another")
    def flock(handle, operation):
        raise OSError(37, "No locks available")
    fcntl.flock = flock
if how == "slow":
    write = lock._write_owner
    def slowly(handle):
        print("held", flush=True)
        time.sleep(0.3)
        write(handle)
    lock._write_owner = slowly
with lock.lock_run_dir(folder, print):
    if how == "forked":
        if os.fork() == 0:  # the child says its number, once it has started
            print(os.getpid(), flush=True)
            time.sleep(60)
            os._exit(0)
    else:
        print("held", flush=True)
    sys.stdin.read()
"""

# Waits for a file to appear, then tries to hold the folder; once all have tried, the one that does lets go.
RACER = """
import sys, time
from pathlib import Path
from medssl.errors import UserError
from medssl.runs.lock import lock_run_dir
work, number, racers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for round in range(int(sys.argv[4])):
    here = work / str(round)
    (here / f"ready-{number}").touch()
    while len(list(here.glob("ready-*"))) < racers:
        pass
    warned = []
    try:
        with lock_run_dir(here, warned.append):
            (here / f"won-{number}").touch()
            while len(list(here.glob("lost-*"))) < racers - 1:
                time.sleep(0.001)
    except UserError as error:
        (here / f"lost-{number}").touch()
        assert "in use by process" in str(error), error
    assert not warned, warned
"""

# Holds the folder again and again, as soon as it is free, and notes where another one is in it at the same time.
TAKER = """
import os, sys
from pathlib import Path
from medssl.errors import UserError
from medssl.runs.lock import lock_run_dir
folder, times = Path(sys.argv[1]), int(sys.argv[2])
while times:
    try:
        with lock_run_dir(folder):
            os.close(os.open(folder / "somebody", os.O_CREAT | os.O_EXCL))
            (folder / "somebody").unlink()
            times -= 1
    except UserError:
        pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


class Holder:
    """A process that holds a folder. `said`: its line."""

    def __init__(self, folder: Path, how: str = "here") -> None:
        command = [sys.executable, "-c", HOLDER, str(folder), how]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.said = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    def end(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture
def holder(folder: Path) -> Iterator[Holder]:
    found = Holder(folder)
    yield found
    found.kill()


@pytest.mark.fault("R14")
def test_the_second_run_is_refused_and_told_who_is_at_work_since_when(folder, holder):
    started = time.time()
    with pytest.raises(UserError) as caught, lock_run_dir(folder):
        pass
    assert time.time() - started < 1, "it does not wait"
    name = f"in use by process {holder.process.pid} on {re.escape(socket.gethostname())} since 2"
    assert re.search(rf"{folder} is {name}[-0-9]+T[0-9:]+Z\. .*--out", str(caught.value))
    holder.end()
    assert list(folder.iterdir()) == []
    warned: list[str] = []
    with lock_run_dir(folder, warned.append):
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
    assert warned == []


@pytest.mark.fault("R14")
def test_a_run_that_has_just_started_is_named_too(folder):
    holder = Holder(folder, "slow")
    with pytest.raises(UserError, match=f"in use by process {holder.process.pid} "), lock_run_dir(folder):
        pass
    holder.end()


@pytest.mark.fault("R14")
def test_a_folder_in_use_is_not_overwritten(folder, holder):
    (folder / "config.yaml").write_text("seed: 0\n")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=f"in use by process {holder.process.pid}"), open_run(folder, "pretrain", "x", overwrite):
            pass
    assert (folder / "config.yaml").exists()
    holder.end()
    with open_run(folder, "pretrain", "x", overwrite=True):
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert list(folder.iterdir()) == []


@pytest.mark.fault("R14")
def test_the_lock_of_a_killed_run_is_taken_over_and_told_of(folder, holder):
    holder.kill()
    warned: list[str] = []
    with lock_run_dir(folder, warned.append):
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} "), lock_run_dir(folder):
            pass
    (note,) = warned
    assert f"was in use by process {holder.process.pid} on {socket.gethostname()} since 2" in note
    assert not (folder / LOCK).exists()


@pytest.mark.fault("R14")
def test_neither_a_number_that_another_process_has_by_now_nor_a_torn_file_keeps_anybody_out(folder, holder):
    holder.kill()
    owner = json.loads((folder / LOCK).read_text())
    (folder / LOCK).write_text(json.dumps({**owner, "pid": os.getppid()}))
    warned: list[str] = []
    with lock_run_dir(folder, warned.append):
        pass
    assert len(warned) == 1
    for torn in ("", "{"):
        (folder / LOCK).write_text(torn)
        with lock_run_dir(folder):
            pass


@pytest.mark.fault("R14")
def test_a_loader_process_that_outlives_its_run_does_not_keep_the_folder(folder):
    holder = Holder(folder, "forked")
    holder.kill()
    child = int(holder.said)
    try:
        os.kill(child, 0)  # it is alive
        with lock_run_dir(folder):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.fault("R14", "R13")
@pytest.mark.parametrize("clock", [1, 2e9])
def test_on_a_drive_without_locks_another_machines_run_is_seen_by_its_beat_whatever_the_clocks(folder, clock, monkeypatch):
    monkeypatch.setattr(lock, "SILENT_SECONDS", 1.0)
    holder = Holder(folder, "apart")
    assert holder.said == "held"
    os.utime(folder / LOCK, (clock, clock))
    warned: list[str] = []
    with pytest.raises(UserError, match=f"in use by process {holder.process.pid} "), lock_run_dir(folder, warned.append):
        pass
    assert "waiting 1 seconds" in warned[0]
    holder.kill()
    os.utime(folder / LOCK, (clock, clock))
    warned.clear()
    with lock_run_dir(folder, warned.append):
        pass
    assert ["waiting" in note for note in warned] == [True, False]
    assert "ended without releasing its lock" in warned[1]


def all_end_well(commands: list[list[str]]) -> bool:
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        said = [process.communicate(timeout=60)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * len(running), said
    return True


@pytest.mark.fault("R14")
def test_of_runs_that_start_in_the_same_moment_one_wins_and_all_others_are_refused(tmp_path):
    racers, rounds = 3, 40
    for number in range(rounds):
        (tmp_path / str(number)).mkdir()
    command = [sys.executable, "-c", RACER, str(tmp_path)]
    assert all_end_well([[*command, str(number), str(racers), str(rounds)] for number in range(racers)])
    assert [len(list(here.glob("won-*"))) for here in tmp_path.iterdir()] == [1] * rounds


def test_who_has_the_lock_of_a_file_that_nobody_has_written_does_not_wait_for_its_maker(folder):
    """All who are refused wait for the winner's name: it must not wait as long as they do."""
    (folder / LOCK).touch()
    began = time.monotonic()
    with lock_run_dir(folder):
        assert time.monotonic() - began < 0.5
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()


@pytest.mark.fault("R14")
def test_who_takes_a_folder_while_another_one_lets_it_go_is_alone_in_it(folder):
    assert all_end_well([[sys.executable, "-c", TAKER, str(folder), "100"]] * 3)
    assert list(folder.iterdir()) == []


@pytest.mark.fault("R14")
def test_who_lost_the_lock_file_does_not_take_away_the_next_ones(folder):
    first = Holder(folder)
    (folder / LOCK).unlink()
    second = Holder(folder)
    first.end()
    with pytest.raises(UserError, match=f"in use by process {second.process.pid} "), lock_run_dir(folder):
        pass
    second.end()
    assert list(folder.iterdir()) == []


@pytest.mark.fault("R5")
def test_what_a_killed_run_left_half_written_is_swept_and_nothing_else(folder):
    killed = (
        "import os, pathlib, sys; from medssl.files import atomic_file\nwith atomic_file(pathlib.Path(sys.argv[1])) as file: os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(folder / "last.ckpt")], check=False).returncode == 9
    (folder / "mine.tmp").touch()
    assert len(list(folder.iterdir())) == 2
    with lock_run_dir(folder):
        assert {path.name for path in folder.iterdir()} == {"mine.tmp", LOCK}


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(UserError, match="There is no run folder"), lock_run_dir(tmp_path / "none"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("R30")
@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"5", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_lock_of_a_run_that_has_ended_keeps_nobody_out(tmp_path, content):
    (tmp_path / LOCK).write_bytes(content)
    with lock_run_dir(tmp_path):
        assert json.loads((tmp_path / LOCK).read_bytes())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()
