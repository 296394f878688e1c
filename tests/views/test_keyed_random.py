"""Random numbers by keys: those of splitmix64, uniform or normal, and unrelated between neighbours."""

import shutil

import numpy as np
import pytest
import torch
from scipy import stats

from medssl.views import keyed_random

N = 20_000
LIMIT = 4 / np.sqrt(N)  # of a correlation of N independent pairs: 4 standard errors
KEYS = keyed_random.keys(7, 3, torch.arange(N), 0)


def splitmix64(state: int) -> int:
    """One output, in Python's integers (Steele, Lea and Flood 2014; constants of java.util.SplittableRandom)."""
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return abs(np.corrcoef(a.numpy(), b.numpy())[0, 1])


def test_the_bits_are_those_of_splitmix64() -> None:
    """Outputs for the seed 1234567, as several libraries print them; its state grows by GAMMA."""
    states = torch.tensor([(1234567 + i * 0x9E3779B97F4A7C15 + 2**63) % 2**64 - 2**63 for i in range(5)])
    found = [value % 2**64 for value in keyed_random.fold_in(states, 0).tolist()]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]


@pytest.mark.parametrize("key", [0, 1, -1, 2**63 - 1, -(2**63), 123456789012345])
def test_integers_wrap_around_as_those_of_64_bits_do(key: int) -> None:
    for number in (0, 1, 5, 2**31):
        found = keyed_random.fold_in(torch.tensor(key), number).item()
        assert found % 2**64 == splitmix64((key + number) % 2**64)


def test_a_key_is_made_of_seed_step_view_and_row_in_turn() -> None:
    key = 0
    for part in (7, 3, 1, 11):
        key = splitmix64((key + part) % 2**64)
    assert keyed_random.keys(7, 3, torch.tensor([10, 11]), 1)[1].item() % 2**64 == key


def test_no_two_of_many_keys_are_equal() -> None:
    rows = torch.arange(2000)
    made = [keyed_random.keys(seed, step, rows, view) for seed in (0, 1) for step in range(10) for view in (0, 1)]
    assert len(torch.cat(made).unique()) == 2 * 10 * 2 * 2000


def test_uniform_numbers_are_uniform_with_24_bits_and_never_1() -> None:
    numbers = keyed_random.uniform(KEYS, 4)
    assert numbers.shape == (N, 4)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert torch.equal(numbers * 2**24, (numbers * 2**24).round())
    for column in numbers.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3


def test_every_bit_of_a_number_is_set_half_the_time() -> None:
    numbers = (keyed_random.uniform(KEYS, 1)[:, 0] * 2**24).long()
    shares = torch.stack([(numbers >> bit & 1).double().mean() for bit in range(24)])
    assert (shares - 0.5).abs().max() < 4.5 * 0.5 / np.sqrt(N)


def test_neighbours_are_unrelated() -> None:
    """Rows, steps, seeds, views, numbers and folded keys that follow each other."""
    rows = torch.arange(N)
    first = keyed_random.uniform(KEYS, 2)
    others = {
        "row": keyed_random.uniform(keyed_random.keys(7, 3, rows + 1, 0), 1)[:, 0],
        "step": keyed_random.uniform(keyed_random.keys(7, 4, rows, 0), 1)[:, 0],
        "seed": keyed_random.uniform(keyed_random.keys(8, 3, rows, 0), 1)[:, 0],
        "view": keyed_random.uniform(keyed_random.keys(7, 3, rows, 1), 1)[:, 0],
        "number": first[:, 1],
        "folded": keyed_random.uniform(keyed_random.fold_in(KEYS, 1), 1)[:, 0],
    }
    assert {name: correlation(first[:, 0], other) for name, other in others.items() if correlation(first[:, 0], other) > LIMIT} == {}
    along = keyed_random.uniform(KEYS[:1], N + 1)[0]
    assert correlation(along[1:], along[:-1]) < LIMIT


def test_a_step_by_itself_is_as_random_as_a_row() -> None:
    keys = [keyed_random.keys(0, step, torch.zeros(1, dtype=torch.int64), 0) for step in range(3000)]
    numbers = torch.cat([keyed_random.uniform(key, 1) for key in keys])[:, 0]
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 1e-3
    assert correlation(numbers[1:], numbers[:-1]) < 4 / np.sqrt(3000)


@pytest.mark.parametrize("number", [1, 2, 7, 4096])
def test_normal_numbers_are_normal(number: int) -> None:
    numbers = keyed_random.normal(KEYS[: N // number], number)
    assert numbers.shape == (N // number, number)
    assert numbers.isfinite().all()
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-3


def test_the_two_normal_numbers_of_one_draw_and_their_squares_are_unrelated() -> None:
    a, b = keyed_random.normal(KEYS, 2).T
    assert correlation(a, b) < LIMIT
    assert correlation(a**2, b**2) < 1.5 * LIMIT  # squares have heavier tails


def test_numbers_depend_on_their_key_alone() -> None:
    for draw in (keyed_random.uniform, keyed_random.normal):
        whole = draw(KEYS[:64], 9)
        torch.testing.assert_close(torch.cat([draw(KEYS[:32], 9), draw(KEYS[32:64], 9)]), whole, rtol=0, atol=0)
        torch.testing.assert_close(draw(KEYS[5:6], 9), whole[5:6], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("number", [1000])
def test_compiled_code_draws_the_same(number: int) -> None:
    """A counter times GAMMA wrote through the heap here; see `fold_in`."""
    compiled = torch.compile(keyed_random.uniform, fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(KEYS[:64], number), keyed_random.uniform(KEYS[:64], number), rtol=0, atol=0)
