"""Volumes as pictures: three planes through one voxel, as radiologists see them, in one square tile. All pictures of volumes are made here.

    coronal   sagittal          up is the head, left is the patient's right; in the sagittal plane left is the front
    axial                       up is the front, left is the patient's right

The axes of a volume [C, D, H, W] lead from feet to head, from front to back and from the patient's right to the left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import pandas as pd

EDGE = 160  # pixels of a tile
_GAP = 2  # pixels between two planes
_LETTER = 16  # times smaller than a tile; no smaller than _LEAST_LETTER pixels
_LEAST_LETTER = 9
# The letters at the top, the bottom, the left and the right of the coronal, the sagittal and the axial plane.
_LETTERS = ("SIRL", "SIAP", "APRL")


@dataclass(frozen=True)
class Planes:
    """How the volumes of a store are shown. `voxel_mm`: the distances of slices, rows and columns, or numbers of that proportion.
    `letters`: whether R, L, A, P, S and I mark the sides; they would be wrong where nobody knows how the patient lay."""

    voxel_mm: tuple[float, float, float] = (1, 1, 1)
    letters: bool = True

    @classmethod
    def of(cls, card: Mapping[str, Any], table: "pd.DataFrame") -> "Planes":
        """As the card and the table of a store know. Volumes that were fitted into their size have voxels of equal edges."""
        spacing = card["settings"].get("spacing_mm")
        voxel_mm = (spacing[0], spacing[1], spacing[2]) if isinstance(spacing, list | tuple) else (1, 1, 1)
        return cls(voxel_mm, bool(len(table)) and "orientation" in table and bool((table["orientation"] != "").all()))

    def picture(
        self, image: Shaped[np.ndarray, "*shape"], at: Sequence[int] | None = None, edge: int = EDGE
    ) -> Shaped[np.ndarray, "c h w"]:
        """An image [C, H, W] as it is; a volume [C, D, H, W] as a tile [C, edge, edge] of the same type. `at`: the voxel through which the
        planes go, without it the middle one."""
        if image.ndim == 3:
            return image
        d, h, w = at if at is not None else (length // 2 for length in image.shape[1:])
        lengths = [length * mm for length, mm in zip(image.shape[1:], self.voxel_mm, strict=True)]
        scale = (edge - _GAP) / max(lengths[2] + lengths[1], lengths[0] + lengths[1])
        deep, high, wide = (max(1, int(length * scale)) for length in lengths)
        top, left = (edge - deep - high - _GAP) // 2, (edge - wide - high - _GAP) // 2
        below, beside = top + deep + _GAP, left + wide + _GAP
        places = ((top, left, deep, wide), (top, beside, deep, high), (below, left, high, wide))
        tile = np.zeros((len(image), edge, edge), image.dtype)
        for plane, (y, x, rows, columns) in zip((image[:, ::-1, h], image[:, ::-1, :, w], image[:, d]), places, strict=True):
            tile[:, y : y + rows, x : x + columns] = _resize(plane, rows, columns)
        return _with_letters(tile, places) if self.letters else tile

    def without_letters(self) -> "Planes":
        """The same planes without letters."""
        return replace(self, letters=False)


CUBES = Planes()  # of voxels with equal edges


def _resize(plane: Shaped[np.ndarray, "c h w"], rows: int, columns: int) -> Shaped[np.ndarray, "c rows columns"]:
    """The plane with so many pixels: voxels of a small volume stay visible squares, a large one is smoothed."""
    how = Image.Resampling.NEAREST if rows >= plane.shape[1] and columns >= plane.shape[2] else Image.Resampling.BOX
    channels = [Image.fromarray(np.ascontiguousarray(channel, np.float32)).resize((columns, rows), how) for channel in plane]
    resized = np.stack([np.asarray(channel) for channel in channels])
    return resized if plane.dtype.kind == "f" else np.rint(resized).astype(plane.dtype)


def _with_letters(tile: Shaped[np.ndarray, "c h w"], places: Sequence[tuple[int, int, int, int]]) -> Shaped[np.ndarray, "c h w"]:
    """The tile with white letters on black rims at the sides of the planes, which lie at `places` (top, left, rows, columns)."""
    letter = max(_LEAST_LETTER, tile.shape[-1] // _LETTER)
    white = np.iinfo(tile.dtype).max if tile.dtype.kind in "iu" else 1
    font, masks = ImageFont.load_default(letter), []
    for rim in (1, 0):
        picture = Image.new("L", tile.shape[:0:-1])
        draw = ImageDraw.Draw(picture)
        for (top, left, rows, columns), words in zip(places, _LETTERS, strict=True):
            middle_x, middle_y = left + columns / 2, top + rows / 2
            spots = (
                (middle_x, top + 1, "mt"),
                (middle_x, top + rows - 1, "mb"),
                (left + 2, middle_y, "lm"),
                (left + columns - 2, middle_y, "rm"),
            )
            for word, (x, y, anchor) in zip(words, spots, strict=True):
                draw.text((x, y), word, 255, font, anchor, stroke_width=rim)
        masks.append(np.asarray(picture, np.float32) / 255)
    shown = tile * (1 - masks[0]) + white * masks[1]
    return shown.clip(0, white).astype(tile.dtype)
