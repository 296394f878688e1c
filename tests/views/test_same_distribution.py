"""One recipe, one distribution: views of the two executors cannot be told apart but by what is stated here.

Views are reduced to a few figures each. Over all views a figure's mean and spread may differ by 4 standard errors of the difference, and by
what is `ALLOWED`: albumentations rounds to 8 bits after each operation (down, in gamma) and hues to 1.4 degrees; OpenCV rounds places
to 1/32 of a pixel; shrinking is not quite the same. Where a rotation meets a change of size, albumentations interpolates twice, and blurs.
Where crops, flips and turns lead is read from views of ramps and compared by the test of Kolmogorov and Smirnov.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from medssl.data.phantom import radiograph
from medssl.views import albumentations_executor, geometry, torch_executor
from medssl.views.operations import (
    Blur,
    BrightnessContrast,
    ColourJitter,
    CutOut,
    Gamma,
    Greyscale,
    HorizontalFlip,
    Noise,
    Operation,
    ResizedCrop,
    Rotation,
    VerticalFlip,
)
from medssl.views.recipes import chest_xray, natural

pytestmark = pytest.mark.slow
N, EDGE, SIZE = 500, 48, 36  # views of each executor, the edges of images and of views
ALLOWED = {"mean": 1 / 255, "std": 1 / 255, "quantiles": 2 / 255, "black": 0.002, "beyond": 0, "tint": 0.01, "chroma": 0.01}
SHARPNESS, TWICE = 0.03, 0.1  # as shares of it: what is allowed always, and more where albumentations interpolates twice

Y, X = np.mgrid[:EDGE, :EDGE]
RAMPS = np.stack([1000 * X, 1000 * Y, np.full((EDGE, EDGE), 65535)]).astype(np.uint16)
IMAGES = {  # nowhere black: what is black in a view was brought in
    "chest": (25 + 229 * radiograph((3,), 1, EDGE, lesion=True))[None].astype(np.uint8),
    "colours": np.stack([25 + 4 * X, 128 + 80 * np.sin(0.3 * X + 0.2 * Y), 230 - 2 * X - 2 * Y]).astype(np.uint8),
}

Operations = Sequence[Operation]
CASES: dict[str, Operations] = {
    "crop": [ResizedCrop((0.2, 1.0), (0.75, 4 / 3))],
    "whole": [],
    "rotation": [Rotation(20, 0.5)],
    "brightness and contrast": [BrightnessContrast(0.3, 0.4, 1)],
    "gamma": [Gamma((0.5, 2.0), 1)],
    "blur": [Blur((0.005, 0.05), 1)],
    "noise": [Noise((0.0, 0.1), 1)],
    "cut-out": [CutOut((0.1, 0.4), 1)],
    "colour jitter": [ColourJitter(0.4, 0.4, 0.4, 0.1, 1)],
    "greyscale": [Greyscale(0.3)],
    "chest_xray": chest_xray.build(chest_xray.Config(flip_p=0.5)),
    "natural": natural.build(natural.Config(blur_p=0.5, blur_sigma=(0.005, 0.03))),
}
MOVES: dict[str, Operations] = {
    **{name: [operation for operation in CASES[name] if isinstance(operation, geometry.Geometry)] for name in ("chest_xray", "natural")},
    "crop first": [VerticalFlip(0.5), ResizedCrop((0.2, 0.25), (0.5, 2.0)), Rotation(25, 0.7), HorizontalFlip(0.3)],
}


def by_albumentations(operations: Operations, image: np.ndarray, number: int = N) -> np.ndarray:
    """Views [number, C, SIZE, SIZE] in [0, 1]."""
    make = albumentations_executor.ViewMaker(operations, SIZE)
    views = np.stack([make(image, (0, 0, row, 0)) for row in range(number)])
    return views / 255 if views.dtype == np.uint8 else views


def by_torch(operations: Operations, image: np.ndarray, number: int = N) -> np.ndarray:
    images = torch.from_numpy(np.tile(image, (number, 1, 1, 1)))
    return torch_executor.ViewMaker(operations, SIZE).batch(images, torch.arange(number), 0, 0, 0).numpy()


def figures(views: np.ndarray) -> dict[str, np.ndarray]:
    """What is known of each view: {figure: [N, parts]}."""
    flat, channels = views.reshape(N, -1), views.mean((2, 3))
    mean = np.maximum(channels.mean(1, keepdims=True), 0.01)
    return {
        "mean": channels,
        "std": views.std((2, 3)),
        "quantiles": np.quantile(flat, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1).T,
        "black": (flat < 0.5 / 255).mean(1, keepdims=True),
        "beyond": ((flat < 0) | (flat > 1)).mean(1, keepdims=True),
        "tint": channels / mean,
        "chroma": np.ptp(views, axis=1).mean((1, 2))[:, None] / mean,
        "sharpness": np.stack([np.abs(np.diff(views, axis=axis)).mean((1, 2, 3)) for axis in (2, 3)], axis=1),
    }


@cache
def expected(case: str, image: str) -> dict[str, np.ndarray]:
    """The figures of albumentations."""
    return figures(by_albumentations(CASES[case], IMAGES[image]))


def variance_of_std(values: np.ndarray) -> np.ndarray:
    """Of the standard deviation s of N values whose fourth central moment is m4: (m4 - s^4) / (4 N s^2)."""
    variance = values.var(0)
    m4 = ((values - values.mean(0)) ** 4).mean(0)
    return np.divide(np.maximum(m4 - variance**2, 0), 4 * N * variance, out=np.zeros_like(variance), where=variance > 1e-12)


def differences(case: str, image: str, operations: Operations) -> list[str]:
    """The figures by which the views of `operations` by torch differ from those of the case by more than chance and what is allowed."""
    found, views = [], figures(by_torch(operations, IMAGES[image]))
    for name, a in expected(case, image).items():
        b = views[name]
        blurred = TWICE * (case in ("rotation", "chest_xray"))
        allowed = (SHARPNESS + blurred) * a.mean(0) if name == "sharpness" else ALLOWED[name]
        for what, x, y, variance in (
            ("mean", a.mean(0), b.mean(0), (a.var(0) + b.var(0)) / N),
            ("spread", a.std(0), b.std(0), variance_of_std(a) + variance_of_std(b)),
        ):
            if not (np.abs(x - y) <= 4 * np.sqrt(variance) + allowed).all():  # also where there is a NaN
                found.append(f"{what} of {name}: {x.round(4)} and {y.round(4)}")
    return found


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("case", CASES)
def test_both_executors_give_views_of_one_distribution(case: str, image: str) -> None:
    assert differences(case, image, CASES[case]) == []


@pytest.mark.parametrize(
    ("case", "image", "faulty"),
    [
        ("rotation", "chest", [Rotation(40, 0.5)]),
        ("rotation", "chest", [Rotation(20, 0.8)]),
        ("brightness and contrast", "chest", [BrightnessContrast(0.3, 0.2, 1)]),
        ("gamma", "chest", [Gamma((0.5, 1.5), 1)]),
        ("blur", "chest", [Blur((0.005 * EDGE / SIZE, 0.05 * EDGE / SIZE), 1)]),
        ("noise", "chest", [Noise((0.0, 0.08), 1)]),
        ("cut-out", "chest", [CutOut((0.1, 0.3), 1)]),
        ("colour jitter", "colours", [ColourJitter(0.4, 0.4, 0.4, 0.0, 1)]),
        ("colour jitter", "colours", [ColourJitter(0.4, 0.4, 0.2, 0.1, 1)]),
        ("greyscale", "colours", [Greyscale(0.5)]),
        ("chest_xray", "chest", sorted(CASES["chest_xray"], key=lambda operation: isinstance(operation, Rotation))),
    ],
)
def test_the_comparison_sees_what_is_off(case: str, image: str, faulty: Operations) -> None:
    assert differences(case, image, faulty)


def places(views: np.ndarray) -> np.ndarray:
    """[views, 6] of views of the ramps: dx/dcolumn, dx/drow, dy/dcolumn, dy/drow, x and y of the first pixel, in pixels of the image, by
    least squares over the pixels that no border touches."""
    row, column = np.mgrid[4 : SIZE - 4, 4 : SIZE - 4]
    design = np.stack([column, row, np.ones_like(row)], axis=-1)
    found = []
    for view in views[:, :, 4:-4, 4:-4]:
        seen = view[2] > 0.999
        (a, d), (b, e), (c, f) = np.linalg.lstsq(design[seen], view[:2, seen].T * 65.535, rcond=None)[0]
        found.append((a, b, d, e, c, f))
    return np.array(found)


def misled(one: np.ndarray, other: np.ndarray) -> list[int]:
    """The columns of `places` that have two distributions (p < 1e-4). In parts of a box's pixel, so that equal places are equal numbers."""
    units = np.array([1, 1, 1, 1, 2, 2]) * SIZE
    tests: list[Any] = [stats.ks_2samp(a, b) for a, b in zip(np.rint(one * units).T, np.rint(other * units).T, strict=True)]
    return [i for i, test in enumerate(tests) if test.pvalue < 1e-4]


