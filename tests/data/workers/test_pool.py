import importlib
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medssl.config import Limits
from medssl.data.workers import pool, run_in_workers, stopwatch
from medssl.errors import ReadError, UserError

PATIENT = Limits(seconds=20)


@pytest.fixture(scope="module", autouse=True)
def _importable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A module that new workers can import, with a task that calls what its items name."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "calling.py").write_text(
        "import importlib\n"
        "class Call:\n"
        "    def __init__(self, module):\n"
        "        self.module = importlib.import_module(module)\n"
        "    def __call__(self, item):\n"
        "        return getattr(self.module, item[0])(*item[1])\n"
        "def refuse(module):\n"
        "    from medssl.errors import UserError\n"
        "    raise UserError('data.transforms: wrong')\n"
        "def spin(seconds):\n"
        "    import time\n"
        "    until = time.process_time() + seconds\n"
        "    while time.process_time() < until:\n"
        "        pass\n"
        "    return 'done'\n"
        "from time import sleep\n"
    )
    pool.end_workers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.syspath_prepend(str(folder))
        yield
    pool.end_workers()


def called(module: str, calls: list[tuple[str, tuple[Any, ...]]], limits: Limits = PATIENT, processes: int = 1) -> list[Any]:
    """What each (function of `module`, arguments) returns in a worker."""
    return list(run_in_workers(importlib.import_module("calling").Call, (module,), calls, limits, processes))


def test_of_large_results_few_are_computed_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[tuple[str, tuple[Any, ...]]]:
        for number in range(40):
            taken.append(number)
            yield "add", (number, 1)

    results = run_in_workers(importlib.import_module("calling").Call, ("operator",), items(), PATIENT, 1, large=True)
    assert next(results) == 1 and len(taken) <= 4
    assert list(results) == list(range(2, 41))


def test_results_come_in_the_order_of_the_items_from_any_number_of_workers() -> None:
    for processes in (1, 2, 3):
        assert list(run_in_workers(operator.itemgetter, (1,), ((n, n * n) for n in range(500)), PATIENT, processes)) == [
            n * n for n in range(500)
        ]


