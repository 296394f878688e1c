"""One process with a batch of 64 and two with 32 each train alike: losses, gradients, weights, support set, statistics of all methods."""

import many_devices
import pytest
import torch

from medssl import plugins

pytestmark = pytest.mark.slow

NAMES = plugins.names("methods")
EXACT, SINGLE = (torch.float64, False), (torch.float32, True)  # a ResNet in float64; two convolutions in float32, which rounds less in them


@pytest.fixture(scope="module")
def two(request):
    """{job: what each of the two processes ended with}, for the methods that are asked for."""
    names = sorted({item.callspec.params["name"] for item in request.session.items if item.module is request.module})
    jobs = [(name, *kind) for name in names for kind in (EXACT, SINGLE)]
    ranks = many_devices.in_two(jobs)
    return {job: [rank[i] for rank in ranks] for i, job in enumerate(jobs)}


def differences(found, expected) -> dict[str, float]:
    """Root mean square of the difference of each loss, gradient, weight and buffer; of numbers above 1 as a share of the largest."""
    assert found["gradients"].keys() == expected["gradients"].keys()
    assert found["state"].keys() == expected["state"].keys()
    pairs = {"losses": (found["losses"], expected["losses"])}
    for part in ("gradients", "state"):
        pairs |= {f"{part} {key}": (found[part][key], value) for key, value in expected[part].items() if value.numel()}
    result = {}
    for key, (one, other) in pairs.items():
        assert one.shape == other.shape
        one, other = one.double(), other.double()
        result[key] = float((one - other).square().mean().sqrt() / other.abs().max().clamp(min=1))
    return result


@pytest.mark.parametrize("name", NAMES)
def test_in_float64_two_times_32_is_one_times_64_to_twelve_digits(name, two, record_property):
    one = many_devices.trained((name, *EXACT))
    worst = max(max(differences(rank, one).values()) for rank in two[name, *EXACT])
    record_property("two devices, float64", worst)
    assert worst < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_in_float32_they_differ_by_1e_6_or_by_less_than_twice_what_rounding_does_to_one(name, two, record_property):
    one = many_devices.trained((name, *SINGLE))
    rounding = differences(one, many_devices.trained((name, torch.float64, True)))
    for rank in two[name, *SINGLE]:
        found = differences(rank, one)
        record_property("two devices, float32", max(found.values()))
        assert found["losses"] < 1e-6
        assert found.get("state support.rows", 0) < 1e-6
        assert not {key: (value, rounding[key]) for key, value in found.items() if value > max(1e-6, 2 * rounding[key])}


@pytest.mark.parametrize("name", NAMES)
def test_both_processes_end_with_the_same_bits(name, two):
    first, second = two[name, *SINGLE]
    for part in ("gradients", "state"):
        for key, value in first[part].items():
            statistics = key.endswith(("running_mean", "running_var"))
            assert statistics or torch.equal(value, second[part][key]), key
    assert torch.equal(first["losses"], second["losses"])
