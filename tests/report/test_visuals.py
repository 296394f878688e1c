"""The pictures of the report: which there are for each kind of task, that a seed repeats them, and that names in them stay names."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from pages import SCRIPT, picture_inputs
from torch import nn

from medssl.report import Pictures, draw_curves, draw_pictures
from medssl.report.performance_charts import select_points, tsne

pytestmark = pytest.mark.slow

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
    return draw_pictures(*picture_inputs(), seed=0)


def test_every_chart_is_drawn_and_goes_to_the_tracker_too(pictures: Pictures) -> None:
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
    again = draw_pictures(*picture_inputs(), seed=0)
    assert {name: chart.svg for name, chart in again.charts.items()} == {name: chart.svg for name, chart in pictures.charts.items()}
    assert [[image.uri for image in row] for row in again.neighbours] == [[image.uri for image in row] for row in pictures.neighbours]


def test_the_map_keeps_neighbours() -> None:
    """Two clouds far apart in 100 dimensions: the nearest image on the map is of the same cloud."""
    rng = np.random.default_rng(0)
    cloud = np.repeat([0, 1], 40)
    at = tsne((rng.normal(size=(80, 100)) + 5 * cloud[:, None]).astype(np.float32), seed=0)
    distance = np.linalg.norm(at[:, None] - at, axis=-1) + np.eye(80) * 1e9
    assert (cloud[distance.argmin(1)] == cloud).all()


def test_legends_show_the_areas_of_all_initialisations(pictures: Pictures) -> None:
    text = Drawn(pictures.charts["roc"].svg).text
    for name in ("pretrained", "random initialisation", "raw pixels"):
        assert re.search(rf"{name} \(0\.\d{{3}}\)", text), name
    assert "uncalibrated" in Drawn(pictures.charts["reliability"].svg).text
    assert "temperature 1.50" in Drawn(pictures.charts["reliability"].svg).text


def test_neighbours_are_marked_by_their_own_labels(pictures: Pictures) -> None:
    assert [len(row) for row in pictures.neighbours] == [5] * 6
    assert [row[0].caption for row in pictures.neighbours] == ["normal"] * 3 + [SCRIPT] * 3
    assert all(image.correct == (image.caption == row[0].caption) for row in pictures.neighbours for image in row[1:])
    marks = [image.correct for row in pictures.neighbours for image in row[1:]]
    assert sum(map(bool, marks)) > 0.8 * len(marks)  # the features know the class


@pytest.mark.parametrize(
    ("kind", "classes"), [("multilabel", ("a", "b", "c")), ("ordinal", ("0", "1", "2", "3")), ("multiclass", tuple("abcdefghijkl"))]
)
def test_several_labels_and_many_classes_have_their_pictures(kind: str, classes: tuple[str, ...]) -> None:
    pictures = draw_pictures(*picture_inputs(kind, classes), seed=0)
    assert list(pictures.charts) == [*PERFORMANCE, *MAPS]
    text = Drawn(pictures.charts["roc"].svg).text
    assert "mean of all" in text
    assert (len(classes) <= 8) == (re.search(rf"\b{classes[1]} \(0\.\d{{3}}\)", text) is not None)


def test_of_several_labels_a_neighbour_is_correct_that_has_all_of_them_and_no_other() -> None:
    y, pool_y = np.array([[1, 1, 0], [0, 0, 0]]), np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, -1]])
    curves, inputs = picture_inputs("multilabel", ("a", "b", "c"))
    curves = replace(curves, y=y, probs={"x": [np.full((2, 3), 0.5)]})
    inputs = replace(inputs, test=np.arange(2), pool=np.arange(60, 64), pool_y=pool_y, sites=np.array(["", ""]), prob=np.full((2, 3), 0.5))
    rows = draw_pictures(curves, replace(inputs, encode=lambda rows: np.ones((len(rows), 2))), seed=0).neighbours
    assert {row[0].caption: [(image.caption, image.correct) for image in row[1:]] for row in rows} == {
        "a, b": [("a, b", True), ("a", False), ("b, c", False), ("none of them", False)],
        "none of them": [("a, b", False), ("a", False), ("b, c", False), ("none of them", True)],
    }


def test_where_grad_cam_is_not_possible_the_page_says_why() -> None:
    curves, inputs = picture_inputs()
    flat = nn.Sequential(nn.Flatten(), nn.Linear(24 * 24, 2))
    pictures = draw_pictures(curves, replace(inputs, classifier=flat), seed=0)
    assert not pictures.gradcam and "a feature map" in pictures.note
    assert "grad_cam.png" not in pictures.files()


def test_without_images_the_curves_are_drawn_and_the_reason_is_kept(pictures: Pictures) -> None:
    curves, _ = picture_inputs()
    alone = draw_curves(curves, "no images")
    assert {name: chart.svg for name, chart in alone.charts.items()} == {name: pictures.charts[name].svg for name in PERFORMANCE}
    assert (alone.fitted, alone.note, pictures.fitted) == ("", "no images", "100pct")


def test_charts_that_the_test_images_do_not_allow_are_left_out() -> None:
    curves, inputs = picture_inputs()
    one_class = draw_pictures(replace(curves, y=np.zeros(60, int), temperature=None), replace(inputs, sites=np.full(60, "")), seed=0)
    assert list(one_class.charts) == ["confusion", "reliability", "map_by_class"]
    probs = {name: [p[:3] for p in draws] for name, draws in curves.probs.items()}
    few = replace(inputs, test=inputs.test[:3], sites=inputs.sites[:3], prob=inputs.prob[:3])
    assert list(draw_pictures(replace(curves, y=curves.y[:3], probs=probs), few, seed=0).charts) == PERFORMANCE


def test_a_map_shows_each_of_few_images_and_2000_of_more() -> None:
    assert select_points(2000, seed=0).tolist() == list(range(2000))
    some = select_points(2001, seed=0)
    assert len(set(some.tolist())) == 2000 and (np.diff(some) > 0).all()
