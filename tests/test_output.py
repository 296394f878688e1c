"""Standard output and error that cannot be written any more: the program goes on, and the reason is kept."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from medssl.output import reasons_kept_in

PROGRAM = """
import os, signal, sys
from pathlib import Path
from medssl.output import make_lasting, reasons_kept_in
make_lasting()
os.kill(os.getpid(), signal.SIGHUP)
with reasons_kept_in(Path(sys.argv[1])):
    for number in range(3):
        print("line", number, flush=True)
        print("error", number, file=sys.stderr)
        os.write(2, b"from a library in C")
    Path(sys.argv[1], "done").touch()
print("after", "x" * 100_000)
"""


def start(folder: Path, out: int | None, errors: int | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], stdout=out, stderr=errors)


def pipe_without_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def terminal_that_is_closed() -> int:
    leader, follower = pty.openpty()
    os.close(leader)
    return follower


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.fault("R29")
@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (full_disk, "No space left on device"),
        (pipe_without_reader, "Broken pipe"),
        (terminal_that_is_closed, "Input/output error"),
    ],
)
def test_what_cannot_be_written_is_given_up_and_the_reason_kept(tmp_path: Path, lost, reason: str) -> None:
    stream = lost()
    process = start(tmp_path, stream, stream)
    os.close(stream)
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "done").is_file()
    told = (tmp_path / "console.txt").read_text().splitlines()
    assert sorted(line.partition("Z ")[2].partition(" cannot")[0] for line in told) == ["The standard error", "The standard output"]
    assert all(f": {reason}. The run goes on" in line for line in told)


def test_outputs_that_can_be_written_are_as_ever_and_one_that_is_lost_leaves_the_other(tmp_path: Path) -> None:
    process = start(tmp_path, subprocess.PIPE, subprocess.PIPE)
    out, errors = process.communicate(timeout=60)
    assert out.decode().splitlines()[:3] == ["line 0", "line 1", "line 2"]
    assert len(out) > 100_000
    assert errors.decode().startswith("error 0\nfrom a library in C")
    assert not (tmp_path / "console.txt").exists()
    stream = full_disk()
    process = start(tmp_path, stream, subprocess.PIPE)
    os.close(stream)
    assert process.communicate(timeout=60)[1].decode().startswith("error 0\n")
    assert process.returncode == 0


def test_a_reason_of_the_time_before_the_run_folder_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medssl.output._lost", ["It was lost early.\n"])
    with reasons_kept_in(tmp_path):
        pass
    assert (tmp_path / "console.txt").read_text() == "It was lost early.\n"
