"""Mutated files of every format, as benchmarks/fuzz.py makes them: 300 files here, 10 000 there."""

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzz(script: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark as a module."""
    return script("benchmarks/fuzz.py")


@pytest.mark.fault("S17")
@pytest.mark.slow
def test_300_mutated_files_end_as_images_or_with_a_reason_within_time_and_memory(repository: Path) -> None:
    """A process of its own, so that the memory of its workers is not that of other tests'."""
    command = [sys.executable, "-W", "error", repository / "benchmarks/fuzz.py", "--files", "300", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(
        r"^(\w+) +(\d+) files: (\d+) read, (\d+) suspect, (\d+) refused, 0 failed, (\d+) crashed, (\d+) timed_out",
        done.stdout,
        re.MULTILINE,
    )
    assert {row[0] for row in rows} == {"dicom", "nifti", "raster", "npz"}
    assert sum(int(row[1]) for row in rows) == 300
    assert all(int(row[2]) > 0 and int(row[4]) > 0 for row in rows), "a mutation that always or never shows tests nothing"
    assert sum(int(row[6]) for row in rows) == 0
    assert sum(int(row[3]) for row in rows) > 0, "damage in compressed data that is noticed and can be decoded"
    assert len(re.findall(r"^listing \w+", done.stdout, re.MULTILINE)) == 3


def test_the_same_seed_damages_alike_and_another_differently(fuzz: ModuleType) -> None:
    seeds = fuzz.seeds()
    assert {seed.reader for seed in seeds} == {"dicom", "nifti", "raster", "npz"}
    first, again, other = ([fuzz.mutated(seed, random.Random(f"{number} {seed.name}")) for seed in seeds] for number in (0, 0, 1))  # noqa: S311
    assert first == again != other
    changed = sum(content != seed.content for seed, (_, content) in zip(seeds, first, strict=True))
    assert changed > 0.9 * len(seeds)
