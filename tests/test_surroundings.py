"""What tests start ends with them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from surroundings import end_with_parent
child = subprocess.Popen(["sleep", "100"], start_new_session=True, preexec_fn=end_with_parent)
print(child.pid, flush=True)
time.sleep(100)
"""


def is_alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_of_a_test_does_not_outlive_a_killed_pytest() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM, str(Path(__file__).parent)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    alive = is_alive(child)
    if alive:
        os.kill(child, signal.SIGKILL)
    assert not alive
