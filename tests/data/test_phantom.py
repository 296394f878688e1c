from functools import partial

import numpy as np
import pytest

from medssl.data.phantom import anatomy, lung_depth, radiograph


def test_a_radiograph_is_a_function_of_its_keys():
    one = radiograph((0, 1), 0, 64, True)
    assert one.shape == (64, 64)
    assert one.dtype == np.float32
    assert 0 <= one.min() < one.max() <= 1
    assert np.array_equal(one, radiograph((0, 1), 0, 64, True))
    for other in (radiograph((0, 2), 0, 64, True), radiograph((1, 1), 0, 64, True), radiograph((0, 1), 1, 64, True)):
        assert not np.array_equal(one, other)


def test_two_images_of_a_patient_resemble_each_other_more_than_those_of_two_patients():
    def distance(a, b):
        return np.abs(a - b).mean()

    same = [distance(radiograph((0, p), 0, 64, False), radiograph((0, p), 1, 64, False)) for p in range(12)]
    other = [distance(radiograph((0, p), 0, 64, False), radiograph((0, p + 1), 1, 64, False)) for p in range(12)]
    assert np.mean(same) < np.mean(other)


def test_lungs_are_darker_than_heart_and_belly():
    mean = np.mean([radiograph((0, p), 0, 64, False) for p in range(8)], axis=0)
    lungs = (mean[20:34, 10:22].mean() + mean[20:34, 44:54].mean()) / 2
    assert lungs + 0.15 < mean[38:46, 32:40].mean()
    assert lungs + 0.15 < mean[58:62, 20:44].mean()


@pytest.mark.parametrize("patient", range(8))
def test_the_lesion_is_all_that_the_label_changes_and_it_lies_in_a_lung(patient):
    difference = radiograph((5, patient), 0, 96, True) - radiograph((5, patient), 0, 96, False)
    nodules = anatomy((5, patient), True).nodules
    assert 1 <= len(nodules) <= 3
    assert all(lung_depth(np.array(u), np.array(v), anatomy((5, patient), False)) > 0 for u, v, _, _ in nodules)
    assert difference.max() > 0.1
    assert np.mean(np.abs(difference) > 0.02) < 0.15
    assert difference.min() > -0.02


@pytest.mark.parametrize("patient", range(4))
def test_an_interstitial_pattern_is_a_texture_of_the_lungs_that_leaves_their_density(patient):
    of = partial(radiograph, (5, patient), 0, 96, finding="interstitial")
    difference = of(lesion=True) - of(lesion=False)
    line = np.linspace(-1, 1, 96)
    lung = lung_depth(line[None] * 0.9, line[:, None] * 0.9 - 0.07, anatomy((5, patient), False)) > 0.1  # without the image's own turn
    assert np.abs(difference[lung]).mean() > 5 * np.abs(difference[:20, :20]).mean()
    assert difference[lung].std() > 5 * abs(difference[lung].mean())


def test_an_interstitial_pattern_lies_elsewhere_in_each_patient():
    patterns = [radiograph((5, p), 0, 96, True, "interstitial") - radiograph((5, p), 0, 96, False, "interstitial") for p in range(12)]
    assert np.std(np.mean(patterns, axis=0)) < 0.5 * np.mean([np.std(pattern) for pattern in patterns])


def test_more_variation_moves_the_images_of_a_patient_further_apart():
    def apart(variation: float) -> float:
        pairs = [[radiograph((0, p), i, 64, False, "nodule", variation) for i in range(2)] for p in range(12)]
        return float(np.mean([np.abs(a - b).mean() for a, b in pairs]))

    assert apart(0) < apart(1) < apart(2.5)


def test_the_size_changes_the_sampling_and_not_the_picture():
    small, large = radiograph((0, 3), 0, 64, False), radiograph((0, 3), 0, 192, False)
    boxed = large.reshape(64, 3, 64, 3).mean((1, 3))
    assert np.corrcoef(small.ravel(), boxed.ravel())[0, 1] > 0.97