def test_items_that_belong_together_are_done_by_one_worker() -> None:
    slices = [("getpid", (), number // 60) for number in range(300)]
    workers = list(run_in_workers(importlib.import_module("calling").Call, ("os",), slices, PATIENT, 2, group_by=operator.itemgetter(2)))
    assert all(len(set(workers[start : start + 60])) == 1 for start in range(0, 300, 60))
    assert len(set(workers)) == 2


@pytest.mark.parametrize(
    ("keys", "lengths"),
    [("a" * 130, [64, 64, 2]), ("abcdefghijkl", [8, 4]), ("a" * 20 + "b" * 20, [20, 20]), ("aabb" + "c" * 20, [8, 16])],
)
def test_messages_hold_eight_items_or_sixty_four_that_belong_together(keys: str, lengths: list[int]) -> None:
    assert [len(chunk) for chunk in pool._messages(enumerate(keys), str)] == lengths
    assert [len(chunk) for chunk in pool._messages(enumerate("x" * 20), lambda _: None)] == [8, 8, 4]


@pytest.mark.fault("S17")
def test_an_item_that_ends_its_process_costs_itself_only() -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = [("getpid", ())] * 40
    calls[3] = calls[20] = ("abort", ())
    results = called("os", calls, PATIENT, 2)
    assert [n for n, result in enumerate(results) if isinstance(result, ReadError)] == [3, 20]
    assert {str(results[n]) for n in (3, 20)} == {"crashed: its decoder ended the process"}
    assert os.getpid() not in results


def test_an_item_that_hangs_is_given_up_after_the_limit() -> None:
    began = time.monotonic()
    calls = [("sleep", (0,)), ("sleep", (60,)), ("sleep", (0,))]
    results = called("time", calls, Limits(seconds=1), 1)
    assert time.monotonic() - began < 10
    assert [str(result) for result in results] == ["None", "timed_out: not read within 1 seconds", "None"]


def test_an_item_that_takes_too_much_memory_is_refused() -> None:
    calls = [("bytearray", (10**8,)), ("bytearray", (10**9,)), ("bytearray", (5,))]
    results = called("builtins", calls, Limits(memory_bytes=5 * 10**8), 1)
    assert [len(result) if isinstance(result, bytearray) else result.reason for result in results] == [10**8, "too_much_memory", 5]


def test_any_other_exception_costs_its_item_and_does_not_quote_it() -> None:
    (result,) = called("builtins", [("int", ("DOE^JOHN",))])
    assert str(result) == "failed: ValueError while it was read"


def test_a_user_error_ends_the_call() -> None:
    with pytest.raises(UserError, match="Did you mean 'pnnclr'"):
        called("medssl.config", [("resolve", ({"method": "pnclr"},))], Limits(seconds=120))  # it imports torch, which takes its time


def test_workers_are_kept_for_the_next_call_and_those_that_died_are_replaced() -> None:
    (first,) = called("os", [("getpid", ())])
    assert called("os", [("getpid", ())], PATIENT, 1) == [first]
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    time.sleep(0.2)
    assert first not in called("os", [("getpid", ())], PATIENT, 1)


def test_a_call_that_is_given_up_leaves_no_process_with_its_work() -> None:
    results = run_in_workers(
        importlib.import_module("calling").Call, ("time",), [("sleep", (0,)), *[("sleep", (30,))] * 5], Limits(seconds=60), 1
    )
    assert next(results) is None
    results.close()
    began = time.monotonic()
    assert called("time", [("sleep", (0,))], PATIENT, 1) == [None]
    assert time.monotonic() - began < 10
    assert all(worker.process.poll() is None for worker in pool._idle)
    assert Path(f"/proc/{pool._idle[0].process.pid}").exists()


@pytest.mark.parametrize(
    ("task", "module", "error", "told"),
    [
        ("refuse", "os", UserError, r"^data\.transforms: wrong$"),
        ("Call", "absent", RuntimeError, "cannot be set up: ModuleNotFoundError: No module named 'absent'"),
    ],
)
def test_an_error_while_a_worker_is_set_up_ends_the_call_with_its_text(task: str, module: str, error: type[Exception], told: str) -> None:
    make = getattr(importlib.import_module("calling"), task)
    with pytest.raises(error, match=told):
        list(run_in_workers(make, (module,), [("getpid", ())] * 30, PATIENT, 1))


def test_what_the_system_ends_or_does_not_open_is_told_apart_from_what_a_decoder_cannot_read() -> None:
    pid = called("os", [("getpid", ())])[0]
    calls = [("kill", (pid, signal.SIGKILL)), ("open", ("/absent", os.O_RDONLY))]
    assert [str(result) for result in called("os", calls)] == [
        "killed: the system ended its process, perhaps for want of memory",
        "unreadable: No such file or directory",
    ]


def test_one_slow_read_costs_the_other_items_of_its_group_no_time() -> None:
    slices = [("sleep", (60,), "volume")] * 200 + [("sleep", (0,), "next")] * 3
    began = time.monotonic()
    results = list(
        run_in_workers(importlib.import_module("calling").Call, ("time",), slices, Limits(seconds=1), 1, group_by=operator.itemgetter(2))
    )
    assert time.monotonic() - began < 10
    assert [str(result) for result in results] == ["timed_out: not read within 1 seconds"] * 200 + ["None"] * 3


def test_a_group_that_ends_three_workers_ends_no_more_of_them() -> None:
    slices = [("abort", (), "volume")] * 40 + [("getpid", (), "next")]
    *volume, after = run_in_workers(importlib.import_module("calling").Call, ("os",), slices, PATIENT, 1, group_by=operator.itemgetter(2))
    assert {str(result) for result in volume} == {"crashed: its decoder ended the process"}
    assert isinstance(after, int)


@pytest.mark.fault("R27")
def test_items_and_results_that_no_pipe_holds_do_not_wait_for_each_other() -> None:
    contents = [bytes([number]) * 400_000 for number in range(30)]
    assert called("builtins", [("bytes", (content,)) for content in contents], PATIENT, 1) == contents


@pytest.mark.fault("R27")
def test_a_worker_that_reads_nothing_is_given_up_after_the_limit() -> None:
    pid = called("os", [("getpid", ())])[0]
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    results = called("builtins", [("len", (bytes(10**6),))] * 3, Limits(seconds=1), 1)
    assert [str(result) for result in results] == ["timed_out: not read within 1 seconds", "1000000", "1000000"]
    assert time.monotonic() - began < 15


@pytest.mark.fault("R27")
def test_what_a_decoder_has_started_ends_with_its_worker() -> None:
    (started,) = called("os", [("spawnlp", (os.P_NOWAIT, "sleep", "sleep", "60"))])
    assert Path(f"/proc/{started}").exists()
    pool.end_workers()
    ends = time.monotonic() + 5
    while (stat := Path(f"/proc/{started}/stat")).exists() and stat.read_text().split()[2] != "Z":
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.fault("R27")
def test_a_hard_limit_of_the_address_space_is_the_limit_of_the_workers() -> None:
    program = (
        "import operator, resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))\n"
        "from medssl.config import Limits\n"
        "from medssl.data.workers import run_in_workers\n"
        "print(list(run_in_workers(operator.itemgetter, (1,), [(0, 1), (0, 2)], Limits(memory_bytes=2**40), 1)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[1, 2]", 0), done.stderr


BUSY = "import os, time\nwhile os.getppid() > 1:\n    pass"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/schedstat").is_file(), reason="the system does not say how long a process waits for a core")
def test_time_in_which_other_processes_have_the_core_is_not_time_of_the_item() -> None:
    """Seven other processes share the core: an item of 0.6 seconds takes about five of them."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(7)]
    try:
        pool.end_workers()
        began = time.monotonic()
        results = called("calling", [("spin", (0.6,)), ("sleep", (20,))], Limits(seconds=2))
        assert [str(result) for result in results] == ["done", "timed_out: not read within 2 seconds"]
        assert time.monotonic() - began > 4
    finally:
        for process in others:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, cores)
        pool.end_workers()


def test_a_stopwatch_leaves_out_the_time_without_a_core_and_counts_all_time_where_nobody_knows_it(tmp_path, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = stopwatch.Stopwatch(os.getpid())
    watch._file = tmp_path / "schedstat"
    watch._file.write_text("7 1000000000 3")
    watch.restart()
    now[0], _ = 105.0, watch._file.write_text("9 4500000000 5")
    assert watch.seconds_left(10) == 5.0
    assert watch.seconds_left(2) == pytest.approx(0.5), "of five seconds it waited for a core 3.5"
    now[0] = 106.0
    assert watch.seconds_left(2) == pytest.approx(-0.5)
    watch._file.unlink()
    watch.restart()
    now[0] = 109.0
    assert watch.seconds_left(2) == -1.0
