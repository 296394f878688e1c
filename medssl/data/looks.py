"""What prepared images and whole volumes look like: nearly black or constant ones, masks, mixed bit depths, and views that would show
nothing.

Evenly spaced images of a store are judged by their pixels alone. Every fault is said with its share and with the key that mends it; nothing
is changed.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from medssl.data.store import Store, StoredVolumes

_ROWS, _VOXELS, _LARGE = 512, 2**26, 2**24  # images that are judged, voxels of volumes, and of one volume
_LEAST_SHARE, _LEAST_OF_SLICES = 0.01, 0.05  # a fault of fewer images is not said: the ends of a volume are dark in every data set
_DARK, _CONSTANT = 0.1, 0.04  # of the range: the brightest pixels of a nearly black image; all that a nearly constant image uses
_FEW_VALUES = 8
_EMPTY = 0.02  # of the range: all that a view of nothing uses
_EMPTY_CROPS = 1 / 3
_BRIGHTER = 2.0  # times, from one bit depth to the other
STRETCH = (
    "--set 'data.transforms=[{name: monai.transforms.ScaleIntensityRangePercentiles, lower: 0.5, upper: 99.5, b_min: 0, b_max: 1, "
    "clip: true}]'"
)
Picture = Float[np.ndarray, "*edges"]  # [H, W] or [D, H, W]


def find_looks(store: Store) -> dict[str, Any]:
    """The number of images that were `checked`, and of those with each fault that any has; `window`: whether percentiles can be chosen by
    data.window; `slices`: whether the images may be slices of volumes; `volumes`: whether they are whole volumes."""
    whole, in_patches = store.images.ndim == 5, isinstance(store.images, StoredVolumes)
    rows = sample_rows(store)
    pictures = [_grey(_thinned(np.asarray(store.images[int(row)]))) for row in rows]
    faults = {
        "dark": sum(_brightest(picture) < _DARK for picture in pictures),
        "constant": sum(_is_constant(picture) for picture in pictures),
        "few_values": sum(len(np.unique(picture)) <= _FEW_VALUES and not _is_constant(picture) for picture in pictures),
        "empty_views": 0 if in_patches else sum(_has_empty_views(picture) for picture in pictures),
    }
    found = {name: int(number) for name, number in faults.items() if number}
    readers = store.card["versions"]["readers"]
    slices = not whole and not {"dicom", "nifti"}.isdisjoint(readers)
    facts = {name: True for name, true in {"window": "dicom" in readers, "slices": slices, "volumes": whole}.items() if true}
    return {"checked": len(rows), **found, **facts, **_mixed_bits(store.table["bits"].to_numpy()[rows], pictures)}


def look_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The faults as sentences for a person, each with what mends it. `found`: what `find_looks` has returned."""
    checked, least = found["checked"], _LEAST_OF_SLICES if found.get("slices") else _LEAST_SHARE
    what = "volumes" if found.get("volumes") else "images"
    stretch = "--set data.window=percentile" if found.get("window") else STRETCH
    sentences = {
        "dark": f"are nearly black: the brightest pixels are below a tenth of the range. To use the range of each image: {stretch}",
        "constant": f"are nearly constant: they use less than {_CONSTANT:.0%} of the range. To use the range of each image: {stretch}",
        "few_values": f"have at most {_FEW_VALUES} grey values, as masks have. "
        + (
            "If they are masks of what is looked for, views change their geometry alone: --set views.recipe=volume_shape"
            if found.get("volumes")
            else "Take them out of the folder, or name the images in a table"
        ),
        "empty_views": "show nothing in a third of the parts of which views are made. "
        + (
            "Larger views, in pretrain: --set 'views.recipe.crop_volume=[0.6, 1]'"
            if found.get("volumes")
            else "Without their margin: --set 'data.transforms=[{name: monai.transforms.CropForeground}]'; or larger views, in pretrain: "
            "--set 'views.recipe.crop_area=[0.6, 1]'"
        ),
    }
    for name, sentence in sentences.items():
        share = found.get(name, 0) / checked
        if share >= least and not (name == "dark" and found.get("constant") == found[name]):
            yield f"{share:.0%} of {checked} {what} {sentence}"
    if bits := found.get("mixed_bits"):
        counts = ", ".join(f"{depth} bits {number}" for depth, number in bits["images"].items())
        text = f"bit depths are mixed ({counts})"
        if bits["ratio"] >= _BRIGHTER:
            text += f", and one depth is {bits['ratio']:.1f} times as bright as the other. To use the range of each image: {stretch}"
        yield text


def sample_rows(store: Store) -> Int[np.ndarray, " rows"]:
    """Evenly spaced rows of a store: of images at most 512, of whole volumes eight or more, and about 64 million voxels."""
    most = max(8, _VOXELS * len(store.images) // store.images.size) if store.images.ndim == 5 else _ROWS
    return np.unique(np.linspace(0, len(store.images) - 1, min(most, _ROWS, len(store.images))).astype(int))


def _thinned(image: np.ndarray) -> np.ndarray:
    """Every second or third voxel along the axes of a large volume."""
    step = math.ceil((image[0].size / _LARGE) ** (1 / 3))
    return image[:, ::step, ::step, ::step] if image.ndim == 4 and step > 1 else image


def _grey(image: np.ndarray) -> Picture:
    """The image in [0, 1], the mean of its channels."""
    return image.astype(np.float32).mean(axis=0) / np.iinfo(image.dtype).max


def _shown(picture: Picture) -> Picture:
    """The picture without the black rows and columns, and slices, at its border, which the preparation adds; as it is where all of it is
    black."""
    axes = range(picture.ndim)
    used = [np.flatnonzero(picture.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    return picture[tuple(slice(found[0], found[-1] + 1) for found in used)] if len(used[0]) else picture


def _brightest(picture: Picture) -> float:
    return float(np.percentile(_shown(picture), 99.5))


def _is_constant(picture: Picture) -> bool:
    low, high = np.percentile(_shown(picture), (0.5, 99.5))
    return bool(high - low < _CONSTANT)


def _has_empty_views(picture: Picture) -> bool:
    """Whether a third or more of nine parts of a picture, or of 27 of a volume, each with half of the edges, show nothing. Pictures that
    show nothing at all have a fault of their own."""
    halves = [max(1, edge // 2) for edge in picture.shape]
    starts = [np.linspace(0, edge - half, 3).astype(int) for edge, half in zip(picture.shape, halves, strict=True)]
    parts = [picture[tuple(slice(at, at + half) for at, half in zip(corner, halves, strict=True))] for corner in product(*starts)]
    empty = sum(float(part.max() - part.min()) < _EMPTY for part in parts)
    return _EMPTY_CROPS * len(parts) <= empty < len(parts)


def _mixed_bits(bits: np.ndarray, pictures: list[np.ndarray]) -> dict[str, Any]:
    """Where images of 8 bits and of more lie in one store: the number of each depth, and how much brighter one of the two groups is."""
    deep = bits > 8
    if deep.all() or not deep.any():
        return {}
    means = np.array([float(_shown(picture).mean()) for picture in pictures])
    bright = sorted((float(np.median(means[deep])), float(np.median(means[~deep]))))
    depths, numbers = np.unique(bits, return_counts=True)
    counts = {str(depth): int(number) for depth, number in zip(depths, numbers, strict=True)}
    return {"mixed_bits": {"images": counts, "ratio": round(min(bright[1] / max(bright[0], 1e-3), 99.0), 2)}}