@pytest.mark.parametrize("case", MOVES)
def test_crops_flips_and_turns_lead_to_the_same_places(case: str) -> None:
    assert misled(places(by_albumentations(MOVES[case], RAMPS, 1000)), places(by_torch(MOVES[case], RAMPS, 1000))) == []


@pytest.mark.parametrize(
    "faulty",
    [
        [VerticalFlip(0.5), ResizedCrop((0.2, 0.25), (0.5, 2.0)), Rotation(25, 0.7)],
        [VerticalFlip(0.5), ResizedCrop((0.2, 0.25), (0.5, 2.0)), Rotation(50, 0.7), HorizontalFlip(0.3)],
        [VerticalFlip(0.5), ResizedCrop((0.2, 0.25), (0.75, 2.0)), Rotation(25, 0.7), HorizontalFlip(0.3)],
    ],
    ids=["no flip", "twice the angle", "other aspects"],
)
def test_the_comparison_of_places_sees_moves_that_are_off(faulty: Operations) -> None:
    assert misled(places(by_albumentations(MOVES["crop first"], RAMPS, 1000)), places(by_torch(faulty, RAMPS, 1000)))


def test_size_aspect_place_angle_and_flip_of_a_crop_are_unrelated() -> None:
    a, b, d, e, c, f = places(by_torch([Rotation(20, 1), ResizedCrop((0.2, 0.6), (0.5, 2.0)), HorizontalFlip(0.5)], RAMPS, 1500)).T
    middle = (SIZE - 1) / 2
    width, height = np.hypot(a, d), np.hypot(b, e)
    parameters = {
        "area": np.log(width * height),
        "aspect": np.log(width / height),
        "angle": np.arctan2(d * np.sign(a), np.abs(a)),
        "flip": np.sign(a),
        "x": c + (a + b) * middle,
        "y": f + (d + e) * middle,
    }
    related = np.abs(np.corrcoef(list(parameters.values()))) > 4 / np.sqrt(1500)
    assert np.array_equal(related, np.eye(len(parameters), dtype=bool)), (list(parameters), related)
