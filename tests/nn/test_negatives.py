"""Which pairs are no negatives, against loops over all pairs."""

import pytest
import torch
from torch import Tensor

from medssl.nn.losses import l2_normalize
from medssl.nn.negatives import excluded_pairs, likely_false_negatives, match_patients, same_patient

B = 7
PATIENTS = [4, 9, 4, -1, -1, 9, 4]


def tags_of_patients(patients: list[int]) -> Tensor:
    """Rows, labels and steps that agree where patients do not: none of them may count."""
    return torch.tensor([[10 + i, patient, 1, 5] for i, patient in enumerate(patients)])


@pytest.fixture
def z() -> tuple[Tensor, Tensor]:
    z1, z2 = l2_normalize(torch.randn(2 * B, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).chunk(2)
    return z1, z2


def true_pairs(mask: Tensor) -> set[tuple[int, int]]:
    return {(i, k) for i, k in mask.nonzero().tolist()}


def alike(z: tuple[Tensor, Tensor], number: int) -> set[tuple[int, int]]:
    """For each i the `number` k other than i with the largest z1_i z2_k + z2_i z1_k."""
    z1, z2 = (x.tolist() for x in z)

    def score(i: int, k: int) -> float:
        return sum(a * b for a, b in zip(z1[i], z2[k], strict=True)) + sum(a * b for a, b in zip(z2[i], z1[k], strict=True))

    pairs = set()
    for i in range(B):
        others = sorted((k for k in range(B) if k != i), key=lambda k: score(i, k), reverse=True)
        pairs |= {(i, k) for k in others[:number]}
    return pairs


ONE_PATIENT = {(i, k) for i in range(B) for k in range(B) if i != k and PATIENTS[i] == PATIENTS[k] != -1}


def test_two_images_of_one_known_patient_are_such_a_pair_and_an_image_with_itself_is_none():
    assert len(ONE_PATIENT) == 8
    assert true_pairs(same_patient(tags_of_patients(PATIENTS))) == ONE_PATIENT


def test_a_patient_who_is_not_known_is_nobodys():
    assert not same_patient(tags_of_patients([-1] * B)).any()
    assert not match_patients(tags_of_patients([-1, -1]), tags_of_patients([-1, 3])).any()


def test_between_two_sets_an_image_of_the_patient_counts_wherever_it_stands():
    found = match_patients(tags_of_patients([4, 9]), tags_of_patients([9, 4, 4]))
    assert found.tolist() == [[False, True, True], [True, False, False]]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_likely_false_negatives_are_the_other_images_that_look_most_like_it(number, z):
    assert true_pairs(likely_false_negatives(z[0], z[1], number)) == alike(z, number)


def test_more_cancelled_than_there_are_leaves_each_image_its_least_similar_negative(z):
    found = likely_false_negatives(z[0], z[1], 100)
    assert (found.sum(dim=1) == B - 2).all()
    assert not found.diagonal().any()
    assert true_pairs(found) == alike(z, B - 2)


def test_of_two_images_none_is_cancelled(z):
    assert not likely_false_negatives(z[0][:2], z[1][:2], 3).any()


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("cancel", [0, 2])
def test_excluded_are_the_pairs_of_one_patient_and_the_likely_false_ones_where_each_is_asked_for(mask, cancel, z):
    found = excluded_pairs(tags_of_patients(PATIENTS), z[0], z[1], mask_same_patient=mask, cancel=cancel)
    expected = (ONE_PATIENT if mask else set()) | alike(z, cancel)
    if found is None:
        assert not mask
        assert not cancel
    else:
        assert true_pairs(found) == expected
        assert not found.diagonal().any()


def test_likely_false_negatives_are_chosen_in_float32_under_autocast():
    z1, z2 = l2_normalize(torch.randn(256, 16, generator=torch.Generator().manual_seed(1))).chunk(2)
    expected = likely_false_negatives(z1, z2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(likely_false_negatives(z1, z2, 5), expected)
    rounded = (z1.bfloat16() @ z2.bfloat16().T).float()
    rounded = (rounded + rounded.T).fill_diagonal_(-torch.inf).topk(5, dim=1).indices
    assert not torch.equal(torch.zeros_like(expected).scatter_(1, rounded, value=True), expected), "bfloat16 would choose others"
