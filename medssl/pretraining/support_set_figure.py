"""neighbours.png: eight images of a batch with the neighbours that the support set returns for each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from medssl.data.store import StoredVolumes
from medssl.files import atomic_file
from medssl.nn import l2_normalize
from medssl.nn.support_set import LABEL, PATIENT, ROW, STEP, SupportSet
from medssl.planes import CUBES, Planes
from medssl.types import LookUp
from medssl.views.grid import GAP, HEAD, INK, MARGIN, PAPER, TILE, tile

_QUERY_COUNT, _NEIGHBOUR_COUNT = 8, 3
_CAPTION = 36
_DEGREES_SHOWN, _PADDING = 90, 18  # the angle as wide as a tile, and the empty pixels on the left and right
_GREY, _RED = (190, 190, 190), (200, 60, 30)
_COLUMNS = (
    "image z",
    "nearest neighbour nn",
    "pseudo neighbour pnn",
    "the rows of the support set next to pnn (cos: with z; age: in steps)",
)


@dataclass(frozen=True)
class Member:
    """A row of the support set, compared with an image z. `row`: the row of the store, -1 for one of the initial random vectors;
    `cosine`: with z; `label`: the class; `age`: in steps; `mark`: "same image" or "same patient" as z, or ""."""

    row: int
    cosine: float
    label: int
    age: int
    mark: str


@dataclass(frozen=True)
class Line:
    """One line of the figure: an image z (`row` of the store, class `label`), its nearest neighbour, and the rows of the support set that
    are nearest to its pseudo neighbour. `cos_z`, `cos_nn`: cosine of the pseudo neighbour with z and with the nearest neighbour."""

    row: int
    label: int
    nearest: Member
    cos_z: float
    cos_nn: float
    others: tuple[Member, ...]


def lookup_lines(lookup: LookUp, support: SupportSet, now: int) -> list[Line]:
    """The lines of the first eight queries of a look-up. `now`: the step of the look-up, from 0.

    The rows that this step pushed after its look-up are left out of `others`, and so is the nearest neighbour.
    """
    z, nn, pnn = (l2_normalize(x.detach()[:_QUERY_COUNT]) for x in (lookup.z, lookup.nn, lookup.pnn))
    tags = lookup.z_tags[:_QUERY_COUNT]
    fresh = support.tags[:, STEP] == now
    nearest_rows = support.nearest(pnn, tags, min(len(fresh), int(fresh.sum()) + _NEIGHBOUR_COUNT + 1))
    lines = []
    for i in range(len(z)):
        others = [j for j in nearest_rows[i].tolist() if j != int(lookup.index[i]) and not fresh[j]][:_NEIGHBOUR_COUNT]
        members = tuple(_member(z[i], tags[i], support.rows[j], support.tags[j], now) for j in others)
        nearest = _member(z[i], tags[i], nn[i], lookup.nn_tags[i], now)
        lines.append(Line(int(tags[i, ROW]), int(tags[i, LABEL]), nearest, float(z[i] @ pnn[i]), float(nn[i] @ pnn[i]), members))
    return lines


def _member(z: Float[Tensor, " d"], of_z: Int[Tensor, " 4"], value: Float[Tensor, " d"], tags: Int[Tensor, " 4"], now: int) -> Member:
    cosine = float(z @ value)
    if tags[STEP] < 0:
        return Member(-1, cosine, -1, 0, "")
    same_patient = tags[PATIENT] == of_z[PATIENT] and of_z[PATIENT] >= 0
    mark = "same image" if tags[ROW] == of_z[ROW] else "same patient" if same_patient else ""
    return Member(int(tags[ROW]), cosine, int(tags[LABEL]), now - int(tags[STEP]), mark)


def save_figure(
    path: Path, lines: Sequence[Line], images: np.ndarray | StoredVolumes, classes: Sequence[str], planes: Planes = CUBES
) -> None:
    """Write the PNG file; a failure leaves no part of a file. `images`: the images of the store, or its volumes, of which `planes` are
    shown; `classes`: the names of the classes."""
    left = [MARGIN, 2 * MARGIN + TILE, 3 * MARGIN + 2 * TILE, 4 * MARGIN + 3 * TILE]
    left += [left[-1] + i * (TILE + GAP) for i in range(1, _NEIGHBOUR_COUNT)]
    high = TILE + _CAPTION
    picture = Image.new("RGB", (left[-1] + TILE + MARGIN, HEAD + len(lines) * high + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for x, text in zip(left[: len(_COLUMNS)], _COLUMNS, strict=True):
        draw.text((x, 7), text, INK, font)
    for number, line in enumerate(lines):
        top = HEAD + number * high
        picture.paste(tile(planes.picture(images[line.row])), (left[0], top))
        _write_caption(draw, left[0], top, [_class_name(line.label, classes)])
        picture.paste(_draw_triangle(line), (left[2], top))
        _write_caption(draw, left[2], top, [f"cos {line.cos_z:.2f} with z", f"cos {line.cos_nn:.2f} with nn"])
        for x, member in zip([left[1], *left[3 : 3 + len(line.others)]], [line.nearest, *line.others], strict=True):
            shown = _blank_tile("random vector") if member.row < 0 else tile(planes.picture(images[member.row]))
            picture.paste(shown, (x, top))
            age = "" if member.row < 0 else f"age {member.age}"
            _write_caption(draw, x, top, [f"cos {member.cosine:.2f}  {_class_name(member.label, classes)}", age], member.mark)
    with atomic_file(path) as file:
        picture.save(file, "PNG")


def _class_name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if 0 <= label < len(classes) else ""


def _write_caption(draw: ImageDraw.ImageDraw, x: int, top: int, words: Sequence[str], mark: str = "") -> None:
    """Write up to two lines below a tile, cut to the width of the tile; `mark` stands at the end of the second line."""
    font = ImageFont.load_default(13)
    for number, text in enumerate(words):
        while text and draw.textlength(text, font) > TILE:
            text = text[:-1]
        draw.text((x, top + TILE + 1 + 15 * number), text, INK, font)
    if mark:
        draw.text((x + TILE - draw.textlength(mark, font), top + TILE + 16), mark, _RED, font)


def _blank_tile(text: str) -> Image.Image:
    blank = Image.new("RGB", (TILE, TILE), "white")
    ImageDraw.Draw(blank).text((TILE / 2, TILE / 2), text, _GREY, ImageFont.load_default(15), anchor="mm")
    return blank


def _draw_triangle(line: Line) -> Image.Image:
    """The triangle of z, nearest neighbour and pseudo neighbour. The length of a side is the angle between two of them; 90 degrees are
    as wide as the tile."""
    z_nn, z_pnn, nn_pnn = (math.acos(max(-1.0, min(1.0, c))) for c in (line.nearest.cosine, line.cos_z, line.cos_nn))
    along = (z_pnn**2 + z_nn**2 - nn_pnn**2) / (2 * max(z_nn, 1e-6))
    above = math.sqrt(max(0.0, z_pnn**2 - along**2))
    scale = (TILE - 2 * _PADDING) / math.radians(_DEGREES_SHOWN)
    z, nn, pnn = ((_PADDING + scale * x, 0.6 * TILE - scale * y) for x, y in ((0, 0), (z_nn, 0), (along, above)))
    picture = Image.new("RGB", (TILE, TILE), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    draw.line([z, nn], _GREY, 2)
    for (x, y), text, colour, (right, down), anchor in (
        (z, "z", INK, (-8, 0), "rm"),
        (nn, "nn", INK, (8, 0), "lm"),
        (pnn, "pnn", _RED, (0, -8), "mb"),
    ):
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], colour)
        draw.text((min(x + right, TILE - 16), y + down), text, colour, font, anchor=anchor)
    return picture
