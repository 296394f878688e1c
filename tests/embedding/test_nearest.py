"""The most similar images, against cases worked by hand and scikit-learn's cosine; and the picture."""

import io

import numpy as np
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from medssl.embedding.nearest import cosines, nearest
from medssl.embedding.neighbours_figure import Shown, neighbours_png


def test_cosines_are_those_of_scikit_learn_whatever_the_blocks() -> None:
    draw = np.random.default_rng(0)
    query, rows = draw.normal(size=6).astype(np.float32), draw.normal(size=(9, 6)).astype(np.float32)
    expected = cosine_similarity(query[None].astype(np.float64), rows.astype(np.float64))[0]
    np.testing.assert_allclose(cosines(query, [rows]), expected, atol=1e-12)
    np.testing.assert_allclose(cosines(query, iter([rows[:4], rows[4:]])), expected, atol=1e-12)


def test_each_patient_comes_once_with_the_most_similar_image_and_what_is_left_out_never() -> None:
    cosine = np.array([0.1, 0.9, 0.8, 0.99, 0.7, 0.8])
    patients = np.array(["a", "b", "b", "c", "a", "d"])
    left_out = np.array([False, False, False, True, False, False])
    assert nearest(cosine, patients, left_out, 8) == [(1, 0.9), (5, 0.8), (4, 0.7)]
    assert nearest(cosine, patients, left_out, 1) == [(1, 0.9)]
    assert nearest(cosine, patients, np.ones(6, bool), 3) == []


def test_the_picture_grows_by_a_row_for_four_images_and_shows_them() -> None:
    white = Shown(np.full((1, 16, 16), 255, np.uint8), "1   cosine 0.999", ("label", "patient 0"), "the query's patient")
    black = Shown(np.zeros((3, 16, 16), np.uint16), "query")
    pictures = [Image.open(io.BytesIO(neighbours_png(black, [white] * n, "Most similar", "foot"))) for n in (1, 4, 5)]
    assert len({picture.width for picture in pictures}) == 1
    assert pictures[0].height == pictures[1].height < pictures[2].height
    dark = [np.asarray(picture.convert("L")) for picture in pictures]
    assert all((pixels < 30).mean() > 0.05 for pixels in dark)  # the query
