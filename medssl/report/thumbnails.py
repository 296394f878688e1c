"""Images of the store as small pictures inside the page, and the nearest neighbours of some of them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.report.theme import INK, MUTED, blank, png, short, style

EDGE = 160  # pixels at most
NEIGHBOURS = 4
_QUERIES = 6
_PHOTOGRAPH = 64  # pixels from which on JPEG is the smaller form
_QUALITY = 85


@dataclass(frozen=True)
class Tile:
    """A picture, uint8 [H, W, 3], and what is said under it. `good`: whether that is what one hopes for, where it can be said."""

    pixels: np.ndarray
    said: str
    good: bool | None = None
    note: str = ""

    @property
    def uri(self) -> str:
        """The picture as a data URI, no side longer than 160 pixels."""
        from PIL import Image

        picture = Image.fromarray(self.pixels)
        picture.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
        kind, options = ("JPEG", {"quality": _QUALITY}) if max(picture.size) >= _PHOTOGRAPH else ("PNG", {"optimize": True})
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def displayed(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] of an image [C, H, W] of uint8 or uint16: three channels as red, green, blue; of any other number the first, grey."""
    bytes_ = (image // 257 if image.dtype == np.uint16 else image).astype(np.uint8)
    return np.moveaxis(bytes_, 0, -1).copy() if len(bytes_) == 3 else np.repeat(bytes_[0][..., None], 3, axis=-1)


def spread(groups: np.ndarray, wanted: int = _QUERIES) -> np.ndarray:
    """Places of `wanted` images, spread evenly: the groups take turns, and each gives those that cut its images into equal parts.

    A group is a number of 0 or more; images of group -1 are left out. No chance and no score is in it, and no eye.
    """
    names = np.unique(groups[groups >= 0])
    quota = {name: len(range(i, wanted, len(names))) for i, name in enumerate(names)}
    picked = []
    for name, number in quota.items():
        own = np.flatnonzero(groups == name)
        number = min(number, len(own))
        picked.append(own[((np.arange(number) + 0.5) * len(own) / max(number, 1)).astype(int)])
    return np.concatenate(picked) if picked else np.array([], int)


def nearest(queries: np.ndarray, pool: np.ndarray, number: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """Places in `pool` and cosines [q, number] of the vectors most alike to each query, the most alike first."""
    q, p = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, pool))
    cosine = q @ p.T
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :number]
    return order, np.take_along_axis(cosine, order, axis=1)


def sheet(rows: Sequence[Sequence[Tile]]) -> bytes:
    """The tiles as one PNG for a tracker."""
    columns = max(map(len, rows))
    with style():
        figure, axes = blank((1.5 * columns, 1.75 * len(rows)), len(rows), columns, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for row, tiles in enumerate(rows):
            for axis, tile in zip(axes[row], tiles, strict=False):
                axis.imshow(tile.pixels)
                mark = "" if tile.good is None else "✓ " if tile.good else "✗ "
                axis.set_title(mark + short(tile.said, 20), fontsize=7, color=MUTED if tile.good is False else INK)
        return png(figure)
