"""Tracking servers that answer, refuse, fail and say nothing, on real sockets; stores that can and cannot be written."""

import base64
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from surroundings import make_read_only, small_disk

from medssl.doctor.checks import tracking


class Server(ThreadingHTTPServer):
    """On a free port of this machine."""

    status, text, guarded = 200, b"", False


class Answer(BaseHTTPRequestHandler):
    """The server's `status` and `text`; 401 without the password "secret" where the server wants one."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self):
        given = base64.b64decode((self.headers.get("Authorization") or "").removeprefix("Basic ")).decode()
        status = 401 if self.server.guarded and given != "me:secret" else self.server.status
        self.send_response(status)
        self.end_headers()
        self.wfile.write(self.server.text if status == 200 and self.path == "/version" else b"")

    def log_message(self, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        pass


@pytest.fixture
def serve():
    """serve(status, text, guarded, host): the address of a server that lives as long as the test."""
    servers = []

    def start(status=200, text=b"3.17.2", guarded=False, host="127.0.0.1"):
        server = Server((host, 0), Answer)
        server.status, server.text, server.guarded = status, text, guarded
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append((server, thread))
        return f"http://{host}:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def found(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (finding,) = tracking.check()
    return finding


def test_a_server_on_this_machine_that_tells_its_version_is_ok(serve, monkeypatch):
    finding = found(monkeypatch, serve())
    assert (finding.level, finding.remedy) == ("ok", "")
    assert finding.seen.endswith("MLflow 3.17.2")


@pytest.mark.parametrize(
    ("status", "text", "seen", "remedy"),
    [
        (500, b"", "answers 500", "log"),
        (403, b"", "answers 403", "may not use it"),
        (404, b"", "answers 404", "no MLflow server"),
        (200, b"<html>log in first</html>", "not as MLflow does", "no MLflow server"),
    ],
)
def test_a_server_that_refuses_or_fails_is_an_error_with_its_own_remedy(serve, monkeypatch, status, text, seen, remedy):
    finding = found(monkeypatch, serve(status, text))
    assert finding.level == "error"
    assert seen in finding.seen
    assert remedy in finding.remedy
    assert "medssl track" in finding.remedy


def test_a_guarded_server_is_asked_with_the_password_of_a_run(serve, monkeypatch):
    uri = serve(guarded=True)
    refused = found(monkeypatch, uri)
    assert (refused.level, refused.seen.endswith("answers 401")) == ("error", True)
    assert "MLFLOW_TRACKING_PASSWORD" in refused.remedy
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert found(monkeypatch, uri).level == "ok"


@pytest.mark.fault("S18")
def test_a_password_in_the_address_is_warned_of_and_never_repeated(serve, monkeypatch):
    finding = found(monkeypatch, serve(guarded=True).replace("http://", "http://me:secret@"))
    assert finding.level == "warning"
    assert "MLFLOW_TRACKING_PASSWORD" in finding.remedy
    down = found(monkeypatch, "http://me:secret@127.0.0.1:1")
    assert down.level == "error"
    assert "secret" not in finding.seen + finding.remedy + down.seen + down.remedy


@pytest.mark.fault("S13")
def test_a_server_that_the_network_reaches_without_a_password_is_warned_of(serve, monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect(("192.0.2.1", 9))  # sends nothing: it asks which of this machine's addresses would
        except OSError:
            pytest.skip("this machine has no address in a network")
        host = way.getsockname()[0]
    finding = found(monkeypatch, serve(host=host))
    assert finding.level == "warning"
    assert "basic-auth" in finding.remedy


@pytest.mark.parametrize("answers", [False, True], ids=["a closed port", "accepts and never answers"])
def test_a_server_that_is_not_there_is_an_error_within_seconds(monkeypatch, answers):
    import mlflow.utils.rest_utils  # its import is not timed  # noqa: F401

    with socket.create_server(("127.0.0.1", 0)) as port:
        address = f"127.0.0.1:{port.getsockname()[1]}"
        if not answers:
            port.close()
        began = time.monotonic()
        finding = found(monkeypatch, f"http://{address}")
    assert time.monotonic() - began < 8
    assert finding.level == "error"
    assert finding.seen.startswith(f"http://{address} does not answer: ")
    assert "refused" in finding.seen if not answers else "timed out" in finding.seen


def test_a_store_is_ok_where_it_can_be_written_and_an_error_where_not(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (finding,) = tracking.check()
    assert (finding.level, finding.seen) == ("ok", f"{tmp_path}/runs/mlflow.db will be made by the first run")
    assert list(tmp_path.iterdir()) == []
    with small_disk(tmp_path / "disk", 1024) as disk:
        with sqlite3.connect(disk / "mlflow.db") as connection:
            connection.execute("CREATE TABLE runs (id TEXT)")
        connection.close()
        assert found(monkeypatch, f"sqlite:///{disk}/mlflow.db").level == "ok"
        make_read_only(disk)
        finding = found(monkeypatch, f"sqlite:///{disk}/mlflow.db")
        assert finding.level == "error"
        assert "readonly" in finding.seen
        assert found(monkeypatch, f"sqlite:///{disk}/other/mlflow.db").level == "error"


def test_a_damaged_store_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    finding = found(monkeypatch, f"sqlite:///{tmp_path}/mlflow.db")
    assert (finding.level, "not a database" in finding.seen) == ("error", True)
