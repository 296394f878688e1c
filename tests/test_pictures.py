"""The pictures of README and docs are those that docs/pictures/draw.py draws now."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
TOLERANCE = 2  # of 255, on average: another processor may round another way, a moved line differs by more


def pixels(picture: Path) -> np.ndarray:
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


@pytest.mark.slow
def test_the_pictures_are_drawn_from_the_present_phantoms_views_and_numbers(tmp_path):
    subprocess.run([sys.executable, PICTURES / "draw.py", "--out", tmp_path], check=True)
    for name in ("hero.png", "kinds.png"):
        drawn, kept = (pixels(folder / name) for folder in (tmp_path, PICTURES))
        assert drawn.shape == kept.shape
        assert np.abs(drawn - kept).mean() < TOLERANCE, "run: python docs/pictures/draw.py"
    for name in ("sphere.svg", "terminal.svg", "badges.svg"):
        assert (tmp_path / name).read_text() == (PICTURES / name).read_text(), "run: python docs/pictures/draw.py"


def test_the_photograph_of_the_report_is_of_the_present_page(script, monkeypatch):
    monkeypatch.syspath_prepend(PICTURES)
    kept = json.loads((PICTURES / "demo.json").read_text())
    assert kept["templates"] == script("docs/pictures/draw.py").digest_of_templates(), (
        "run the demo, then the command at the head of docs/pictures/draw.py"
    )
    with Image.open(PICTURES / "report.png") as picture:
        assert picture.size == (1280, 1000)
