"""views.png: a picture of images and their views, to be looked at before a long run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medssl.files import atomic_file
from medssl.planes import CUBES, Planes
from medssl.views.executors import ViewMaker

_VIEWS = 7
TILE = 160
GAP = 4
MARGIN = 14
HEAD = 30
PAPER = (245, 245, 245)
INK = (40, 40, 40)


def save_grid(
    path: Path, images: np.ndarray | Mapping[int, np.ndarray], make_views: ViewMaker, rows: Sequence[int], seed: int, planes: Planes = CUBES
) -> None:
    """Writes a PNG with one line for each of `rows` of `images` (uint8 or uint16 [N, C, H, W], or [N, C, D, H, W], of which `planes` are
    shown; or the image of each row): the stored image, then seven views of it, for step 0 and `seed`. The file is written atomically."""
    width = 3 * MARGIN + (_VIEWS + 1) * TILE + (_VIEWS - 1) * GAP
    height = HEAD + len(rows) * (TILE + GAP) - GAP + MARGIN
    grid = Image.new("RGB", (width, height), PAPER)
    first_view, of_views = 2 * MARGIN + TILE, planes.without_letters()  # a view may be mirrored
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(15)
    draw.text((MARGIN, 7), "as stored", INK, font)
    draw.text((first_view, 7), "views, as the encoder sees them", INK, font)
    draw.line([(MARGIN + TILE + MARGIN // 2, HEAD), (MARGIN + TILE + MARGIN // 2, height - MARGIN)], INK, 2)
    for line, row in enumerate(map(int, rows)):
        top = HEAD + line * (TILE + GAP)
        grid.paste(tile(planes.picture(images[row])), (MARGIN, top))
        for view in range(_VIEWS):
            made = of_views.picture(make_views(images[row], (seed, 0, row, view)))
            grid.paste(tile(made), (first_view + view * (TILE + GAP), top))
    with atomic_file(path) as file:
        grid.save(file, "PNG")


def tile(image: np.ndarray) -> Image.Image:
    """An image [C, H, W], uint8, uint16 or float in [0, 1], as a picture of TILE x TILE pixels. Pixels of smaller images stay visible
    squares."""
    full = {"uint8": 255, "uint16": 65535}.get(image.dtype.name, 1)
    pixels = np.round(np.asarray(image, np.float32) * (255 / full)).astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    enlarged = max(picture.size) < TILE
    return picture.convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)
