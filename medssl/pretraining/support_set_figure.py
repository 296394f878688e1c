"""neighbours.png: what the support set gives to eight images of a batch, to be looked at while a run trains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from medssl.files import atomic_file
from medssl.nn.support_set import LABEL, PATIENT, ROW, STEP, SupportSet
from medssl.types import LookUp
from medssl.views.grid import GAP, HEAD, INK, MARGIN, PAPER, TILE, tile

_QUERIES, _NEXT = 8, 3
_CAPTION = 36
_DEGREES, _EDGE = 90, 18  # the drawing's width, and what it leaves on either side
_FAINT, _MARK = (190, 190, 190), (200, 60, 30)
_COLUMNS = (
    "image z",
    "nearest neighbour nn",
    "pseudo neighbour pnn",
    "the rows of the support set next to pnn (cos: with z; age: in steps)",
)


@dataclass(frozen=True)
class Member:
    """A row of the support set beside an image z: `row` of the store, -1 for one that the set started with; its cosine with z; class;
    age in steps; what it has in common with z."""

    row: int
    cosine: float
    label: int
    age: int
    mark: str


@dataclass(frozen=True)
class Line:
    """An image z (`row` of the store, class `label`), its nearest neighbour, and the rows next to its pseudo neighbour, whose cosines
    with z and nearest neighbour are `cos_z` and `cos_nn`."""

    row: int
    label: int
    nearest: Member
    cos_z: float
    cos_nn: float
    others: tuple[Member, ...]


def lookup_lines(lookup: LookUp, support: SupportSet, now: int) -> list[Line]:
    """The first eight queries of the look-up of step `now`, counted from 0, whose own rows have been pushed since: those are left out,
    and so is the nearest neighbour, where the next rows are told."""
    z, nn, pnn = (F.normalize(x.detach()[:_QUERIES].float(), dim=1) for x in (lookup.z, lookup.nn, lookup.pnn))
    tags = lookup.z_tags[:_QUERIES]
    fresh = support.tags[:, STEP] == now
    near = support.nearest(pnn, tags, min(len(fresh), int(fresh.sum()) + _NEXT + 1))
    found = []
    for i in range(len(z)):
        others = [j for j in near[i].tolist() if j != int(lookup.index[i]) and not fresh[j]][:_NEXT]
        members = tuple(_member(z[i], tags[i], support.rows[j].float(), support.tags[j], now) for j in others)
        nearest = _member(z[i], tags[i], nn[i], lookup.nn_tags[i], now)
        found.append(Line(int(tags[i, ROW]), int(tags[i, LABEL]), nearest, float(z[i] @ pnn[i]), float(nn[i] @ pnn[i]), members))
    return found


def _member(z: Float[Tensor, " d"], of_z: Int[Tensor, " 4"], value: Float[Tensor, " d"], tags: Int[Tensor, " 4"], now: int) -> Member:
    cosine = float(z @ value)
    if tags[STEP] < 0:
        return Member(-1, cosine, -1, 0, "")
    same_patient = tags[PATIENT] == of_z[PATIENT] and of_z[PATIENT] >= 0
    mark = "same image" if tags[ROW] == of_z[ROW] else "same patient" if same_patient else ""
    return Member(int(tags[ROW]), cosine, int(tags[LABEL]), now - int(tags[STEP]), mark)


def save_figure(path: Path, lines: Sequence[Line], images: np.ndarray, classes: Sequence[str]) -> None:
    """Write the PNG with a line for each of `lines`, whole or not at all. `images`: the store's; `classes`: the names of the labels."""
    left = [MARGIN, 2 * MARGIN + TILE, 3 * MARGIN + 2 * TILE, 4 * MARGIN + 3 * TILE]
    left += [left[-1] + i * (TILE + GAP) for i in range(1, _NEXT)]
    high = TILE + _CAPTION
    picture = Image.new("RGB", (left[-1] + TILE + MARGIN, HEAD + len(lines) * high + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for x, text in zip(left[: len(_COLUMNS)], _COLUMNS, strict=True):
        draw.text((x, 7), text, INK, font)
    for number, line in enumerate(lines):
        top = HEAD + number * high
        picture.paste(tile(images[line.row]), (left[0], top))
        _write(draw, left[0], top, [_name(line.label, classes)])
        picture.paste(_drawing(line), (left[2], top))
        _write(draw, left[2], top, [f"cos {line.cos_z:.2f} with z", f"cos {line.cos_nn:.2f} with nn"])
        for x, member in zip([left[1], *left[3 : 3 + len(line.others)]], [line.nearest, *line.others], strict=True):
            picture.paste(_blank("random vector") if member.row < 0 else tile(images[member.row]), (x, top))
            age = "" if member.row < 0 else f"age {member.age}"
            _write(draw, x, top, [f"cos {member.cosine:.2f}  {_name(member.label, classes)}", age], member.mark)
    with atomic_file(path) as file:
        picture.save(file, "PNG")


def _name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if 0 <= label < len(classes) else ""


def _write(draw: ImageDraw.ImageDraw, x: int, top: int, words: Sequence[str], mark: str = "") -> None:
    """Up to two lines under a tile, as far as they fit; `mark` at the end of the second one."""
    font = ImageFont.load_default(13)
    for number, text in enumerate(words):
        while text and draw.textlength(text, font) > TILE:
            text = text[:-1]
        draw.text((x, top + TILE + 1 + 15 * number), text, INK, font)
    if mark:
        draw.text((x + TILE - draw.textlength(mark, font), top + TILE + 16), mark, _MARK, font)


def _blank(text: str) -> Image.Image:
    blank = Image.new("RGB", (TILE, TILE), "white")
    ImageDraw.Draw(blank).text((TILE / 2, TILE / 2), text, _FAINT, ImageFont.load_default(15), anchor="mm")
    return blank


def _drawing(line: Line) -> Image.Image:
    """The triangle of z, nearest and pseudo neighbour; its sides are as long as the angles between them, 90 degrees as wide as the tile."""
    z_nn, z_pnn, nn_pnn = (math.acos(max(-1.0, min(1.0, c))) for c in (line.nearest.cosine, line.cos_z, line.cos_nn))
    along = (z_pnn**2 + z_nn**2 - nn_pnn**2) / (2 * max(z_nn, 1e-6))
    above = math.sqrt(max(0.0, z_pnn**2 - along**2))
    scale = (TILE - 2 * _EDGE) / math.radians(_DEGREES)
    z, nn, pnn = ((_EDGE + scale * x, 0.6 * TILE - scale * y) for x, y in ((0, 0), (z_nn, 0), (along, above)))
    picture = Image.new("RGB", (TILE, TILE), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    draw.line([z, nn], _FAINT, 2)
    for (x, y), text, colour, (right, down), anchor in (
        (z, "z", INK, (-8, 0), "rm"),
        (nn, "nn", INK, (8, 0), "lm"),
        (pnn, "pnn", _MARK, (0, -8), "mb"),
    ):
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], colour)
        draw.text((min(x + right, TILE - 16), y + down), text, colour, font, anchor=anchor)
    return picture
