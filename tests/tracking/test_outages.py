"""Servers that do not do what they should, on real sockets and at the real limits: none holds up the training, each is told once."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from notes import noted

from medssl.config import resolve
from medssl.tracking.jsonl import read
from medssl.tracking.tracker import Tracker

pytestmark = pytest.mark.slow

ROWS = 200
LIMITS = {"FINISHED": 10, "FAILED": 10, "KILLED": 3}  # seconds
CASES = {
    "refuses the connection": "FINISHED",
    "accepts and never answers": "FINISHED",
    "accepts and never answers, failed": "FAILED",
    "accepts and never answers, killed": "KILLED",
    "answers after 5 seconds": "FINISHED",
    "answers 500": "FINISHED",
    "answers 503": "FINISHED",
    "answers 401": "FINISHED",
    "answers 403": "FINISHED",
    "answers 404": "FINISHED",
    "answers 200 with a page of its own": "FINISHED",
}


class Answer(BaseHTTPRequestHandler):
    """Says what its server is made to say, to whatever it is asked."""

    def do_GET(self):
        time.sleep(self.server.delay)  # pyright: ignore[reportAttributeAccessIssue]
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.server.status)  # pyright: ignore[reportAttributeAccessIssue]
        self.end_headers()
        self.wfile.write(b"<html>log in first</html>")

    do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815 - names of the base class

    def log_message(self, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        pass


class Http(ThreadingHTTPServer):
    """A server on a free port of this machine."""

    def __init__(self, status, delay=0.0):
        super().__init__(("127.0.0.1", 0), Answer)
        self.status, self.delay = status, delay
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_):  # pyright: ignore[reportIncompatibleMethodOverride] - the client does not wait for its answer
        pass


@pytest.fixture(scope="module")
def addresses():
    """{case: address} of servers that run as long as the module's tests."""
    silent, closed = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    servers = {case: Http(int(case.split()[1])) for case in CASES if case.startswith("answers") and "seconds" not in case}
    servers["answers after 5 seconds"] = Http(200, delay=5)
    ports = {case: server.server_port for case, server in servers.items()}
    ports["refuses the connection"] = closed.getsockname()[1]
    closed.close()
    yield {case: f"http://user:secret@127.0.0.1:{ports.get(case, silent.getsockname()[1])}" for case in CASES}
    silent.close()
    for server in servers.values():
        server.shutdown()
        server.server_close()


class Training:
    """Logs rows for two seconds and ends: what was told, and how long the slowest call and the end took."""

    def __init__(self, folder):
        folder.mkdir(parents=True)
        self.folder, self.warnings, self.slowest = folder, [], 0.0
        self.tracker = Tracker(folder, resolve({}), self.warnings.append)

    def run(self, status):
        for step in range(ROWS):
            began = time.monotonic()
            self.tracker.log({"step": step, "loss": 1.0})
            self.tracker.log_artifact(self.folder / "config.yaml")
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(0.01)
        began = time.monotonic()
        self.tracker.finish(status)
        self.end = time.monotonic() - began
        return self


@pytest.fixture(scope="module")
def trainings(addresses, tmp_path_factory):
    """{case: a training that tracked to such a server}, all at the same time."""
    runs = tmp_path_factory.mktemp("outages")
    resolve({})
    began = []
    for number, (case, address) in enumerate(addresses.items()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", address)
            began.append((case, Training(runs / str(number) / "run")))
    with ThreadPoolExecutor(len(began)) as pool:
        ended = {case: pool.submit(training.run, CASES[case]) for case, training in began}
    yield {case: future.result() for case, future in ended.items()}
    for _, training in began:
        training.tracker._mlflow._thread.join()  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.fault("R16")
@pytest.mark.parametrize("case", CASES)
def test_a_server_that_does_not_answer_well_holds_up_no_row_and_is_told_once(trainings, case):
    training = trainings[case]
    assert training.slowest < min(LIMITS.values())  # a row that waited for the server would wait longer
    assert training.end < LIMITS[CASES[case]] + 1
    assert [row["step"] for row in read(training.folder / "metrics.jsonl")] == list(range(ROWS))
    (told,) = training.warnings
    assert f"medssl track {training.folder}" in told
    assert "secret" not in told
    assert (noted(training.folder).run_id, noted(training.folder).status) == ("", CASES[case])
    assert sorted(path.name for path in training.folder.parent.rglob("*")) == ["metrics.jsonl", "mlflow.json", "run"]


TRAINING = """
import signal, sys, time
from pathlib import Path
from medssl.config import resolve
from medssl.tracking.tracker import Tracker
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
with Tracker(Path(sys.argv[1]), resolve({}), lambda text: print(text, flush=True)) as tracker:
    for step in range(10**6):
        tracker.log({"step": step})
        if step == 50:
            print("runs", flush=True)
        time.sleep(0.01)
"""


@pytest.mark.fault("R16")
def test_a_process_that_is_asked_to_end_does_so_within_eight_seconds_though_the_server_hangs(addresses, tmp_path, repository):
    environment = {**os.environ, "MLFLOW_TRACKING_URI": addresses["accepts and never answers"]}
    command = [sys.executable, "-c", TRAINING, str(tmp_path)]
    process = subprocess.Popen(command, cwd=repository, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "runs\n"  # pyright: ignore[reportOptionalMemberAccess]
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        assert time.monotonic() - began < 8
    finally:
        process.kill()
        said = process.communicate()[0]
    assert process.returncode == 143
    assert said.count("\n") == 1
    assert f"medssl track {tmp_path}" in said
    assert noted(tmp_path).status == "KILLED"
