"""Pictures inside the page: what they show, how large they are, and the neighbours found for them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from medssl.report.thumbnails import Thumbnail, contact_sheet, nearest_neighbours, select_examples, to_rgb


def shown(thumbnail: Thumbnail) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(thumbnail.uri.partition(",")[2]))))


def test_neighbours_are_those_of_a_search_through_all_by_cosine() -> None:
    rng = np.random.default_rng(0)
    queries, pool = rng.normal(size=(7, 5)) * 9, rng.normal(size=(50, 5)) * rng.uniform(0.1, 10, (50, 1))
    distances, expected = NearestNeighbors(n_neighbors=4, algorithm="brute", metric="cosine").fit(pool).kneighbors(queries)
    found, cosines = nearest_neighbours(queries, pool)
    assert (found == expected).all()
    assert cosines == pytest.approx(1 - distances)


def test_a_small_pool_has_fewer_neighbours() -> None:
    assert nearest_neighbours(np.eye(3), np.eye(3)[:2])[0].shape == (3, 2)


def test_the_classes_take_turns_and_give_images_from_the_whole_of_the_test() -> None:
    groups = np.array([0] * 90 + [1] * 6 + [-1] * 4)
    assert select_examples(groups).tolist() == [15, 45, 75, 91, 93, 95]
    assert select_examples(np.repeat(np.arange(9), 2)).tolist() == [1, 3, 5, 7, 9, 11]
    assert select_examples(np.array([0, 1, 1, 1])).tolist() == [0, 1, 2, 3]
    assert len(select_examples(np.array([-1, -1]))) == 0


def test_sixteen_bits_are_scaled_to_eight_and_channels_become_colours() -> None:
    deep = np.array([[[0, 65535], [257, 32896]]], np.uint16)
    assert to_rgb(deep)[..., 0].tolist() == [[0, 255], [1, 128]]
    colour = np.zeros((3, 2, 2), np.uint8)
    colour[2, 0, 1] = 200
    assert to_rgb(colour)[0, 1].tolist() == [0, 0, 200]
    two = np.stack([np.full((2, 2), 7), np.full((2, 2), 9)]).astype(np.uint8)
    assert (to_rgb(two) == 7).all() and to_rgb(two).shape == (2, 2, 3)


def test_a_large_picture_becomes_a_jpeg_of_160_pixels_and_a_small_one_stays_as_it_is() -> None:
    ramp = np.repeat(np.tile(np.linspace(0, 255, 320).astype(np.uint8), (200, 1))[..., None], 3, axis=2)
    large = Thumbnail(ramp, "x")
    assert large.uri.startswith("data:image/jpeg;base64,") and shown(large).shape == (100, 160, 3)
    assert np.abs(shown(large)[50].astype(int) - ramp[100, ::2]).max() < 8
    small = Thumbnail(np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8), "x")
    assert small.uri.startswith("data:image/png") and (shown(small) == small.pixels).all()


def test_a_contact_sheet_holds_rows_of_any_length_and_names_as_they_are() -> None:
    thumbnail = Thumbnail(np.zeros((8, 8, 3), np.uint8), "_a $x^2$ 肺炎", True)
    assert contact_sheet([[thumbnail, thumbnail], [thumbnail]]).startswith(b"\x89PNG\r\n")
