"""The pictures of a run: curves and errors at one label fraction; of its classifier a map of the features, neighbours and Grad-CAM."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.planes import CUBES, Planes
from medssl.report import gradcam, performance_charts, thumbnails
from medssl.report.theme import Chart
from medssl.report.thumbnails import Thumbnail

if TYPE_CHECKING:
    from torch import nn

    from medssl.evaluate.models import LoudestSlices
    from medssl.evaluate.models.features import Images

_MAX_CASES = 8
_MAX_NAMES = 8  # colours of a map
_NONE = "none of them"


@dataclass(frozen=True)
class CurveInputs:
    """One fraction of a study (`labels`, as "10pct") on its test images, without the images.

    `y`: the truth, as Task.y. `probs`: by initialisation, that of the report first, the probabilities [n, k] of each draw. `temperature`:
    of the first draw of the first initialisation, None where it is not known.
    """

    kind: str
    classes: tuple[str, ...]
    labels: str
    y: np.ndarray
    probs: Mapping[str, Sequence[np.ndarray]]
    temperature: float | None = None


@dataclass(frozen=True)
class ImageInputs:
    """The images of a study, and its exported classifier, fitted with the amount `labels`.

    `images`: those of the store, or one picture for each volume of slices or windows; `planes`: how whole volumes are shown. `test`: the
    rows of the test images in it [n], and their `sites`, "" where a site is not known. `pool`: the rows of labelled training images, in
    which neighbours are searched, with their labels `pool_y`. `encode`: rows to features [m, d]. `classifier`: images in [0, 1] to logits.
    `prob`: its probabilities [n, k] of the test images. `part`: what is shown of a volume, "slice" or "window", "" for all; `where`: where
    that lies in the volume of a row.
    """

    labels: str
    images: "Images | LoudestSlices"
    test: np.ndarray
    sites: np.ndarray
    pool: np.ndarray
    pool_y: np.ndarray
    encode: Callable[[np.ndarray], np.ndarray]
    classifier: "nn.Module"
    prob: np.ndarray
    planes: Planes = CUBES
    part: str = ""
    where: Callable[[Any], str] = lambda _: ""


@dataclass(frozen=True)
class Pictures:
    """What the page shows. `labels`: the fraction of the curves. `charts`: by name. `neighbours`: rows of a test image and its neighbours.
    `gradcam`: pairs of image and overlay. `fitted`: with how many labels the classifier of map, neighbours and Grad-CAM was fitted, ""
    where there are none of them. `note`: why there are none, or why there is no Grad-CAM. `part`: as in ImageInputs."""

    labels: str
    charts: Mapping[str, Chart]
    neighbours: Sequence[Sequence[Thumbnail]] = ()
    gradcam: Sequence[Sequence[Thumbnail]] = ()
    fitted: str = ""
    note: str = ""
    part: str = ""

    def files(self) -> dict[str, bytes]:
        """The same pictures for a tracker: PNG by file name."""
        sheets = {"neighbours": self.neighbours, "grad_cam": self.gradcam}
        return {f"{name}.png": chart.png for name, chart in self.charts.items()} | {
            f"{name}.png": thumbnails.contact_sheet(rows) for name, rows in sheets.items() if rows
        }


def draw_curves(inputs: CurveInputs, note: str = "") -> Pictures:
    """The pictures that need no image."""
    charts = performance_charts.performance(inputs.kind, inputs.classes, inputs.y, inputs.probs, inputs.temperature)
    return Pictures(inputs.labels, charts, note=note)


def draw_pictures(curves: CurveInputs, inputs: ImageInputs, seed: int) -> Pictures:
    """All pictures; the same seed gives the same ones. Reads no more images than it shows or compares."""
    names, groups = _class_groups(curves)
    groupings = {"class": _largest(names, groups)}
    sites = sorted(set(inputs.sites.tolist()) - {""})
    if len(sites) > 1:
        number = {site: i for i, site in enumerate(sites)}
        groupings["site"] = _largest(sites, np.array([number.get(site, -1) for site in inputs.sites.tolist()]))
    shown = performance_charts.select_points(len(inputs.test), seed)
    shown_groups = {by: (labels, index[shown]) for by, (labels, index) in groupings.items()}
    maps = performance_charts.embedding(inputs.encode(inputs.test[shown]), shown_groups, seed)
    charts, (gradcam_pairs, note) = {**draw_curves(curves).charts, **maps}, _gradcam(curves, inputs)
    return Pictures(curves.labels, charts, _neighbours(curves, inputs, groups), gradcam_pairs, inputs.labels, note, inputs.part)


def _class_groups(curves: CurveInputs) -> tuple[tuple[str, ...], np.ndarray]:
    """Names, and the number of each test image's name: its class; of several labels the one it has, "none of them" or "several"."""
    classes, y = curves.classes, curves.y
    if curves.kind != "multilabel":
        return classes, y
    count = (y == 1).sum(1)
    number = np.where(count == 1, (y == 1).argmax(1), np.where(count == 0, len(classes), len(classes) + 1))
    return (*classes, _NONE, "several"), number


