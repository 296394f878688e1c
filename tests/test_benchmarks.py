"""What is to run on a GPU at hand runs with what is likely to be there, and trains what it says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import importlib.util, sys
ABSENT = {"mlflow", "medmnist", "monai", "albumentations", "lightly", "pydicom", "nibabel"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
there = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in ABSENT else there(name, package)
import gpu
gpu.main()
"""


@pytest.mark.slow
def test_the_gpu_script_needs_no_tracking_reader_or_peer() -> None:
    line = [sys.executable, "-c", PROGRAM, "--device", "cpu", "--seconds", "0.01", "--models", "resnet18", "--sizes", "32", "--batch", "4"]
    done = subprocess.run(line, cwd=ROOT / "benchmarks", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| resnet18, ")]
    assert [row[0] for row in rows] == [f"| resnet18, {name}, 32 px, batch 4" for name in ("nnclr", "pnnclr")]
    for whole, ceiling, share in (row[1:4] for row in rows):
        assert float(whole) > 0 and float(ceiling) > 0 and 0.2 < float(share) < 5
    assert "lightly is not installed" in done.stdout
    assert "convolution" in done.stdout, "the profile names what takes the time"
