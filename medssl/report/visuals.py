"""The pictures of a classifier at one label fraction: curves and errors, a map of the features, nearest neighbours and Grad-CAM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.report import gradcam, performance_charts, thumbnails
from medssl.report.theme import Chart
from medssl.report.thumbnails import Thumbnail

if TYPE_CHECKING:
    from torch import nn

_MAX_CASES = 8
_MAX_NAMES = 8  # colours of a map
_NONE = "none of them"


@dataclass(frozen=True)
class LabelledImages:
    """Images by their `rows` in the store [n], with their labels (`y`, as Task.y) and the features of the frozen encoder [n, d]."""

    rows: np.ndarray
    y: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class PictureInputs:
    """One fraction of a study, and its images.

    `probs`: by initialisation, that of the report first, the test probabilities [n, k] of each draw. `images`: those of the store.
    `sites`: text of each test image, "" where it is not known. `pool`: labelled training images, in which neighbours are searched.
    `classifier`: images in [0, 1] to logits, None where there is no network; `temperature`: both of the first draw and initialisation.
    """

    kind: str
    classes: tuple[str, ...]
    labels: str
    probs: Mapping[str, Sequence[np.ndarray]]
    images: np.ndarray
    test: LabelledImages
    pool: LabelledImages
    sites: np.ndarray
    classifier: "nn.Module | None" = None
    temperature: float | None = None


@dataclass(frozen=True)
class Pictures:
    """What the page shows. `charts`: by name. `neighbours`: rows of a test image and its neighbours. `gradcam`: pairs of image and
    overlay; where there is none, `gradcam_note` says why."""

    labels: str
    charts: Mapping[str, Chart]
    neighbours: Sequence[Sequence[Thumbnail]]
    gradcam: Sequence[Sequence[Thumbnail]]
    gradcam_note: str

    def files(self) -> dict[str, bytes]:
        """The same pictures for a tracker: PNG by file name."""
        sheets = {"neighbours": self.neighbours, "grad_cam": self.gradcam}
        return {f"{name}.png": chart.png for name, chart in self.charts.items()} | {
            f"{name}.png": thumbnails.contact_sheet(rows) for name, rows in sheets.items() if rows
        }


def draw_pictures(inputs: PictureInputs, seed: int) -> Pictures:
    """All pictures; the same seed gives the same ones. Reads no more images than it shows."""
    names, groups = _class_groups(inputs)
    groupings = {"class": _largest(names, groups)}
    sites = sorted(set(inputs.sites.tolist()) - {""})
    if len(sites) > 1:
        number = {site: i for i, site in enumerate(sites)}
        groupings["site"] = _largest(sites, np.array([number.get(site, -1) for site in inputs.sites.tolist()]))
    charts = performance_charts.performance(inputs.kind, inputs.classes, inputs.test.y, inputs.probs, inputs.temperature)
    charts |= performance_charts.embedding(inputs.test.features, groupings, seed)
    return Pictures(inputs.labels, charts, _neighbours(inputs, groups), *_gradcam(inputs))


def _class_groups(inputs: PictureInputs) -> tuple[tuple[str, ...], np.ndarray]:
    """Names, and the number of each test image's name: its class; of several labels the one it has, "none of them" or "several"."""
    classes, y = inputs.classes, inputs.test.y
    if inputs.kind != "multilabel":
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


def _neighbours(inputs: PictureInputs, groups: np.ndarray) -> list[list[Thumbnail]]:
    """For some test images a row: the image, and the training images with the most similar features."""
    test, pool = inputs.test, inputs.pool
    if not len(pool.rows):
        return []
    queries: list[int] = thumbnails.select_examples(groups).tolist()
    found, cosines = thumbnails.nearest_neighbours(test.features[queries], pool.features)
    rows = []
    for i, query in enumerate(queries):
        truth = _class_name(inputs, test.y[query])
        row = [Thumbnail(_pixels(inputs, test.rows[query]), truth)]
        for n, cosine in zip(found[i], cosines[i], strict=True):
            name = _class_name(inputs, pool.y[n])
            row.append(Thumbnail(_pixels(inputs, pool.rows[n]), name, name == truth, f"{cosine:.2f}"))
        rows.append(row)
    return rows


def _class_name(inputs: PictureInputs, y: Any) -> str:
    """The class of an image; of several labels all that it has."""
    if inputs.kind == "multilabel":
        return ", ".join(name for name, has in zip(inputs.classes, y, strict=True) if has == 1) or _NONE
    return inputs.classes[y] if y >= 0 else "unknown"


def _gradcam(inputs: PictureInputs) -> tuple[list[list[Thumbnail]], str]:
    """Pairs of a test image and its overlay, or the reason why there is none."""
    if inputs.classifier is None:
        return [], "Grad-CAM needs a network; this classifier is none."
    cases = gradcam.select_cases(inputs.kind, inputs.test.y, next(iter(inputs.probs.values()))[0], _MAX_CASES)
    if not cases:
        return [], "No label was predicted for any test image."
    rows = inputs.test.rows[[case.index for case in cases]]
    images = np.stack([inputs.images[row] for row in rows]).astype(np.float32) / np.iinfo(inputs.images.dtype).max
    maps = gradcam.grad_cam(inputs.classifier, images, [case.predicted for case in cases])
    if maps is None:
        return [], "Grad-CAM needs a feature map of convolutions at the end of the network. This network has none, as most transformers."
    pairs = []
    for case, row, strength in zip(cases, rows, maps, strict=True):
        picture, predicted = _pixels(inputs, row), inputs.classes[case.predicted]
        truth = inputs.classes[case.truth] if case.truth >= 0 else f"not {predicted}"
        note = f"{case.probability:.0%}" + ("" if strength.any() else ", empty map")
        pairs.append([Thumbnail(picture, truth), Thumbnail(gradcam.overlay(picture, strength), predicted, case.correct, note)])
    return pairs, ""


def _pixels(inputs: PictureInputs, row: Any) -> np.ndarray:
    return thumbnails.to_rgb(np.asarray(inputs.images[row]))
