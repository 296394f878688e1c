"""pipelines/: the settings that the studies name exist, and a comparison of ways of pretraining goes on where it was stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from medssl.config import merge, parse_overrides, resolve
from medssl.runs import presets

PIPELINES = Path(__file__).resolve().parent.parent / "pipelines"
STUDY = """
results: {folder}/results.jsonl
labels: 50pct,100pct
draws: 2
modes: [linear]
seeds: {seeds}
against: random
data:
  phantom: {{data: phantom, preset: demo, set: [data.source.patients=30, data.source.size=64, train.steps=2, train.batch_size=4]}}
variants:
  pixels: [pixels]
  random: [random]
  pnnclr: []
"""


@pytest.mark.parametrize("name", ["methods", "neighbours", "starts"])
def test_every_variant_of_a_comparison_is_a_configuration(name):
    study = yaml.safe_load((PIPELINES / f"{name}.yaml").read_text("utf-8"))
    assert study["against"] in study["variants"]
    for data in study["data"].values():
        for settings in study["variants"].values():
            sets = parse_overrides([*data["set"], *(item for item in settings if item not in ("random", "pixels"))])
            resolve(merge(presets.load(data["preset"]), sets))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_comparison_runs_each_variant_once_and_shows_differences_over_the_seeds(tmp_path):
    def compare(seeds: int) -> str:
        (tmp_path / "study.yaml").write_text(STUDY.format(folder=tmp_path, seeds=seeds))
        command = [sys.executable, PIPELINES / "compare_pretraining.py", tmp_path / "study.yaml"]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    assert "0 of 3 runs are there" in compare(1)
    first = (tmp_path / "results.jsonl").read_text("utf-8")
    said = compare(2)
    assert "3 of 5 runs are there" in said
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text("utf-8").splitlines()]
    assert (tmp_path / "results.jsonl").read_text("utf-8").startswith(first)
    assert sorted((line["variant"], line["seed"]) for line in lines) == [
        ("pixels", 0),
        *((v, s) for v in ("pnnclr", "random") for s in (0, 1)),
    ]
    assert all(0 <= score <= 1 for line in lines for score in line["scores"].values())
    scores = {(line["variant"], line["seed"]): line["scores"]["linear 100pct"] for line in lines}
    difference = sum(scores["pnnclr", seed] - scores["random", seed] for seed in (0, 1)) / 2
    (row,) = [line for line in said.splitlines() if line.startswith("| pnnclr | 2 |")]
    assert f"({difference:+.3f} [" in row
