"""Where MLflow would get the records of a run: the embedded store, a database, or a server, asked once with a run's credentials."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from medssl.doctor.checks.folders import folder
from medssl.doctor.finding import Finding, make_finding
from medssl.runs.run_dir import RUNS
from medssl.tracking.mlflow_client import first_line, server_version, without_password

_SECONDS = 3.0
_LATER = "Runs go on without it, and `medssl track` sends what it missed."
_SQLITE = "sqlite:///"
_VERSION = re.compile(r"\d+\.\d+")
_REFUSALS = {
    401: "It wants a user: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    403: "This user, or this machine, may not use it: ask who runs it.",
    404: "It is no MLflow server, or lies under another path: correct MLFLOW_TRACKING_URI.",
}


def check() -> Iterator[Finding]:
    """Of MLFLOW_TRACKING_URI, or of the store beside the run folders."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri or uri.startswith(_SQLITE):
        database = Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri else RUNS.absolute() / "mlflow.db"
        yield store(database)
    elif urlsplit(uri).scheme in ("http", "https"):
        yield server(uri)
    else:
        yield make_finding(
            "MLflow", f"{without_password(uri)}: not looked at", warning="Only sqlite, http and https addresses are tried here."
        )


def store(database: Path) -> Finding:
    """The sqlite file, or the place where it will be made."""
    if not database.exists():
        place = folder("MLflow", database.parent, "Correct MLFLOW_TRACKING_URI, or make the folder writable.")
        return make_finding("MLflow", f"{database} will be made by the first run") if place.level != "error" else place
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE medssl_doctor (tried INTEGER)")  # written, and taken back
            connection.rollback()
    except sqlite3.Error as error:
        return make_finding(
            "MLflow", f"{database}: {error}", error=f"Make it writable, or name another one with MLFLOW_TRACKING_URI. {_LATER}"
        )
    return make_finding("MLflow", str(database))


def server(uri: str) -> Finding:
    """Whether it answers within three seconds, to whom, and whether it guards what it is told."""
    address = without_password(uri)
    try:
        version = server_version(uri, _SECONDS)
    except Exception as error:  # MLflow and what it stands on raise anything
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None:
            remedy = "Start it, correct MLFLOW_TRACKING_URI, or open the way to it"
            return make_finding("MLflow", f"{address} does not answer: {first_line(_cause(error))}", error=f"{remedy}. {_LATER}")
        return make_finding("MLflow", f"{address} answers {status}", error=f"{_REFUSALS.get(status, 'Look into its log.')} {_LATER}")
    if not _VERSION.match(version):
        return make_finding("MLflow", f"{address} answers, not as MLflow does (a proxy's page?)", error=f"{_REFUSALS[404]} {_LATER}")
    seen = f"{address}, MLflow {version}"
    if address != uri:
        return make_finding("MLflow", seen, warning="A password in an address is easily seen: put it into MLFLOW_TRACKING_PASSWORD.")
    open_to_all = not any(os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH"))
    if open_to_all and urlsplit(uri).hostname not in ("localhost", "127.0.0.1", "::1"):
        return make_finding("MLflow", f"{seen}, asks for no password", warning="All who reach it can read and delete runs: start it with "
                      "--app-name basic-auth.")  # fmt: skip
    return make_finding("MLflow", seen)


def _cause(error: BaseException) -> Exception:
    """The first error of those that led to this one: MLflow wraps what requests, urllib3 and the system said."""
    while (inner := error.__cause__ or error.__context__ or getattr(error, "reason", None)) and isinstance(inner, Exception):
        error = inner
    assert isinstance(error, Exception)
    return error
