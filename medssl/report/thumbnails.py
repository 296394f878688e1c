"""Small pictures of images inside the page, and the nearest neighbours of some test images."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.report.theme import INK, MUTED, figure_style, new_figure, shorten, to_png

MAX_EDGE = 160  # pixels
NEIGHBOURS = 4
_EXAMPLES = 6
_JPEG_FROM = 64  # pixels from which on JPEG is smaller than PNG
_QUALITY = 85


@dataclass(frozen=True)
class Thumbnail:
    """A picture, uint8 [H, W, 3], and its caption. `correct`: whether the caption is the right one, None where the question has no
    meaning. `note`: a number beside the caption."""

    pixels: np.ndarray
    caption: str
    correct: bool | None = None
    note: str = ""

    @property
    def uri(self) -> str:
        """The picture as a data URI, no side longer than 160 pixels."""
        from PIL import Image

        picture = Image.fromarray(self.pixels)
        picture.thumbnail((MAX_EDGE, MAX_EDGE), Image.Resampling.LANCZOS)
        kind, options = ("JPEG", {"quality": _QUALITY}) if max(picture.size) >= _JPEG_FROM else ("PNG", {"optimize": True})
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def to_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] of an image [C, H, W] of uint8 or uint16. Three channels are red, green, blue; of any other number the first is
    shown in grey."""
    bytes_ = (image // 257 if image.dtype == np.uint16 else image).astype(np.uint8)
    return np.moveaxis(bytes_, 0, -1).copy() if len(bytes_) == 3 else np.repeat(bytes_[0][..., None], 3, axis=-1)


def select_examples(groups: np.ndarray, number: int = _EXAMPLES) -> np.ndarray:
    """Indices of `number` images by a fixed rule, without chance and without scores.

    The groups take turns. Each group gives the images that divide it into equal parts. A group is a number of 0 or more; images of
    group -1 are left out.
    """
    names = np.unique(groups[groups >= 0])
    quotas = {name: len(range(i, number, len(names))) for i, name in enumerate(names)}
    selected = []
    for name, quota in quotas.items():
        members = np.flatnonzero(groups == name)
        quota = min(quota, len(members))
        selected.append(members[((np.arange(quota) + 0.5) * len(members) / max(quota, 1)).astype(int)])
    return np.concatenate(selected) if selected else np.array([], int)


def nearest_neighbours(queries: np.ndarray, pool: np.ndarray, number: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """Indices into `pool` and cosine similarities [q, number] of the vectors most similar to each query, the most similar first."""
    q, p = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, pool))
    cosine = q @ p.T
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :number]
    return order, np.take_along_axis(cosine, order, axis=1)


def contact_sheet(rows: Sequence[Sequence[Thumbnail]]) -> bytes:
    """The thumbnails as one PNG for a tracker."""
    columns = max(map(len, rows))
    with figure_style():
        figure, axes = new_figure((1.5 * columns, 1.75 * len(rows)), len(rows), columns, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for row, thumbnails in enumerate(rows):
            for axis, thumbnail in zip(axes[row], thumbnails, strict=False):
                axis.imshow(thumbnail.pixels)
                mark = "" if thumbnail.correct is None else "✓ " if thumbnail.correct else "✗ "
                colour = MUTED if thumbnail.correct is False else INK
                axis.set_title(mark + shorten(thumbnail.caption, 20), fontsize=7, color=colour)
        return to_png(figure)
