"""Random numbers that are pure functions of keys. They use integers only, so CPU and GPU give equal numbers, and a sample's numbers do not
depend on its batch.

The function is splitmix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators"), which turns a state into 64
random bits. Here the state is a key plus a counter, as in Philox. The names are those of jax.random: keys are int64 tensors, and
`fold_in` makes new keys from them. Integers overflow at 64 bits. A float has 24 random bits, the precision of a float32 in [0, 1).
"""

import math

import torch
from jaxtyping import Float32, Int64
from torch import Tensor


def _signed(bits: int) -> int:
    return bits - 2**64


GAMMA = _signed(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_M1, _M2 = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def keys(seed: int, step: int, rows: Int64[Tensor, " b"], view: int) -> Int64[Tensor, " b"]:
    """The key of view `view` of each row. The part that all rows share is computed on the CPU, and is one number for the device."""
    shared = fold_in(fold_in(fold_in(torch.zeros((), dtype=torch.int64), seed), step), view)
    return fold_in(shared, rows)


def fold_in(keys: Int64[Tensor, "*keys"], number: int | Int64[Tensor, "*numbers"]) -> Int64[Tensor, "*both"]:
    """A new key for each key and number (they broadcast): 64 random bits, splitmix64's first output from the state key + number.

    The number is added, not multiplied by GAMMA as in splitmix64's own sequence. Reason: inductor makes a counter the variable of a C++
    loop, and the product would overflow. gcc assumes that this never happens, removes the end of the loop, and the loop overwrites the heap
    (torch 2.15).
    """
    return _mix(keys + number + GAMMA)


def uniform(keys: Int64[Tensor, "*b"], number: int) -> Float32[Tensor, "*b {number}"]:
    """`number` independent numbers in [0, 1) for each key."""
    return _unit_float(_draw_bits(keys, number), 40)


def uniform_at(keys: Int64[Tensor, "*b"], index: Int64[Tensor, "*b"]) -> Float32[Tensor, "*b"]:
    """For each key the number with this `index` among those of `uniform`."""
    return _unit_float(fold_in(keys, index), 40)


def normal(keys: Int64[Tensor, "*b"], number: int) -> Float32[Tensor, "*b {number}"]:
    """`number` independent standard normal numbers for each key, all within +-5.8. 64 random bits give two of them (Box and Muller
    1958)."""
    drawn = _draw_bits(keys, (number + 1) // 2)
    radius, angle = (-2 * (1 - _unit_float(drawn, 40)).log()).sqrt(), 2 * math.pi * _unit_float(drawn, 16)
    return torch.cat((radius * angle.cos(), radius * angle.sin()), dim=-1)[..., :number]


def between(shares: Float32[Tensor, "*b"], low: float, high: float) -> Float32[Tensor, "*b"]:
    """Numbers in [0, 1) scaled to the range from `low` to `high`."""
    return low + (high - low) * shares


def _draw_bits(keys: Tensor, number: int) -> Tensor:
    return fold_in(keys[..., None], torch.arange(number, device=keys.device))


def _unit_float(bits: Tensor, skipped: int) -> Tensor:
    """A float in [0, 1) from 24 of the bits: those above the lowest `skipped` bits."""
    return ((bits >> skipped) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _M1
    z = (z ^ _shift_right(z, 27)) * _M2
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, places: int) -> Tensor:
    """Shifts to the right and fills up with zeros; `>>` alone would fill up with the sign bit."""
    return (z >> places) & ((1 << (64 - places)) - 1)
