"""Each method still descends the curve on record, to six digits; how it came there is tests/curves.py."""

import curves
import methods_page
import pytest


@pytest.mark.parametrize("name", sorted(curves.on_record()))
def test_twenty_steps_descend_the_golden_curve(name):
    assert curves.curve(name) == pytest.approx(curves.read(name), rel=1e-6)


def test_the_methods_of_the_page_are_those_with_a_curve():
    """Both are written by `make methods`: neither a line nor a curve can be lost alone."""
    assert {cells[0].strip("`") for cells in methods_page.written()} == curves.on_record()
