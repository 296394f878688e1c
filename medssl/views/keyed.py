"""Random numbers that are functions of keys: torch integers only, so that CPU and GPU draw alike and no sample's depend on its batch.

The function is that of splitmix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators"), which makes 64 random
bits of a state; here the state is a key plus a counter, as in Philox. Names as in jax.random: keys are int64 tensors, `fold_in` makes new
ones of them. Integers wrap around at 64 bits. A float has 24 random bits, all that a float32 in [0, 1) can show.
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
    """The key of each sample's view. What all share is mixed on the CPU, as one number that goes to the device with the first kernel."""
    shared = fold_in(fold_in(fold_in(torch.zeros((), dtype=torch.int64), seed), step), view)
    return fold_in(shared, rows)


def fold_in(keys: Int64[Tensor, "*keys"], number: int | Int64[Tensor, "*numbers"]) -> Int64[Tensor, "*both"]:
    """64 random bits for each key and number (they broadcast), which are a new key: splitmix64's first output from key + number.

    The number is added, not multiplied by GAMMA as in splitmix64's own sequence: inductor makes a counter the variable of a C++ loop, whose
    product would overflow; gcc takes that for impossible, drops the loop's end and writes on through the heap (torch 2.15).
    """
    return _mix(keys + number + GAMMA)


def uniform(keys: Int64[Tensor, "*b"], number: int) -> Float32[Tensor, "*b {number}"]:
    """`number` independent numbers in [0, 1) for each key."""
    return _unit_float(_draw_bits(keys, number), 40)


def normal(keys: Int64[Tensor, "*b"], number: int) -> Float32[Tensor, "*b {number}"]:
    """`number` independent standard normal numbers for each key, two of each 64 bits (Box and Muller 1958); none is beyond 5.8."""
    drawn = _draw_bits(keys, (number + 1) // 2)
    radius, angle = (-2 * (1 - _unit_float(drawn, 40)).log()).sqrt(), 2 * math.pi * _unit_float(drawn, 16)
    return torch.cat((radius * angle.cos(), radius * angle.sin()), dim=-1)[..., :number]


def between(shares: Float32[Tensor, "*b"], low: float, high: float) -> Float32[Tensor, "*b"]:
    """Numbers in [0, 1) stretched to the range from `low` to `high`."""
    return low + (high - low) * shares


def _draw_bits(keys: Tensor, number: int) -> Tensor:
    return fold_in(keys[..., None], torch.arange(number, device=keys.device))


def _unit_float(bits: Tensor, skipped: int) -> Tensor:
    """24 of the bits, those above the lowest `skipped`, as a share of 2^24."""
    return ((bits >> skipped) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _M1
    z = (z ^ _shift_right(z, 27)) * _M2
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, places: int) -> Tensor:
    """To the right with zeros coming in; `>>` alone would repeat the sign."""
    return (z >> places) & ((1 << (64 - places)) - 1)
