"""Memory that is short: the largest batch is found before a run, and a run that runs short says what would fit."""

import os
import subprocess
import sys

import pytest
import torch

from medssl.config import resolve
from medssl.errors import UserError
from medssl.plain_yaml import read_yaml
from medssl.pretraining.batch_size import split_off_auto
from medssl.train import memory

GIB = 2**30
LIMITED = """
import resource, sys
import torch, timm, medssl.commands.pretrain, medssl.views.albumentations_executor
import medssl.evaluate.models.linear_probe, sklearn.linear_model
from pathlib import Path
grown = int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (grown + {spare}, grown + {spare}))
sys.argv = ["medssl", *{arguments!r}]
from medssl.cli import main
main()
"""


@pytest.mark.parametrize(
    ("budget", "most", "expected"), [(1000, 4096, 40), (1000, 30, 24), (280, 4096, 8), (150, 4096, 0), (10**6, 512, 512)]
)
def test_the_largest_batch_is_found_of_a_step_that_takes_100_and_22_an_image(budget, most, expected):
    tried = []

    def measure(size: int) -> int:
        tried.append(size)
        if size > 64 and budget < 10**5:
            raise torch.OutOfMemoryError
        return 100 + 22 * size

    size, taken = memory.largest_batch(measure, budget, most, 8)
    assert size == expected
    assert taken == (100 + 22 * size if size else 0)
    assert len(tried) <= 4, "each trial takes a step"


def test_where_memory_grows_faster_than_two_small_batches_told_smaller_ones_are_tried():
    def measure(size: int) -> int:
        if size > 50:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")
        return size

    assert memory.largest_batch(measure, 200, 4096, 8) == (48, 48)
    with pytest.raises(RuntimeError, match="bug"):
        memory.largest_batch(lambda size: (_ for _ in ()).throw(RuntimeError("bug")), 200, 4096, 8)


def test_the_peak_of_a_gigabyte_that_is_let_go_is_a_gigabyte():
    grown = memory.peak_bytes(lambda: torch.ones(GIB // 4), torch.device("cpu"))
    assert 0.999 * GIB <= grown < 1.1 * GIB  # some of its first pages may have been the process's already
    assert memory.free_bytes(torch.device("cpu")) > GIB / 2


def test_auto_is_one_of_the_settings():
    assert split_off_auto(["train.lr=1", "train.batch_size = auto"]) == (["train.lr=1"], True)
    assert split_off_auto(["train.batch_size=16"]) == (["train.batch_size=16"], False)
    with pytest.raises(UserError, match=r"train\.batch_size"):
        resolve({"train": {"batch_size": "auto"}})


def limited(spare: int, *arguments: str, sets: list[str]) -> subprocess.CompletedProcess[str]:
    """The command in a process that may take so many bytes more than torch and timm did."""
    whole = ["pretrain", *arguments, *(part for item in [*sets, "tracking.mlflow=false", "train.workers=0"] for part in ("--set", item))]
    program = LIMITED.format(spare=spare, arguments=whole)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=180, check=False)


@pytest.mark.slow
@pytest.mark.fault("R8")
def test_a_batch_that_does_not_fit_ends_with_one_that_would_and_auto_finds_it(pictures, small, tmp_path):
    # large feature maps, so that a few images take much: 40 take some 1.8 GB
    wide = [item for item in small if "channels" not in item and "steps" not in item and "batch" not in item]
    wide += ["data.size=96", "backbone.arguments={channels: [16, 16, 16, 16]}", "method.support_size=20", "train.steps=1"]
    ended = limited(GIB, "--data", str(pictures), "--out", str(tmp_path / "a"), sets=[*wide, "train.batch_size=40"])
    assert ended.returncode == 2, ended.stderr
    assert "Out of memory on cpu, with batches of 40 images of 96 pixels" in ended.stderr
    assert "A batch of " in ended.stderr
    assert "--set train.micro_batch=" in ended.stderr
    fits = int(ended.stderr.split("--set train.batch_size=")[1].split(".")[0])
    found = limited(GIB, "--data", str(pictures), "--out", str(tmp_path / "b"), sets=[*wide, "train.batch_size=auto"])
    assert found.returncode == 0, found.stderr
    size = read_yaml(tmp_path / "b" / "config.yaml")["train"]["batch_size"]
    assert 8 <= size < 40
    assert abs(size - fits) <= 8
    assert "negatives" in found.stderr
    assert "train.lr=" in found.stderr
