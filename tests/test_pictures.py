"""The pictures of README and docs are those that docs/pictures/draw.py draws now."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
TOLERANCE = 2  # of 255, on average: another processor may round another way, a moved line differs by more


def test_the_pictures_are_drawn_from_the_present_phantoms_views_and_numbers(tmp_path):
    subprocess.run([sys.executable, PICTURES / "draw.py", "--out", tmp_path], check=True)
    drawn, kept = (np.asarray(Image.open(folder / "hero.png").convert("L"), dtype=float) for folder in (tmp_path, PICTURES))
    assert drawn.shape == kept.shape
    difference = np.abs(drawn - kept)
    assert difference.mean() < TOLERANCE, "run: python docs/pictures/draw.py"
    assert (tmp_path / "sphere.svg").read_text() == (PICTURES / "sphere.svg").read_text(), "run: python docs/pictures/draw.py"
