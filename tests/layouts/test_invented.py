"""What medssl understands of layouts that are invented at random is what was written; or medssl asks. Nothing is wrong in silence."""

from collections import Counter
from pathlib import Path

import pytest
from layouts.invented import compare, invent


def _judge(seeds: range, root: Path) -> Counter[str]:
    counted = Counter[str]()
    for seed in seeds:
        layout = invent(seed, root / str(seed))
        verdict = compare(layout)
        assert verdict in ("right", "asked"), (seed, layout.said, verdict)
        counted[verdict] += 1
    return counted


def test_thirty_invented_layouts_are_understood_and_hardly_any_is_asked_about(tmp_path: Path) -> None:
    assert _judge(range(30), tmp_path)["right"] >= 29


@pytest.mark.slow
def test_five_hundred_invented_layouts_are_understood_and_hardly_any_is_asked_about(tmp_path: Path) -> None:
    assert _judge(range(1000, 1500), tmp_path)["right"] >= 490


def test_a_wrong_label_patient_or_split_is_told(tmp_path: Path) -> None:
    layout = invent(3, tmp_path)
    assert compare(layout) == "right"
    picture = layout.truth[0]
    for what, wrong in (("labels", {"label": "another"}), ("patient", "another"), ("split", "test")):
        before = getattr(picture, what)
        setattr(picture, what, wrong)
        assert compare(layout).startswith(what)
        setattr(picture, what, before)
