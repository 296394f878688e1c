"""A wish to stop sets a flag; a second Ctrl-C ends the process, and nothing else does."""

import os
import signal
import subprocess
import sys

import pytest

from medssl.train.stop import StopRequested, stop_flag

WISHES = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PROGRAM = """
import os, signal, sys
from medssl.train.stop import stop_flag
with stop_flag() as stop:
    for number in map(int, sys.argv[1:]):
        os.kill(os.getpid(), number)
    print("went on")
"""


def after(*numbers: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, *map(str, numbers)], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", WISHES)
def test_a_wish_sets_the_flag_and_afterwards_the_former_handler_is_back(number):
    former = signal.getsignal(number)
    with stop_flag() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal == number
    assert signal.getsignal(number) is former


def test_what_is_ignored_stays_ignored():
    former = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with stop_flag() as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not stop
    finally:
        signal.signal(signal.SIGUSR1, former)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_same_wish_again_is_no_other_one(number):
    with stop_flag() as stop:
        for wish in (signal.SIGINT, number, number):
            os.kill(os.getpid(), wish)
        assert stop.signal == signal.SIGINT, "the exit code is that of the first"


@pytest.mark.fault("R3")
@pytest.mark.parametrize("first", WISHES)
def test_ctrl_c_after_any_wish_ends_the_process_at_once(first):
    ended = after(first, signal.SIGINT)
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, ""), ended.stderr


def test_a_block_that_may_take_long_is_broken_off_by_a_wish_during_it_or_before_it():
    with stop_flag() as stop:
        with pytest.raises(StopRequested), stop.interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("it went on")
        with pytest.raises(StopRequested), stop.interruptible():
            raise AssertionError("it began")