def _largest(names: Sequence[str], index: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names with the most images in their order, the rest as "others"."""
    if len(names) <= _MAX_NAMES:
        return list(names), index
    counts = np.bincount(index[index >= 0], minlength=len(names))
    kept = np.sort(np.argsort(-counts, kind="stable")[: _MAX_NAMES - 1])
    number = np.full(len(names), len(kept))
    number[kept] = np.arange(len(kept))
    return [*(str(names[int(i)]) for i in kept), "others"], np.where(index < 0, -1, number[index])


def _neighbours(curves: CurveInputs, inputs: ImageInputs, groups: np.ndarray) -> list[list[Thumbnail]]:
    """For some test images a row: the image, and the training images with the most similar features."""
    queries: list[int] = thumbnails.select_examples(groups).tolist()
    if not len(inputs.pool) or not queries:
        return []
    found, cosines = thumbnails.nearest_neighbours(inputs.encode(inputs.test[queries]), inputs.encode(inputs.pool))
    rows = []
    for i, query in enumerate(queries):
        truth = _class_name(curves, curves.y[query])
        row = [Thumbnail(_pixels(inputs, inputs.test[query]), truth)]
        for n, cosine in zip(found[i], cosines[i], strict=True):
            name = _class_name(curves, inputs.pool_y[n])
            row.append(Thumbnail(_pixels(inputs, inputs.pool[n]), name, name == truth, f"{cosine:.2f}"))
        rows.append(row)
    return rows


def _class_name(curves: CurveInputs, y: Any) -> str:
    """The class of an image; of several labels all that it has."""
    if curves.kind == "multilabel":
        return ", ".join(name for name, has in zip(curves.classes, y, strict=True) if has == 1) or _NONE
    return curves.classes[y] if y >= 0 else "unknown"


def _gradcam(curves: CurveInputs, inputs: ImageInputs) -> tuple[list[list[Thumbnail]], str]:
    """Pairs of a test image and its overlay, or the reason why there is none."""
    cases = gradcam.select_cases(curves.kind, curves.y, inputs.prob, _MAX_CASES)
    if not cases:
        return [], "No label was predicted for any test image."
    rows = inputs.test[[case.index for case in cases]]
    images = np.stack([inputs.images[row] for row in rows]).astype(np.float32) / np.iinfo(inputs.images.dtype).max
    maps = gradcam.grad_cam(inputs.classifier, images, [case.predicted for case in cases])
    if maps is None:
        return [], "Grad-CAM needs a feature map of convolutions at the end of the network. This network has none, as most transformers."
    pairs = []
    for case, row, strength in zip(cases, rows, maps, strict=True):
        at = np.unravel_index(strength.argmax(), strength.shape) if strength.any() else None
        picture, predicted = _pixels(inputs, row, at), curves.classes[case.predicted]
        shown = inputs.planes.without_letters().picture(strength[None], at)[0]
        truth = curves.classes[case.truth] if case.truth >= 0 else f"not {predicted}"
        note = f"{case.probability:.0%}" + ("" if strength.any() else ", empty map")
        pairs.append(
            [Thumbnail(picture, truth, note=inputs.where(row)), Thumbnail(gradcam.overlay(picture, shown), predicted, case.correct, note)]
        )
    return pairs, ""


def _pixels(inputs: ImageInputs, row: Any, at: Any = None) -> np.ndarray:
    """The picture of an image; of a whole volume the planes through the voxel `at`."""
    return thumbnails.to_rgb(inputs.planes.picture(np.asarray(inputs.images[row]), at))
