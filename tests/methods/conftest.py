"""What the tests of each method are given."""

from collections.abc import Callable

import pytest
import torch


@pytest.fixture
def agrees(record_property) -> Callable[..., None]:
    """agrees(found, expected): within 1e-6 of the expected number's size, or of 1 for smaller ones, in float64. The largest error of a
    test goes into docs/methods.md."""
    errors: list[float] = []

    def check(found: torch.Tensor | float, expected: torch.Tensor | float) -> None:
        found, expected = (torch.as_tensor(x).detach() for x in (found, expected))
        assert found.dtype == torch.float64 == expected.dtype, "compared in float64"
        errors.append(float(((found - expected).abs() / expected.abs().clamp(min=1)).max()))
        assert errors[-1] < 1e-6
        record_property("largest_error", max(errors))

    return check
