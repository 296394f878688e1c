"""views.png shows the stored image and its views."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.views.grid import save_grid

IMAGES = np.stack([np.full((1, 40, 40), value, np.uint8) for value in (10, 60, 110)])


class Recorder:
    """Views whose grey tells which one it is."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, ...]] = []

    def __call__(self, image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        self.keys.append(key)
        return image + np.asarray(10 * (key[-1] + 1), image.dtype)


def tiles(path: Path) -> list[list[tuple[int, ...]]]:
    """The centre colours of the eight tiles of each line: their plain areas, in reading order."""
    with Image.open(path) as grid:
        pixels = np.asarray(grid)
    lines = [30 + 164 * line + 80 for line in range((pixels.shape[0] - 30) // 164)]
    columns = [14 + 80, *(2 * 14 + 160 + 164 * view + 80 for view in range(7))]
    return [[tuple(pixels[line, column].tolist()) for column in columns] for line in lines]


def test_each_line_is_the_stored_image_and_seven_views_of_it(tmp_path: Path) -> None:
    make_views = Recorder()
    save_grid(tmp_path / "views.png", IMAGES, make_views, [2, 0], 5)
    assert tiles(tmp_path / "views.png") == [[(start + 10 * i,) * 3 for i in range(8)] for start in (110, 10)]
    assert make_views.keys == [(5, 0, row, view) for row in (2, 0) for view in range(7)]


@pytest.mark.parametrize("size", [16, 160, 300])
def test_any_size_makes_the_same_layout(tmp_path: Path, size: int) -> None:
    save_grid(tmp_path / "views.png", np.full((1, 1, size, size), 99, np.uint8), lambda image, _: image, [0], 0)
    assert tiles(tmp_path / "views.png") == [[(99, 99, 99)] * 8]


def test_sixteen_bits_and_their_float_views_are_shown_on_one_scale(tmp_path: Path) -> None:
    images = np.full((1, 1, 40, 40), 100 * 257, np.uint16)
    save_grid(tmp_path / "views.png", images, lambda image, _: image.astype(np.float32) / 65535, [0], 0)
    assert tiles(tmp_path / "views.png") == [[(100, 100, 100)] * 8]


def test_colours_stay_in_their_order(tmp_path: Path) -> None:
    images = np.full((1, 3, 40, 40), np.array([250, 120, 30]).reshape(3, 1, 1), np.uint8)
    save_grid(tmp_path / "views.png", images, lambda image, _: image, [0], 0)
    assert tiles(tmp_path / "views.png") == [[(250, 120, 30)] * 8]


def test_a_volume_is_three_planes_with_letters_and_its_views_have_none(tmp_path: Path) -> None:
    """A view may be mirrored: a letter beside it could name the wrong side."""
    volumes = np.full((1, 1, 16, 16, 16), 99, np.uint8)
    save_grid(tmp_path / "views.png", volumes, lambda volume, _: volume.astype(np.float32) / 255, [0], 0)
    with Image.open(tmp_path / "views.png") as grid:
        stored, view = (np.asarray(grid)[30:190, left : left + 160, 0] for left in (14, 2 * 14 + 160))
    assert view.shape == (160, 160)
    assert set(np.unique(view)) == {0, 99}
    assert not view[84:, 84:].any() and (view[:76, :76] == 99).all() and (view[84:156, :76] == 99).all()
    assert stored.max() > 200 and set(np.unique(stored[20:60, 20:60])) == {99}
