"""Draws where an image has several labels: nested, by patient, each label in its share, none without."""

import numpy as np
import pytest

from medssl.data.split import LabelFraction, draw_multilabel, parse_labels
from medssl.errors import UserError

NAMES = ("common", "seldom", "rare")


def a_pool(n: int = 400, seed: int = 0, unknown: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Patients with one to three images; 40, 8 and 1.5 percent of the patients have a label, a tenth of the answers is not known."""
    generator = np.random.default_rng(seed)
    images = generator.integers(1, 4, n)
    has = generator.random((n, 3)) < np.array([0.4, 0.08, 0.015])
    has[:3, 2] = True
    y = np.repeat(has, images, axis=0).astype(int)
    y[generator.random(y.shape) < unknown] = -1
    return np.repeat([f"p{i}" for i in range(n)], images), y


def share(text: str) -> LabelFraction:
    return parse_labels(text)[0]


def drawn(text: str, draw: int = 0, seed: int = 0) -> np.ndarray:
    patients, y = a_pool()
    return draw_multilabel(patients, y, NAMES, share(text), draw, seed)


def test_whole_patients_are_drawn_as_many_as_the_share_says_and_smaller_shares_lie_inside_larger_ones() -> None:
    patients, _ = a_pool()
    inner = np.array([], dtype=int)
    for text, number in (("3pct", 12), ("10pct", 40), ("50pct", 200), ("100pct", 400)):
        rows = drawn(text)
        who = np.unique(patients[rows])
        assert len(who) == number and np.isin(patients, who).sum() == len(rows)
        assert np.isin(inner, rows).all()
        inner = rows


def test_each_label_has_its_share_of_patients_in_every_draw_and_none_is_missing() -> None:
    patients, y = a_pool()
    total = np.array([len(np.unique(patients[y[:, k] == 1])) for k in range(3)])
    for draw in range(5):
        for text, part in (("5pct", 0.05), ("20pct", 0.2)):
            rows = drawn(text, draw)
            got = np.array([len(np.unique(patients[rows][y[rows, k] == 1])) for k in range(3)])
            assert (np.abs(got - part * total) <= 2).all(), (draw, text, got, part * total)
            assert (got >= 1).all() and all((y[rows, k] == 0).any() for k in range(3))


def test_draws_and_seeds_differ_and_the_order_of_the_table_does_not_matter() -> None:
    patients, y = a_pool()
    assert set(drawn("10pct")) != set(drawn("10pct", draw=1)) and set(drawn("10pct")) != set(drawn("10pct", seed=1))
    order = np.random.default_rng(1).permutation(len(patients))
    shuffled = draw_multilabel(patients[order], y[order], NAMES, share("10pct"), 0, 0)
    assert set(patients[order][shuffled]) == set(patients[drawn("10pct")])


def test_shots_are_patients_with_and_without_each_label() -> None:
    patients, y = a_pool()
    rows = drawn("3shot")
    for k in range(3):
        assert len(np.unique(patients[rows][y[rows, k] == 1])) >= 3
    assert len(np.unique(patients[rows])) < 20


def test_what_cannot_be_drawn_is_refused_with_what_could() -> None:
    with pytest.raises(UserError, match=r"--labels 0\.25pct is less than it takes for each label .* The smallest that works is"):
        drawn("0.25pct")
    with pytest.raises(UserError, match=r"of 'rare' there are \d+ labelled training patients\. The largest that works is \d+shot"):
        drawn("40shot")


def test_patients_of_whom_nothing_is_known_come_last() -> None:
    patients, y = np.array([f"p{i}" for i in range(12)]), np.array([[1], [0]] * 3 + [[-1]] * 6)
    assert draw_multilabel(patients, y, ("a",), share("50pct"), 0, 0).tolist() == [0, 1, 2, 3, 4, 5]
    assert len(draw_multilabel(patients, y, ("a",), share("100pct"), 0, 0)) == 12
