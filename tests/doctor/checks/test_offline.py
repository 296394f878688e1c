"""The switches against the libraries themselves: where a check says that one calls outside, it does, and else it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import medssl
from medssl.doctor.checks import offline

# Whatever a process asks of the network is written down, and refused: no name is known, no address can be reached.
LISTENER = """
import os, socket
def ask(*asked, **_):
    with open(os.environ["ASKED"], "a") as file: file.write(f"{asked}\\n")
    raise socket.gaierror(socket.EAI_NONAME, "no network")
socket.getaddrinfo = socket.create_connection = ask
"""


@pytest.fixture
def asked(tmp_path):
    """asked(arguments, **environment): the process, and what it asked of the network."""
    (tmp_path / "sitecustomize.py").write_text(LISTENER)

    def run(*arguments, **environment):
        place = tmp_path / "asked.txt"
        place.unlink(missing_ok=True)
        path = os.pathsep.join([str(tmp_path), str(Path(medssl.__file__).parents[1])])
        environment = {**os.environ, "PYTHONPATH": path, "ASKED": str(place), **environment}
        process = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
        )
        return process, place.read_text() if place.exists() else ""

    return run


@pytest.mark.slow
@pytest.mark.fault("S14")
@pytest.mark.parametrize("value", ["1", "0"])
def test_albumentations_calls_outside_exactly_where_the_check_warns(asked, value):
    process, calls = asked("-c", "import medssl, albumentations", NO_ALBUMENTATIONS_UPDATE=value)
    assert process.returncode == 0, process.stderr
    finding = offline.calls({**medssl.ENVIRONMENT, "NO_ALBUMENTATIONS_UPDATE": value})
    assert (finding.level == "warning") == bool(calls) == (value == "0")
    assert finding.remedy == ("Unset NO_ALBUMENTATIONS_UPDATE." if calls else "")


@pytest.mark.fault("S14")
@pytest.mark.parametrize(
    ("telemetry", "track", "sends"),
    [("true", "true", False), ("false", "true", False), ("1", "0", False), ("false", "0", True), ("false", "1", True)],
)
def test_telemetry_is_warned_of_exactly_where_mlflow_says_that_it_sends(monkeypatch, telemetry, track, sends):
    from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", telemetry)
    monkeypatch.setenv("DO_NOT_TRACK", track)
    disabled = MLFLOW_DISABLE_TELEMETRY.get() or os.environ["DO_NOT_TRACK"].lower() == "true"  # mlflow/telemetry/utils.py
    assert disabled is not sends
    finding = offline.calls({**medssl.ENVIRONMENT, "MLFLOW_DISABLE_TELEMETRY": telemetry, "DO_NOT_TRACK": track})
    assert ("MLflow sends" in finding.seen) is sends
    assert finding.level == ("warning" if sends else "ok")


@pytest.mark.fault("S14")
@pytest.mark.slow
def test_the_doctor_asks_nothing_of_the_network(asked):
    process, calls = asked("-m", "medssl", "doctor", "--json")
    assert process.returncode in (0, 2)
    assert process.stdout.startswith('{"medssl"')
    assert calls == ""


def test_a_setting_of_the_users_own_is_told_and_no_fault():
    finding = offline.settings({**medssl.ENVIRONMENT, "OMP_WAIT_POLICY": "ACTIVE"})
    assert (finding.level, finding.seen) == ("ok", "yours: OMP_WAIT_POLICY=ACTIVE")
    assert offline.settings(medssl.ENVIRONMENT).seen == "all as medssl sets them"
