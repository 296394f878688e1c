"""Where the files of docker/ are, and its scripts as modules."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

DOCKER = Path(__file__).resolve().parents[2] / "docker"


@pytest.fixture
def docker():
    return DOCKER


@pytest.fixture
def script():
    def load(name):
        spec = importlib.util.spec_from_file_location(Path(name).stem, DOCKER / name)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def programs():
    """Runs a program, which must succeed, and gives what it said."""

    def run(*command, **options):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
