"""`medssl doctor` as a command: what it prints, its exit codes, and that no check can end it or hold it up."""

import json
import sys
import time
import types

import pytest
from PIL import Image

from medssl import cli
from medssl.commands import doctor


def ended(*arguments):
    """The exit code of the command in this process."""
    with pytest.raises(SystemExit) as end:
        cli.app(["doctor", *arguments])
    return end.value.code


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to start it in, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    return tmp_path


def levels(document):
    return {finding["name"]: finding["level"] for finding in document["findings"]}


def test_a_machine_without_errors_ends_with_0_and_one_json_document(place, capsys):
    code = ended("--json")
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert said.err == ""
    assert code == (2 if "error" in levels(document).values() else 0)
    expected = {"Python", "packages", "torch", "user", "CUDA driver", "cores", "memory", "shared memory", "runs", "cache", "temporary",
                "site key", "JPEG-LS", "JPEG 12 bit", "clock", "MLflow", "calls outside"}  # fmt: skip
    assert expected <= set(levels(document))
    assert {finding["level"] for finding in document["findings"] if finding["remedy"]} <= {"warning", "error"}
    assert all(finding["remedy"] for finding in document["findings"] if finding["level"] != "ok")
    versions = {package["name"]: package["version"] for package in document["packages"]}
    assert {"torch", "monai", "mlflow", "pydicom"} <= set(versions)
    assert not list(place.iterdir())


def test_a_planted_fault_is_an_error_on_its_line_with_its_remedy_below_and_ends_with_2(place, capsys, monkeypatch):
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(place / "no-such-key"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    assert ended() == 2
    said = capsys.readouterr()
    lines = said.out.splitlines()
    key = next(number for number, line in enumerate(lines) if line.startswith("error    site key"))
    assert "no-such-key" in lines[key]
    assert lines[key + 1].strip() == "Correct MEDSSL_KEY_FILE."
    assert any(line.startswith("warning  calls outside  MLFLOW_DISABLE_TELEMETRY=false: MLflow sends") for line in lines)
    assert lines[-1].endswith("1 errors")
    assert said.err == ""


@pytest.fixture
def planted(monkeypatch):
    """planted(function): puts it in the place of the check of the clock."""

    def plant(check):
        module = types.ModuleType("clock")
        setattr(module, "check", check)  # noqa: B010 - a module has no such attribute
        monkeypatch.setitem(sys.modules, "medssl.doctor.checks.clock", module)

    return plant


def test_a_check_that_fails_is_a_finding_beside_what_it_found_before(planted):
    def check():
        yield doctor.make_result("clock", "fine")
        raise OSError("a drive\nis gone")

    planted(check)
    fine, failed = doctor.run_check("clock")
    assert fine.level == "ok"
    assert (failed.level, failed.seen) == ("error", "the check itself failed: OSError: a drive")


def test_a_check_that_hangs_is_a_finding_after_its_time(planted):
    released = []

    def check():
        while not released:
            time.sleep(0.01)
        yield doctor.make_result("clock", "late")

    planted(check)
    began = time.monotonic()
    (late,) = doctor.run_check("clock", seconds=0.2)
    released.append(True)
    assert time.monotonic() - began < 5
    assert (late.level, late.seen) == ("error", "not done after 0.2 s")


def test_every_file_of_the_folder_is_run_and_every_finding_has_a_level_and_a_fact(place):
    from medssl import plugins

    assert sorted(doctor.CHECKS) == plugins.names("doctor.checks")
    for name in doctor.CHECKS:
        for finding in doctor.run_check(name):
            assert finding.level in ("ok", "warning", "error")
            assert finding.seen
            assert bool(finding.remedy) == (finding.level != "ok")


def test_the_audit_of_the_data_is_said_once_and_its_store_can_be_looked_at_again(pictures, place, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", ())
    assert ended("--data", str(pictures)) == 0
    said = capsys.readouterr().out
    assert "images    60 used of 60 found (folder)" in said
    assert "ok       images         60 used of 60 found" in said
    (store,) = (place / "cache" / "stores").iterdir()
    assert ended("--data", str(store), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["audit"]["patients"]["count"] == 30
    assert levels(document) == {"images": "ok", "leaks": "ok"}


def test_faulty_files_are_a_warning_and_data_that_is_not_there_an_error(place, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", ())
    (place / "data").mkdir()
    for number in range(120):
        Image.new("L", (16, 16), number).save(place / "data" / f"{number}.png")
        if number % 2:
            Image.effect_noise((16, 16), number).save(place / "data" / f"{number}.png")
    (place / "data" / "1.png").write_bytes((place / "data" / "1.png").read_bytes()[:60])
    assert ended("--data", "data", "--json") == 0
    (images, _) = json.loads(capsys.readouterr().out)["findings"]
    assert (images["level"], "1 " in images["remedy"]) == ("warning", True)
    assert ended("--data", "nothing-here", "--json") == 2
    (missing,) = json.loads(capsys.readouterr().out)["findings"]
    assert missing["seen"].startswith("The data 'nothing-here' does not exist")
