"""The forwarder's thread against a stand-in for MLflow that fails on demand: what it promises whatever MLflow does."""

import threading
import time
from pathlib import Path

import pytest

from medssl.tracking import forwarder as module
from medssl.tracking.forwarder import Forwarder

OUTAGE = "MLflow at host: refused. The run continues, and metrics.jsonl keeps all of its records."


class Session:
    """Records what it is sent; `fail(name)` says which exception a call raises, if any. `rows` is what metrics.jsonl would hold."""

    address = "host"

    def __init__(self):
        self.run_id, self.rows, self.sent, self.files, self.status = "", [], [], [], None
        self.fail = lambda name: None

    def _call(self, name):
        if error := self.fail(name):
            raise error

    def open(self):
        self._call("open")
        self.run_id = "r1"

    def send_params(self):
        self._call("send_params")

    def send_metrics(self):
        self._call("send_metrics")
        self.sent += self.rows[len(self.sent) :]

    def log_artifact(self, path):
        self._call(path.name)
        self.files.append(path.name)

    def end(self, status):
        self._call("end")
        self.status = status


class Refusal(Exception):
    """What HTTP calls a client's error."""

    def __init__(self, status):
        super().__init__(f"error {status}")
        self.response = type("Response", (), {"status_code": status})


@pytest.fixture
def session():
    return Session()


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def asked():
    return threading.Event()


@pytest.fixture
def forwarder(session, warnings, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    yield Forwarder(session, tmp_path / "run", warnings.append, asked.is_set)
    assert not [thread for thread in threading.enumerate() if thread.name == "mlflow"], "a thread was left behind"


def log(forwarder, session, step):
    session.rows.append(step)
    forwarder.announce_row()


def wait_until(condition):
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)


def test_every_row_and_file_is_sent_once_and_in_order(forwarder, session, warnings):
    for step in range(500):
        log(forwarder, session, step)
    forwarder.log_artifact(Path("a.png"))
    forwarder.finish("FINISHED")
    assert session.sent == list(range(500))
    assert (session.files, session.status, warnings) == (["a.png"], "FINISHED", [])


def test_nothing_is_lost_in_outages_that_end_and_one_outage_is_told_once(forwarder, session, warnings, tmp_path):
    tries = {"open": 3, "send_metrics": 4, "a.png": 2}
    counted = dict.fromkeys(tries, 0)

    def fail(name):
        counted[name] = counted.get(name, 0) + 1
        return ConnectionError("refused") if counted[name] <= tries.get(name, 0) else None

    session.fail = fail
    for step in range(20):
        log(forwarder, session, step)
    forwarder.log_artifact(Path("a.png"))
    wait_until(lambda: session.files and len(session.sent) == 20)
    forwarder.finish("FINISHED")
    assert session.sent == list(range(20))
    assert len(warnings) == 1
    assert warnings[0].startswith(OUTAGE)
    assert f"medssl track {tmp_path / 'run'}" in warnings[0]
    assert session.status == "FINISHED"


def test_a_second_outage_is_told_again(forwarder, session, warnings):
    for _ in range(2):
        session.fail = lambda name: ConnectionError("refused")
        told = len(warnings)
        wait_until(lambda seen=told: log(forwarder, session, 1) or len(warnings) > seen)
        session.fail = lambda name: None
        wait_until(lambda: len(session.sent) == len(session.rows))
        wait_until(lambda: not forwarder._warned)
    forwarder.finish("FINISHED")
    assert len(warnings) == 2


def test_a_dead_server_warns_once_however_long_the_run_lasts(forwarder, session, warnings):
    session.fail = lambda name: ConnectionError("refused\nsecond line")
    for step in range(50):
        log(forwarder, session, step)
        time.sleep(0.002)
    forwarder.finish("FINISHED")
    assert [text.startswith(OUTAGE) for text in warnings] == [True]


@pytest.mark.parametrize("status", [400, 422])
def test_rows_that_mlflow_refuses_for_good_are_told_once_and_hold_up_no_file(forwarder, session, warnings, status):
    session.fail = lambda name: Refusal(status) if name == "send_metrics" else None
    for step in range(20):
        log(forwarder, session, step)
        time.sleep(0.002)
    forwarder.log_artifact(Path("a.png"))
    wait_until(lambda: session.files)
    forwarder.finish("FINISHED")
    assert (len(warnings), session.files, session.status) == (1, ["a.png"], "FINISHED")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_file_is_sent_again_after_an_answer_that_may_pass(forwarder, session, warnings, status):
    answers = [Refusal(status), Refusal(status)]
    session.fail = lambda name: answers.pop() if name == "a.png" and answers else None
    forwarder.log_artifact(Path("a.png"))
    wait_until(lambda: session.files)
    forwarder.finish("FINISHED")
    assert (session.files, len(warnings)) == (["a.png"], 1)


def test_a_missing_file_is_dropped_and_all_else_arrives(forwarder, session, warnings):
    session.fail = lambda name: FileNotFoundError("no a.png") if name == "a.png" else None
    forwarder.log_artifact(Path("a.png"))
    forwarder.log_artifact(Path("b.png"))
    wait_until(lambda: session.files)
    log(forwarder, session, 1)
    forwarder.finish("FAILED")
    assert (session.files, session.sent, session.status, len(warnings)) == (["b.png"], [1], "FAILED", 1)


@pytest.mark.parametrize(
    ("status", "asks_at", "least", "most"),
    [
        ("FINISHED", None, 0.9, 3),
        ("FAILED", None, 0.4, 0.9),
        ("KILLED", None, 0.1, 0.4),
        ("FINISHED", 0.0, 0.1, 0.4),
        ("FINISHED", 0.3, 0.3, 0.8),
    ],
    ids=["finished", "failed", "killed", "finished after a wish to stop", "finished, and a wish to stop while it waits"],
)
def test_the_wait_for_a_server_that_hangs_has_its_limit(forwarder, session, warnings, asked, monkeypatch, status, asks_at, least, most):
    for name, seconds in {"KILLED_SECONDS": 0.1, "CLOSE_SECONDS": 0.4, "UPLOAD_SECONDS": 0.5}.items():
        monkeypatch.setattr(module, name, seconds)
    hanging = threading.Event()
    session.fail = lambda name: hanging.wait(20) and None
    began = time.monotonic()  # before the timer: its wait is a part of what is measured
    if asks_at is not None:
        threading.Timer(asks_at, asked.set).start()
        time.sleep(0.01)
    try:
        forwarder.finish(status)
        assert least <= time.monotonic() - began < most
        assert ["did not receive everything in time" in text for text in warnings] == [True]
    finally:
        hanging.set()
        forwarder._thread.join()
