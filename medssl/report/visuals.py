"""What a classifier does at one label fraction, in pictures: its curves and errors, the map of its features, some images and their like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from medssl.report import gradcam, performance_charts, thumbnails
from medssl.report.theme import Chart
from medssl.report.thumbnails import Tile

_MOST_CASES = 8
_MOST_NAMES = 8  # colours of a map
_NONE = "none of them"


@dataclass(frozen=True)
class Showcase:
    """One fraction of a study, and the images of its test.

    `y`: as Task.y, of the test images. `probs`: by initialisation, the one in question first, the test probabilities [n, k] of each draw.
    `features`: [n, d] of the test images by the frozen encoder. `sites`: text [n], "" where it is not known. `images`: the store's, `test`:
    the rows of the test images. `pool`, `pool_y`, `pool_features`: rows, labels and features of labelled training images. `classifier`:
    images in [0, 1] to logits; None where there is no network. `temperature`: of the first draw of the first initialisation.
    """

    kind: str
    classes: tuple[str, ...]
    y: np.ndarray
    labels: str
    mode: str
    probs: Mapping[str, Sequence[np.ndarray]]
    features: np.ndarray
    sites: np.ndarray
    images: np.ndarray
    test: np.ndarray
    pool: np.ndarray
    pool_y: np.ndarray
    pool_features: np.ndarray
    classifier: nn.Module | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class Pictures:
    """What the page shows. `charts`: by name. `gallery`: rows of a test image and its neighbours. `attention`: pairs of image and overlay;
    where it is empty, `no_attention` says why."""

    labels: str
    mode: str
    charts: Mapping[str, Chart]
    gallery: Sequence[Sequence[Tile]]
    attention: Sequence[Sequence[Tile]]
    no_attention: str

    def files(self) -> dict[str, bytes]:
        """The same pictures for a tracker: PNG by file name."""
        sheets = {"neighbours": self.gallery, "grad_cam": self.attention}
        return {f"{name}.png": chart.png for name, chart in self.charts.items()} | {
            f"{name}.png": thumbnails.sheet(rows) for name, rows in sheets.items() if rows
        }


def illustrate(showcase: Showcase, seed: int) -> Pictures:
    """All pictures of a showcase; the same seed gives the same ones. Looks at no more than the images that it shows."""
    names, groups = _groups(showcase.kind, showcase.classes, showcase.y)
    coloured = {"class": _largest(names, groups)}
    known = sorted(set(showcase.sites.tolist()) - {""})
    if len(known) > 1:
        index = {site: i for i, site in enumerate(known)}
        coloured["site"] = _largest(known, np.array([index.get(site, -1) for site in showcase.sites.tolist()]))
    looked, why = _attention(showcase)
    return Pictures(
        showcase.labels,
        showcase.mode,
        performance_charts.performance(showcase.kind, showcase.classes, showcase.y, showcase.probs, showcase.temperature)
        | performance_charts.embedding(showcase.features, coloured, seed),
        _gallery(showcase, groups),
        looked,
        why,
    )


def _groups(kind: str, classes: Sequence[str], y: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names, and the number of each image's name: its class; of several labels the one it has, "none" or "several"."""
    if kind != "multilabel":
        return tuple(classes), y
    has = (y == 1).sum(1)
    one = np.where(has == 1, (y == 1).argmax(1), np.where(has == 0, len(classes), len(classes) + 1))
    return (*classes, _NONE, "several"), one


def _largest(names: Sequence[str], index: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names with the most images in their order, the rest as "others"."""
    if len(names) <= _MOST_NAMES:
        return list(names), index
    counts = np.bincount(index[index >= 0], minlength=len(names))
    kept = np.sort(np.argsort(-counts, kind="stable")[: _MOST_NAMES - 1])
    place = np.full(len(names), len(kept))
    place[kept] = np.arange(len(kept))
    return [*(str(names[int(i)]) for i in kept), "others"], np.where(index < 0, -1, place[index])


def _gallery(showcase: Showcase, groups: np.ndarray) -> list[list[Tile]]:
    if not len(showcase.pool):
        return []
    chosen: list[int] = thumbnails.spread(groups).tolist()
    found, cosines = thumbnails.nearest(showcase.features[chosen], showcase.pool_features)
    rows = []
    for i, query in enumerate(chosen):
        truth = _said(showcase, showcase.y[query])
        row = [Tile(_shown(showcase, showcase.test[query]), truth)]
        for n, cosine in zip(found[i], cosines[i], strict=True):
            said = _said(showcase, showcase.pool_y[n])
            row.append(Tile(_shown(showcase, showcase.pool[n]), said, said == truth, f"{cosine:.2f}"))
        rows.append(row)
    return rows


def _said(showcase: Showcase, y: Any) -> str:
    """The class of an image; of several labels all that it has."""
    if showcase.kind == "multilabel":
        return ", ".join(name for name, has in zip(showcase.classes, y, strict=True) if has == 1) or _NONE
    return showcase.classes[y] if y >= 0 else "unknown"


def _attention(showcase: Showcase) -> tuple[list[list[Tile]], str]:
    if showcase.classifier is None:
        return [], "This classifier is no network: there is nothing to ask where it looked."
    chosen = gradcam.cases(showcase.kind, showcase.y, next(iter(showcase.probs.values()))[0], _MOST_CASES)
    if not chosen:
        return [], "No test image was called any of the labels."
    rows = showcase.test[[case.place for case in chosen]]
    full = np.iinfo(showcase.images.dtype).max
    images = np.stack([showcase.images[row] for row in rows]).astype(np.float32) / full
    maps = gradcam.grad_cam(showcase.classifier, images, [case.called for case in chosen])
    if maps is None:
        return (
            [],
            "This network has no feature map of convolutions at its end, which Grad-CAM needs: a transformer mixes places on the way.",
        )
    pairs = []
    for case, row, strength in zip(chosen, rows, maps, strict=True):
        picture = _shown(showcase, row)
        truth = showcase.classes[case.truth] if case.truth >= 0 else f"not {showcase.classes[case.called]}"
        called = f"called {showcase.classes[case.called]}"
        pairs.append([Tile(picture, truth), Tile(gradcam.overlaid(picture, strength), called, case.right, f"{case.probability:.0%}")])
    return pairs, ""


def _shown(showcase: Showcase, row: Any) -> np.ndarray:
    return thumbnails.displayed(np.asarray(showcase.images[row]))
