"""The memory that a training keeps of an image, counted by hand, and the memory that it does not ask for again."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from medssl.nn import Encoder
from medssl.train.memory import activation_bytes


class Flat(nn.Sequential):
    """A linear layer keeps its input, the activation after it its output."""

    num_features = 8


def encoder(*layers: nn.Module) -> Encoder:
    return Encoder(Flat(*layers), torch.tensor([0.5]), torch.tensor([0.25]))


def test_what_is_kept_of_an_image_is_the_inputs_of_its_layers_and_not_the_weights():
    network = encoder(nn.Flatten(), nn.Linear(16 * 16, 8), nn.ReLU())
    assert activation_bytes(network, 1, 16) == 4 * (16 * 16 + 8)
    assert next(network.parameters()).device.type == "cpu"


def test_volumes_have_three_edges():
    network = Encoder(Flat(nn.Flatten(), nn.Linear(4 * 6 * 8, 8), nn.ReLU()), torch.tensor([0.5]), torch.tensor([0.25]), axes=3)
    assert activation_bytes(network, 1, (4, 6, 8)) == 4 * (4 * 6 * 8 + 8)


def test_of_a_network_that_looks_at_its_values_nothing_is_said():
    class Looks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float(x.max())

    assert activation_bytes(encoder(Looks()), 1, 16) == 0


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource
import numpy as np, torch
from medssl.evaluate.models.features import extract
from medssl.train.loop import Plan, fit

network, cpu = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 1)), torch.device("cpu")
{work}
for _ in range(10):
    torch.ones(25_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(HUGE_PAGES.is_file() and "[always]" in HUGE_PAGES.read_text("utf-8"), reason="huge pages are few")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
@pytest.mark.parametrize(
    ("work", "kept"),
    [
        ("", False),
        ("fit(network, [], torch.optim.SGD(network.parameters()), Plan(1, 0.1, 0, cpu))", True),
        ("extract(network, np.zeros((2, 1, 1, 1), np.uint8), np.arange(2), cpu)", True),
    ],
)
def test_a_training_and_the_features_take_memory_that_was_freed_before_and_no_new_pages(work, kept):
    """A tensor of 100 MB has 24,414 pages."""
    program = [sys.executable, "-c", FAULTS.format(work=work)]
    faults = int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
    assert faults < 1000 if kept else faults > 72_000
