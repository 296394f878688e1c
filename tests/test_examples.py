"""Every command of README.md and of the pages for a first start: it runs as it stands, or its parts are checked where it cannot run here.

The folders that the pages name exist, with small pictures. The presets are small copies of those in configs/: without them each training
would take minutes. Nothing else is changed.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from medssl.__main__ import main
from medssl.config import merge, parse_overrides, resolve
from medssl.runs import presets

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/getting_started").glob("*.md"))]
PYTHON = (ROOT / "README.md",)  # tests/test_docs.py runs the Python of these pages
OUTPUTS = ("data ", "pretrain ", "leaks ", "preset ")  # how the blocks begin that show what a command prints
NOT_RUN = {
    "make setup": "installs packages",
    "make demo": "installs packages, and is `medssl demo`, which runs here",
    "make test": "would run this test, too",
    "make docs": "tests/test_docs.py builds the site",
    "make bundle": "needs Docker and a network",
    "pip install .": "installs packages",
    "docker compose -f docker/compose.yaml --profile run build": "needs Docker",
    ". .venv/bin/activate": "the environment is another one here",
    "medssl doctor --burn-in 60": "takes a minute; tests/doctor has a shorter one",
    "medssl pretrain --data phantom --preset demo --set data.source.finding=nodule": "is the demo's, with another finding",
    "medssl finetune --labels 1pct,10pct,100pct": "is the demo's",
    "medssl pretrain --data chestxray/ --set train.epochs=200 --set train.batch_size=64": "is long; a shorter one runs here",
    "python pipelines/compare_pretraining.py pipelines/study.yaml": "takes hours; tests/test_pipelines.py has a small study",
}
SMALL: dict[str, Any] = {
    "data": {"size": 16},
    "backbone": {"stem": "small", "arguments": {"channels": [8, 8, 16, 16]}},
    "method": {"hidden": 32, "width": 16},
    "train": {"epochs": 1, "min_steps": 4, "warmup_epochs": 0, "batch_size": 16, "workers": 0, "precision": "fp32"},
    "monitor": {"knn_every_epochs": 1000, "on_collapse": "warn"},
    "finetune": {"draws": 1, "bootstraps": 100},
    "tracking": {"mlflow": False},
}
PHANTOMS = {"data": {"source": {"patients": 260, "size": 64}}}
_FENCE = re.compile(r"^ *```(?P<language>\w*)\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_PROGRAM = re.compile(r"(medssl|make|pip|python|docker|\.) \S")


def commands(page: Path) -> Iterator[str]:
    """The commands in the blocks of a page, then those within its text. A command without options, or whose last option lacks a value, is
    a mention of it in a sentence."""
    text = page.read_text("utf-8")
    for block in _FENCE.finditer(text):
        if _PROGRAM.match(block["code"]):
            yield from block["code"].replace("\\\n", "").splitlines()
    for inline in re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)):
        is_mention = inline.startswith("medssl") and (" --" not in inline or shlex.split(inline)[-1].startswith("--"))
        if _PROGRAM.match(inline) and not is_mention:
            yield inline


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_commands_that_are_tested_or_the_output_of_one(page: Path) -> None:
    for block in _FENCE.finditer(page.read_text("utf-8")):
        if block["language"] == "python" and page in PYTHON:
            continue
        assert block["language"] == "", "a snippet in another language needs a test that runs it"
        assert _PROGRAM.match(block["code"]) or block["code"].startswith(OUTPUTS), block["code"]
    for command in commands(page):
        assert command.startswith("medssl ") or command in NOT_RUN, f"{command}: run it here, or name the reason against it"


def test_a_command_that_is_not_run_is_in_a_page_and_names_files_and_targets_that_exist() -> None:
    assert NOT_RUN.keys() <= {command for page in PAGES for command in commands(page)}
    for command in NOT_RUN:
        program, *words = shlex.split(command)
        files = [word for word in words if word.endswith((".py", ".yaml"))]
        assert all((ROOT / file).is_file() for file in files), command
        if program == "make":
            make = shutil.which("make")
            if make is None:
                pytest.skip("there is no make here")
            asked = subprocess.run([make, "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False)
            assert asked.returncode == 0, asked.stderr
        if sets := [value for option, value in pairwise(words) if option == "--set"]:
            preset = words[words.index("--preset") + 1] if "--preset" in words else "chest_xray_cpu"
            resolve(merge(presets.load(preset), parse_overrides(sets)))
    assert "medssl demo --out runs/demo --overwrite" in (ROOT / "Makefile").read_text("utf-8")
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text("utf-8"))["services"].values()
    assert any("run" in service.get("profiles", ()) and "build" in service for service in services)
    assert (ROOT / "pyproject.toml").is_file()


@pytest.fixture
def small_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of all presets with small networks and short trainings, in the place of those in configs/."""
    folder = tmp_path / "configs"
    folder.mkdir()
    for file in presets.folder().glob("*.yaml"):
        values = merge(yaml.safe_load(file.read_text("utf-8")), merge(SMALL, PHANTOMS if file.stem == "demo" else {}))
        (folder / file.name).write_text(yaml.safe_dump(values), "utf-8")
    monkeypatch.setattr(presets, "folder", lambda: folder)


def draw_images(folder: Path, count: int) -> None:
    """Grey pictures with a table beside them: two pictures of each patient, and a bright square in the sick ones."""
    folder.mkdir()
    draw, rows = np.random.default_rng(0), ["image,patient_id,label"]
    for number in range(count):
        pixels = draw.integers(60, 120, (96, 96), np.uint8)
        sick = number // 2 % 2
        pixels[32:64, 32:64] += np.uint8(60 * sick)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        rows.append(f"{number:03}.png,{number // 2:03},{('normal', 'sick')[sick]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("small_presets")
@pytest.mark.filterwarnings("ignore")  # scikit-learn warns of few labels
def test_every_other_command_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    draw_images(home / "chestxray", 100)
    draw_images(home / "ward", 4)
    shutil.copy(min((home / "ward").rglob("*.*")), home / "image.dcm")  # a format is found by the content of a file
    run = [command for page in PAGES for command in commands(page) if command not in NOT_RUN]
    assert len(set(run)) > 6
    for command in dict.fromkeys(run):
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code or (command == "medssl doctor" and ended.value.code == 2), f"{command}\n{said.out}{said.err}"
    for file in ("pretrain/encoder.safetensors", "pretrain/report.html", "finetune/report.html"):
        assert (home / "runs/demo" / file).is_file(), "the page names this file"
