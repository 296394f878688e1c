"""What a user and a log file see of a running command."""

import io
import os
import pty
import re
import subprocess
import sys
import textwrap

import pytest

from medssl import console as console_module
from medssl.console import Console, format_duration, format_facts, printable


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, as a list of one number."""
    now = [0.0]
    monkeypatch.setattr(console_module.time, "monotonic", lambda: now[0])
    return now


def test_a_log_file_gets_a_line_every_ten_seconds_and_one_at_the_end(clock, capsys):
    with Console() as console:
        for step in range(1, 541):
            clock[0] += 0.25
            console.progress("pretrain", step, 540, {"epoch": step // 9, "loss": 4.19617, "knn": 0.871, "images_per_second": 55.12})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14  # 539 steps of 0.25 s after the first: 13 full ten seconds, and the end
    assert lines[0] == "pretrain  41/540  epoch 4  loss 4.196  knn 0.871  55.1 images/s  about 2:05 left"  # (540 - 41) x 0.25 s = 124.75 s
    assert lines[-1] == "pretrain  540/540  epoch 60  loss 4.196  knn 0.871  55.1 images/s  in 2:15"


def test_time_left_counts_from_where_a_resumed_run_began_without_its_first_and_slower_piece(clock, capsys):
    console = Console()
    for clock[0], done in ((0.0, 900), (20.0, 901), (40.0, 911)):
        console.progress("pretrain", done, 1000)
    # Nothing is timed yet in the second call. Then ten pieces took 20 s, and 89 are left: 178 s.
    assert capsys.readouterr().out == "pretrain  901/1000\npretrain  911/1000  about 2:58 left\n"


def test_a_task_that_knows_its_time_left_is_believed(clock, capsys):
    console = Console()
    for facts in ({}, {"seconds_left": float("nan")}, {"seconds_left_at_least": 61.0}, {"seconds_left": 130.0}):
        console.progress("t", int(clock[0]), 100, facts)
        clock[0] += 10.0
    assert capsys.readouterr().out == "t         10/100\nt         20/100  at least 1:01 left\nt         30/100  about 2:10 left\n"


def test_a_verdict_stands_in_columns_its_further_lines_below_and_forges_none(capsys):
    Console().verdict("warning", "MLflow", "no answer\x1b[2K\nStart it.")
    assert capsys.readouterr().out == "warning  MLflow         no answer\\x1b[2K\n" + 24 * " " + "Start it.\n"


def test_facts_stay_until_others_replace_them(clock, capsys):
    console = Console()
    console.progress("t", 0, 9, {"epoch": 1, "knn": 0.5})
    clock[0] = 10.0
    console.progress("t", 3, 9, {"epoch": 2})
    assert capsys.readouterr().out == "t         3/9  epoch 2  knn 0.5\n"


def test_a_task_of_the_same_name_begins_anew_once_the_first_is_done(clock, capsys):
    console = Console()
    for _ in range(2):
        console.progress("t", 1, 2, {"epoch": 1})
        clock[0] += 60
        console.progress("t", 2, 2)
    assert capsys.readouterr().out == "t         2/2  epoch 1  in 1:00\n" * 2


def test_nothing_to_do_is_done(capsys):
    Console().progress("prepare", 0, 0)
    assert capsys.readouterr().out == "prepare   0/0  in 0:00\n"


def test_messages_and_warnings_go_to_different_streams(capsys):
    console = Console()
    console.say("found 12 [images] :lungs:")
    console.warn("one is broken")
    console.fail("no folder")
    assert tuple(capsys.readouterr()) == ("found 12 [images] :lungs:\n", "warning: one is broken\nerror: no folder\n")


def test_long_messages_are_not_cut_or_wrapped(capsys):
    Console().say("x" * 500)
    assert capsys.readouterr().out == "x" * 500 + "\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nerror: forged", "a\n  error: forged"),
        ("a\n    indented", "a\n    indented"),
        ("a\r\x1b[31mred\tb", r"a\r\x1b[31mred\tb"),
        ("right\u202eleft", r"right\u202eleft"),
        ("line\u2028break", r"line\u2028break"),
        (os.fsdecode(b"\xff.png"), r"\udcff.png"),
        ("Röntgen 肺", "Röntgen 肺"),
    ],
)
def test_a_file_name_cannot_forge_a_line_or_move_the_cursor(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (130, "2:10"), (3 * 3600, "3:00:00"), (90061, "25:01:01")])
def test_durations_read_like_a_clock(seconds, text):
    assert format_duration(seconds) == text


def test_facts_that_are_not_finite_are_shown_as_they_are():
    assert format_facts({"loss": float("nan"), "norm": float("inf"), "lr": 1.25e-05}) == ["loss nan", "norm inf", "lr 1.25e-05"]


def on_a_terminal(code, repository):
    """What a terminal 100 columns wide is sent by `code`, and the exit code."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(repository)}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=follower, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    sent = io.BytesIO()
    try:
        while chunk := os.read(leader, 4096):
            sent.write(chunk)
    except OSError:  # a terminal that is left by its last process
        pass
    os.close(leader)
    return sent.getvalue().decode(), process.wait()


def test_a_terminal_gets_a_bar_with_warnings_above_it_and_its_cursor_back_after_ctrl_c(repository):
    code = """
        import time
        from medssl.console import Console
        with Console() as console:
            for step in range(1, 41):
                console.progress("pretrain", step, 60, {"epoch": 3, "loss": 2.5})
                time.sleep(0.01)
                if step == 20:
                    console.warn("one is broken")
            raise KeyboardInterrupt
    """
    sent, exit_code = on_a_terminal(code, repository)
    assert exit_code != 0
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent).replace("\r", "\n").split("\n")
    assert any(re.fullmatch(r"pretrain +[━╸╺]+ \d+/60 epoch 3  loss 2.5  about 0:0\d left *", frame) for frame in frames)
    assert "warning: one is broken" in frames
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")  # the cursor is shown again
