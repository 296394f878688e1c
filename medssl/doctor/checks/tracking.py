"""The MLflow store or server that gets the metrics of runs. A server is called once, with the credentials that a run would use."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from medssl.doctor.check_result import CheckResult, make_result
from medssl.doctor.checks.folders import folder
from medssl.runs.run_dir import RUNS
from medssl.tracking.mlflow_client import first_line, server_version, without_password

_SECONDS = 3.0
_LATER = "Runs continue without it, and `medssl track` sends what it missed."
_SQLITE = "sqlite:///"
_VERSION = re.compile(r"\d+\.\d+")
_REFUSALS = {
    401: "The server asks for a user: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    403: "This user, or this machine, may not use it: ask its administrator.",
    404: "It is no MLflow server, or has another path: correct MLFLOW_TRACKING_URI.",
}


def check() -> Iterator[CheckResult]:
    """The store or server of MLFLOW_TRACKING_URI, or the store in the folder of the runs."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri or uri.startswith(_SQLITE):
        database = Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri else RUNS.absolute() / "mlflow.db"
        yield store(database)
    elif urlsplit(uri).scheme in ("http", "https"):
        yield server(uri)
    else:
        yield make_result(
            "MLflow", f"{without_password(uri)}: not looked at", warning="Only sqlite, http and https addresses are tried here."
        )


def store(database: Path) -> CheckResult:
    """Whether the sqlite file can be written, or created if it does not exist."""
    if not database.exists():
        place = folder("MLflow", database.parent, "Correct MLFLOW_TRACKING_URI, or make the folder writable.")
        return make_result("MLflow", f"{database} will be made by the first run") if place.level != "error" else place
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE medssl_doctor (tried INTEGER)")  # tests the permission to write, then rolled back
            connection.rollback()
    except sqlite3.Error as error:
        return make_result(
            "MLflow", f"{database}: {error}", error=f"Make it writable, or name another one with MLFLOW_TRACKING_URI. {_LATER}"
        )
    return make_result("MLflow", str(database))


def server(uri: str) -> CheckResult:
    """Whether the server answers within three seconds, accepts this user, and asks for a password."""
    address = without_password(uri)
    try:
        version = server_version(uri, _SECONDS)
    except Exception as error:  # MLflow and its libraries raise errors of any type
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None:
            remedy = "Start it, correct MLFLOW_TRACKING_URI, or let the network reach it"
            return make_result("MLflow", f"{address} does not answer: {first_line(_cause(error))}", error=f"{remedy}. {_LATER}")
        return make_result("MLflow", f"{address} answers {status}", error=f"{_REFUSALS.get(status, 'Look into its log.')} {_LATER}")
    if not _VERSION.match(version):
        return make_result("MLflow", f"{address} answers, not as MLflow does (a proxy's page?)", error=f"{_REFUSALS[404]} {_LATER}")
    seen = f"{address}, MLflow {version}"
    if address != uri:
        return make_result("MLflow", seen, warning="A password in an address is easily seen: put it into MLFLOW_TRACKING_PASSWORD.")
    open_to_all = not any(os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH"))
    if open_to_all and urlsplit(uri).hostname not in ("localhost", "127.0.0.1", "::1"):
        return make_result("MLflow", f"{seen}, asks for no password", warning="All who reach it can read and delete runs: start it with "
                      "--app-name basic-auth.")  # fmt: skip
    return make_result("MLflow", seen)


def _cause(error: BaseException) -> Exception:
    """The first error in the chain of causes: MLflow wraps the errors of requests, urllib3 and the system."""
    while (inner := error.__cause__ or error.__context__ or getattr(error, "reason", None)) and isinstance(inner, Exception):
        error = inner
    assert isinstance(error, Exception)
    return error
