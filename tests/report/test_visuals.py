"""The pictures of a showcase: which there are for each kind of task, that a seed repeats them, and that names in them stay names."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from pages import SCRIPT, a_showcase
from torch import nn

from medssl.report.performance_charts import places
from medssl.report.visuals import Pictures, illustrate

PERFORMANCE = ["roc", "precision_recall", "confusion", "reliability"]
MAPS = ["map_by_class", "map_by_site"]


class Drawn(HTMLParser):
    """The elements and the text of a drawing."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return illustrate(a_showcase(), seed=0)


def test_a_showcase_gives_every_chart_and_the_same_files_for_the_tracker(pictures: Pictures) -> None:
    assert list(pictures.charts) == [*PERFORMANCE, *MAPS]
    files = pictures.files()
    assert list(files) == [f"{name}.png" for name in [*PERFORMANCE, *MAPS, "neighbours", "grad_cam"]]
    assert all(content.startswith(b"\x89PNG\r\n") for content in files.values())


def test_names_stay_names_and_every_colour_is_one_of_the_page(pictures: Pictures) -> None:
    for name, chart in pictures.charts.items():
        drawn = Drawn(chart.svg)
        assert "script" not in drawn.tags
        assert not re.search(r"#[0-9a-f]{6}", chart.svg), name
    assert SCRIPT[:12] in Drawn(pictures.charts["confusion"].svg).text
    assert SCRIPT[:12] in Drawn(pictures.charts["map_by_site"].svg).text


def test_the_same_seed_gives_the_same_pictures_and_map(pictures: Pictures) -> None:
    again = illustrate(a_showcase(), seed=0)
    assert {name: chart.svg for name, chart in again.charts.items()} == {name: chart.svg for name, chart in pictures.charts.items()}
    assert [[tile.uri for tile in row] for row in again.gallery] == [[tile.uri for tile in row] for row in pictures.gallery]


def test_the_map_keeps_neighbours() -> None:
    """Two clouds far apart in 100 dimensions: the nearest image on the map is of the same cloud."""
    rng = np.random.default_rng(0)
    cloud = np.repeat([0, 1], 40)
    at = places((rng.normal(size=(80, 100)) + 5 * cloud[:, None]).astype(np.float32), seed=0)
    distance = np.linalg.norm(at[:, None] - at, axis=-1) + np.eye(80) * 1e9
    assert (cloud[distance.argmin(1)] == cloud).all()


def test_legends_tell_the_areas_of_all_starting_points(pictures: Pictures) -> None:
    text = Drawn(pictures.charts["roc"].svg).text
    for name in ("pretrained", "random start", "raw pixels"):
        assert re.search(rf"{name} \(0\.\d{{3}}\)", text), name
    assert "as stated" in Drawn(pictures.charts["reliability"].svg).text
    assert "temperature 1.50" in Drawn(pictures.charts["reliability"].svg).text


def test_neighbours_are_marked_by_their_own_labels(pictures: Pictures) -> None:
    assert [len(row) for row in pictures.gallery] == [5] * 6
    assert [row[0].said for row in pictures.gallery] == ["normal"] * 3 + [SCRIPT] * 3
    assert all(tile.good == (tile.said == row[0].said) for row in pictures.gallery for tile in row[1:])
    marks = [tile.good for row in pictures.gallery for tile in row[1:]]
    assert sum(map(bool, marks)) > 0.8 * len(marks)  # the features know the class


@pytest.mark.parametrize(
    ("kind", "classes"), [("multilabel", ("a", "b", "c")), ("ordinal", ("0", "1", "2", "3")), ("multiclass", tuple("abcdefghijkl"))]
)
def test_several_labels_and_many_classes_have_their_pictures(kind: str, classes: tuple[str, ...]) -> None:
    pictures = illustrate(a_showcase(kind, classes, classifier=None), seed=0)
    assert list(pictures.charts) == [*PERFORMANCE, *MAPS]
    text = Drawn(pictures.charts["roc"].svg).text
    assert "mean of all" in text
    assert (len(classes) <= 8) == (re.search(rf"\b{classes[1]} \(0\.\d{{3}}\)", text) is not None)


def test_of_several_labels_a_neighbour_is_alike_that_has_all_of_them_and_no_other() -> None:
    y, pool_y = np.array([[1, 1, 0], [0, 0, 0]]), np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, -1]])
    showcase = a_showcase("multilabel", ("a", "b", "c"), classifier=None)
    of_two = {"y": y, "features": np.eye(2), "sites": np.array(["", ""]), "test": np.arange(2), "probs": {"x": [np.full((2, 3), 0.5)]}}
    of_four = {"pool": np.arange(60, 64), "pool_y": pool_y, "pool_features": np.ones((4, 2))}
    rows = illustrate(replace(showcase, **of_two, **of_four), seed=0).gallery
    assert {row[0].said: [(tile.said, tile.good) for tile in row[1:]] for row in rows} == {
        "a, b": [("a, b", True), ("a", False), ("b, c", False), ("none of them", False)],
        "none of them": [("a, b", False), ("a", False), ("b, c", False), ("none of them", True)],
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classifier": None}, "no network"),
        ({"classifier": nn.Sequential(nn.Flatten(), nn.Linear(24 * 24, 2))}, "no feature map"),
    ],
)
def test_without_anything_to_look_at_the_reason_is_told(changes: dict[str, Any], reason: str) -> None:
    pictures = illustrate(a_showcase(**changes), seed=0)
    assert not pictures.attention and reason in pictures.no_attention
    assert "grad_cam.png" not in pictures.files()


def test_what_a_test_does_not_hold_is_left_out() -> None:
    one_class = illustrate(a_showcase(y=np.zeros(60, int), sites=np.full(60, ""), classifier=None, temperature=None), seed=0)
    assert list(one_class.charts) == ["confusion", "reliability", "map_by_class"]
    few = a_showcase(classifier=None)
    few = illustrate(
        a_showcase(
            y=few.y[:3], features=few.features[:3], sites=few.sites[:3], test=few.test[:3], classifier=None,
            probs={name: [p[:3] for p in draws] for name, draws in few.probs.items()},
        ),
        seed=0,
    )  # fmt: skip
    assert list(few.charts) == PERFORMANCE
