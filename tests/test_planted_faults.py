"""Faults of the kinds that silently spoil pNNCLR, planted one at a time into a copy of the package: its tests must catch each."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PNNCLR, SUPPORT, TARGET, LOSSES = "methods/pnnclr.py", "nn/support_set.py", "nn/target.py", "nn/losses.py"
FAULTS = {
    "pairs swapped": (PNNCLR, "first = pair_loss(p1, t2,", "first = pair_loss(p1, t1,"),
    "moving average reversed": (TARGET, "list(online.parameters()), 1 - m)", "list(online.parameters()), m)"),
    "temperature dropped": (LOSSES, "u @ v.T / tau", "u @ v.T"),
    "push forgotten": (PNNCLR, "self.support.push(step.push)", "pass"),
    "pushed before looked up": (PNNCLR, "first = pair_loss(", "Q = torch.cat([t2.detach(), Q])[: len(Q)]\n    first = pair_loss("),
    "farthest row for the nearest": (SUPPORT, ".topk(k, dim=1)", ".topk(k, dim=1, largest=False)"),
    "pseudo neighbour not of unit length": (PNNCLR, "F.normalize(pnn, dim=1) if config.renormalise else pnn", "pnn"),
    "gradient into the target": (PNNCLR, "return y.detach() if config.stop_gradient else y", "return y"),
    "alpha from the neighbour's side": (PNNCLR, "pnn = x + alpha * (nn_x - x)", "pnn = nn_x + alpha * (x - nn_x)"),
    "predictions pushed for targets": (PNNCLR, "if predictions else t1\n", "if predictions else p1\n"),
    "ring that stands still": (SUPPORT, "place = (self.pushed + ", "place = (0 * self.pushed + "),
    "rows that are not finite let in": (SUPPORT, "if not torch.isfinite(new).all():", "if False:"),
    "one noise for every step": (PNNCLR, "batch.seed, batch.step,", "batch.seed,"),
}


# One process imports the heavy libraries once; a fork of it, with one fault each, runs the tests.
DRIVER = """
import os, sys, pytest, sklearn.metrics, timm, torch
torch.set_num_threads(1)
running = set()
for parent in sys.argv[1:]:
    if len(running) == 2:
        running.discard(os.wait()[0])
    child = os.fork()
    if child == 0:
        sys.path.insert(0, parent)
        log = os.open(parent + "/log", os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestWarning", "tests/methods", "tests/nn"])
        os.write(log, f"\\nexit code {int(code)}".encode())
        os._exit(0)
    running.add(child)
while running:
    running.discard(os.wait()[0])
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """What the tests of methods and nn say of each faulty copy, and of a copy without a fault."""
    folder = tmp_path_factory.mktemp("faults")
    parents = {}
    for number, (name, fault) in enumerate([*FAULTS.items(), ("none", None)]):
        parents[name] = folder / str(number)
        shutil.copytree(ROOT / "medssl", parents[name] / "medssl", ignore=shutil.ignore_patterns("__pycache__"))
        if fault is not None:
            plant(parents[name] / "medssl", *fault)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    command = [sys.executable, "-c", DRIVER, *map(str, parents.values())]
    subprocess.run(command, cwd=ROOT, env=environment, timeout=290, check=True)
    return {name: (parent / "log").read_text() for name, parent in parents.items()}


def plant(package: Path, file: str, old: str, new: str) -> None:
    path = package / file
    text = path.read_text()
    assert text.count(old) == 1, f"{file} no longer has exactly one {old!r}: plant this fault anew"
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", FAULTS)
def test_the_tests_catch(name, logs):
    assert logs[name].endswith("exit code 1"), f"not caught: {name}\n{logs[name][-2000:]}"
    assert "1 failed" in logs[name]


def test_without_a_fault_the_same_tests_pass(logs):
    assert logs["none"].endswith("exit code 0"), logs["none"][-2000:]
