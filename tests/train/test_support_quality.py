"""The quality of look-ups: four of them counted by hand, then those of real methods."""

import math
from dataclasses import replace

import pytest
import torch
from small import noise_batch, small_method

from medssl.nn.support_set import tags_of
from medssl.train.support_quality import quality
from medssl.types import LookUp, Rows


def four() -> LookUp:
    """Queries at step 10: the first finds its own image of step 4; the second another image of its patient, of step 8; the third a random
    start row; the fourth the row that the second found, an image of somebody else."""
    z = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.6, 0.8]])
    nn = torch.tensor([[1.0, 0, 0], [0, 0.6, 0.8], [0, 1, 0], [0, 0.6, 0.8]])
    z_tags = torch.tensor([[5, 1, 0, 10], [6, 2, 1, 10], [7, 3, 1, 10], [8, 4, -1, 10]])
    nn_tags = torch.tensor([[5, 1, 0, 4], [9, 2, 0, 8], [-1, -1, -1, -1], [9, 2, 0, 8]])
    return LookUp(z, nn, z.clone(), torch.tensor([11, 3, 30, 3]), z_tags, nn_tags)


def test_four_look_ups_counted_by_hand():
    assert quality(four(), 10) == pytest.approx(
        {
            "nn_age": (6 + 2 + 2) / 3,
            "nn_start": 1 / 4,
            "nn_distinct": 3 / 4,
            "nn_self_now": 0,
            "nn_self_earlier": 1 / 4,
            "nn_same_patient": 1 / 4,
            "cos_z_nn": (1 + 0.6 + 0 + 1) / 4,
            "cos_z_pnn": 1,
            "cos_nn_pnn": (1 + 0.6 + 0 + 1) / 4,
            "nn_label_agreement": 1 / 2,  # of the first two pairs only
            "nn_label_chance": 1 / 2 * 1,  # classes 0 and 1 among the queries, 0 alone among the neighbours
        },
        abs=1e-6,
    )


def test_an_image_found_in_the_same_step_is_told_apart_from_an_earlier_one():
    found = four()
    found.nn_tags[0, 3] = 10
    numbers = quality(found, 10)
    assert (numbers["nn_self_now"], numbers["nn_self_earlier"]) == (1 / 4, 0)


def test_what_no_pair_allows_to_compute_is_left_out():
    start = torch.full((4, 4), -1)
    assert not {"nn_age", "nn_label_agreement", "nn_label_chance"} & quality(replace(four(), nn_tags=start), 10).keys()
    unknown = four()
    unknown.z_tags[:, 1] = -1
    unknown.nn_tags[:, 1] = -1
    assert quality(unknown, 10)["nn_same_patient"] == 0, "two patients who are not known are not the same"


def test_labels_dealt_out_at_random_agree_as_often_as_chance_says():
    random = torch.Generator().manual_seed(0)
    label = torch.multinomial(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]]), 20_000, replacement=True, generator=random)
    tags = torch.stack(
        [torch.stack([torch.arange(20_000), torch.arange(20_000), x, torch.zeros(20_000, dtype=torch.long)], 1) for x in label]
    )
    z = torch.ones(20_000, 2)
    numbers = quality(LookUp(z, z, z, torch.arange(20_000), tags[0], tags[1]), 1)
    assert numbers["nn_label_chance"] == pytest.approx(0.7 * 0.5 + 0.2 * 0.1 + 0.1 * 0.4, abs=0.01)
    assert numbers["nn_label_agreement"] == pytest.approx(numbers["nn_label_chance"], abs=0.01)


def test_a_pseudo_neighbour_with_gradient_and_of_any_length_can_be_judged():
    found = four()
    pnn = (3 * found.nn).requires_grad_()
    assert quality(replace(found, pnn=pnn), 10)["cos_nn_pnn"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["nnclr", "pnnclr", "pnnclr_paper"])
def test_no_method_finds_an_image_in_the_step_that_pushes_it_and_the_start_rows_are_used_up(name):
    method = small_method(name, support_size=30)
    seen = []
    for number in range(8):
        batch = noise_batch(number)
        step = method(batch)
        assert step.lookup is not None
        seen.append(quality(step.lookup, number))
        method.after_update(step, 0.5)
    assert all(numbers["nn_self_now"] == 0 for numbers in seen)
    assert (seen[0]["nn_start"], seen[-1]["nn_start"]) == (1, 0)
    assert all(math.isfinite(value) for numbers in seen for value in numbers.values())


def test_pushing_before_the_look_up_shows_as_images_that_find_themselves():
    method, batch = small_method("nnclr"), noise_batch()
    step = method(batch)
    assert step.push is not None
    method.support.push(Rows(step.push.values, tags_of(batch)))
    found = method(batch).lookup
    assert quality(found, 0)["nn_self_now"] == 1


@pytest.mark.parametrize(("neighbours", "expected"), [("any", 1.0), ("other_images", 0.0)])
def test_a_set_larger_than_the_data_shows_as_images_that_find_their_own_past(neighbours, expected):
    method = small_method("nnclr", neighbours=neighbours)
    batch = noise_batch(0)
    numbers = []
    for number in range(3):
        step = method(replace(batch, step=number))
        numbers.append(quality(step.lookup, number)["nn_self_earlier"])
        method.after_update(step, 0.5)
    assert numbers[-1] == expected
