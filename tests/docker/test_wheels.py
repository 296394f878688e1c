"""Out of the lock into a folder: what medssl needs to run, and nothing else."""

import hashlib
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def wheel(folder, name, version, *needs):
    """A wheel with nothing in it but what it needs, and its SHA-256."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "Metadata-Version: 2.1\n" + "\n".join(lines) + "\n\n")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{digest}  {file.name}\n")
    return digest


@pytest.fixture
def given(tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    tmp_path.joinpath("pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\ndependencies = ["torch>=2"]\n')
    names = ("torch==2.15.0", "filelock==1.0", "nvidia-cublas==13.4 ; sys_platform == 'linux'", "plain==1.0", "ruff==0.1")
    tmp_path.joinpath("requirements.lock").write_text("".join(f"{name} \\\n    --hash=sha256:{'0' * 64}\n" for name in names))
    return folder


def run(folder, *arguments):
    command = [sys.executable, str(ROOT / "docker" / "wheels.py"), "out", ".", "--instead", "given", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_what_a_wheel_needs_is_followed_and_what_is_for_development_stays_away(given, tmp_path):
    torch = wheel(given, "torch", "2.15.0+cpu", "filelock", "plain ; extra == 'more'", "absent ; sys_platform == 'win32'")
    filelock = wheel(given, "filelock", "1.0")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    lock = tmp_path.joinpath("out", "requirements.lock").read_text()
    assert lock == f"filelock==1.0 --hash=sha256:{filelock}\ntorch==2.15.0+cpu --hash=sha256:{torch}\n"
    assert sorted(file.name for file in tmp_path.joinpath("out").glob("*.whl")) == sorted(file.name for file in given.glob("*.whl"))


def test_a_wheel_of_another_version_takes_no_place(given, tmp_path):
    wheel(given, "torch", "2.13.0+cpu")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "its version must be the lock's" in done.stderr


def test_a_wheel_that_is_not_what_its_checksum_says_takes_no_place(given, tmp_path):
    wheel(given, "torch", "2.15.0+cpu")
    with zipfile.ZipFile(given / "torch-2.15.0+cpu-py3-none-any.whl", "a") as archive:
        archive.writestr("torch/more.py", "")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "is not what" in done.stderr


def test_what_the_lock_does_not_have_is_named(given, tmp_path):
    wheel(given, "torch", "2.15.0+cpu", "stranger")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "The lock has no stranger." in done.stderr


def test_the_lock_has_all_that_medssl_and_its_tracking_server_need(script):
    wheels = script("wheels.py")
    locked = {
        **wheels.entries((ROOT / "requirements.lock").read_text()),
        **wheels.entries((ROOT / "docker/mlflow/requirements.lock").read_text()),
    }
    todo, seen = [*wheels.wanted([str(ROOT)]), *wheels.wanted(["flask-wtf", "wtforms", "psycopg2-binary"])], set()
    while todo:
        name = canonicalize_name(todo.pop().name)
        if name in seen:
            continue
        seen.add(name)
        assert name in locked
        assert "--hash=sha256:" in locked[name]
        if name not in ("flask-wtf", "wtforms", "psycopg2-binary"):  # the server's own, not in this environment
            needs = map(wheels.Requirement, distribution(name).requires or [])
            todo += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    assert {"torch", "monai", "mlflow", "numpy"} <= seen
    assert not {"ruff", "pyright", "pytest", "lightly"} & seen
