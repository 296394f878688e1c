"""Each method still descends the curve on record, to six digits; how it came there is tests/curves.py."""

import curves
import pytest

from medssl import plugins


@pytest.mark.parametrize("name", plugins.names("methods"))
def test_twenty_steps_descend_the_golden_curve(name):
    assert (curves.FOLDER / f"{name}.txt").is_file(), f"no curve on record: python tests/curves.py {name}"
    assert curves.curve(name) == pytest.approx(curves.read(name), rel=1e-6)
