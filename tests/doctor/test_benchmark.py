"""The burn-in: a real training on this processor, compared with what the release expects; and planted differences, noticed."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import medssl
from medssl.doctor import benchmark

CARD = json.loads(benchmark.EXPECTED.read_text())


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """What `medssl doctor --burn-in 1 --json` says on the CPU."""
    place = tmp_path_factory.mktemp("burn-in")
    environment = {**os.environ, "PYTHONPATH": str(Path(medssl.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "medssl", "doctor", "--burn-in", "1", "--json"]
    process = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
    assert process.returncode in (0, 2), process.stderr
    assert list(place.iterdir()) == []
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def burn(document):
    (measured,) = document["burn_in"]
    parts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in measured.items() if name != "entry"
    }
    return benchmark.Benchmark(**parts)


def judged(burn, card=CARD):
    return {finding.name.split()[0]: finding for finding in benchmark.judge_benchmark(burn, card)}


@pytest.mark.slow
def test_this_processor_computes_what_the_release_expects_and_learns(document, burn):
    found = {finding["name"]: finding for finding in document["findings"]}
    assert [found[f"{name} cpu"]["level"] for name in ("numbers", "learning")] == ["ok", "ok"]
    assert found["speed cpu"]["level"] in ("ok", "warning")  # the latter of one that the release knows and that is busy with other work
    assert burn.steps >= 25
    assert burn.images_per_second > 0
    assert len(burn.losses) == len(burn.gradients) == benchmark.BATCHES
    assert burn.peak_bytes > 2**20


@pytest.mark.slow
@pytest.mark.parametrize("what", ["losses", "gradients"])
def test_numbers_that_differ_in_one_place_are_an_error(burn, what):
    card = copy.deepcopy(CARD)
    card["numbers"][what]["values"][3] *= 1 + 2 * card["numbers"][what]["relative"]["cpu"]
    finding = judged(burn, card)["numbers"]
    assert finding.level == "error"
    assert finding.remedy.startswith(f"The {what} are not those that are expected")
    assert "Do not train on it" in finding.remedy


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_an_error(burn):
    assert judged(replace(burn, losses=(*burn.losses[:4], float("nan"))))["numbers"].level == "error"


@pytest.mark.slow
def test_speed_is_compared_with_the_same_processor_cores_and_precision_only(document, burn):
    card = copy.deepcopy(CARD)
    card["speed"]["cpu"] = [{**document["burn_in"][0]["entry"], "images_per_second": burn.images_per_second / 0.69}]
    slow = judged(burn, card)["speed"]
    assert (slow.level, "0.69 times what is expected" in slow.seen) == ("warning", True)
    card["speed"]["cpu"][0]["images_per_second"] = burn.images_per_second / 0.71
    assert judged(burn, card)["speed"].level == "ok"
    for name, other in (("processor", "another"), ("cores", 999), ("precision", "float16")):
        finding = judged(replace(burn, **{name: other}), card)["speed"]
        assert (finding.level, finding.seen.endswith("nothing to compare with yet")) == ("ok", True)


@pytest.mark.slow
def test_a_gpu_is_judged_by_its_numbers_and_its_speed_has_nothing_to_compare_with_yet(burn):
    found = judged(replace(burn, device="cuda:3", losses=tuple(loss * 1.0005 for loss in burn.losses)))
    assert [found[name].level for name in ("numbers", "speed")] == ["ok", "ok"]
    assert found["speed"].seen.endswith("nothing to compare with yet")
    assert judged(replace(burn, device="cuda:3", losses=tuple(loss * 1.01 for loss in burn.losses)))["numbers"].level == "error"


@pytest.mark.slow
def test_a_loss_that_does_not_fall_is_a_warning(burn):
    assert judged(replace(burn, last_loss=burn.first_loss))["learning"].level == "warning"
    assert judged(replace(burn, last_loss=burn.first_loss - 0.1))["learning"].level == "ok"


class Silent:
    """A reporter that keeps nothing."""

    def say(self, text):
        pass

    warn = say

    def progress(self, task, done, total, facts=None):
        pass


def test_a_device_that_fails_is_a_finding_and_the_next_one_follows(monkeypatch):
    monkeypatch.setattr(benchmark, "_devices", lambda: ["cuda:0", "cuda:1"])
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    found = list(benchmark.burn_in(Silent(), 1))
    assert [burn for burn, _ in found] == [None, None]
    assert [finding.level for _, findings in found for finding in findings] == ["error", "error"]
    assert "cuda:1" in found[1][1][0].name
    assert os.environ.get("MEDSSL_KEY_FILE") is None  # the burn-in's own has gone with it
