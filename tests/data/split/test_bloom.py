"""The Bloom filter finds all texts of its set and hardly any other; and a card with filters shows the same leaks as one with lists."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from medssl.data.split import Seen, bloom, has_hashes, seen_counts
from medssl.encoder.export.public import public_card
from medssl.errors import UserError
from medssl.evaluate.leakage import refuse_leak

FAULTS = {"a filter with a tenth of the bits": ("data/split/bloom.py", "math.ceil(-len(known)", "math.ceil(-0.1 * len(known)")}


def letters(numbers) -> list[str]:
    return [f"{(number * 0x9E3779B97F4A7C15) % 2**64:016x}" for number in numbers]


@pytest.mark.parametrize("count", [0, 1, 20, 5000])
def test_every_text_of_the_set_is_found_and_hardly_any_other(count):
    known, others = letters(range(count)), letters(range(10**6, 10**6 + 100_000))
    found = json.loads(json.dumps(bloom.build(known)))
    assert bloom.contains(found, known).all()
    assert bloom.contains(found, others).sum() <= 2, "0.1 are expected at a rate of 1e-6"
    assert found["count"] == count


def test_the_filter_has_the_size_of_the_formula_and_none_of_the_texts():
    known = letters(range(1000))
    found = bloom.build(known)
    assert found["bits"] == math.ceil(1000 * 6 * math.log(10) / math.log(2) ** 2) == 28756
    assert found["rounds"] == 20
    assert not any(text in json.dumps(found) for text in known)


def test_the_leaks_that_a_list_shows_are_those_that_a_filter_shows():
    patients, pixels = letters(range(300)), letters(range(1000, 1400))
    card = {"pretraining": {"patients": patients, "pixels": pixels}}
    table = pd.DataFrame(
        {
            "patient": [f"{text}{'0' * 16}" for text in letters([0, 299, 5000, 5001, 5002])],
            "pixel_hash": [f"{text}{'0' * 16}" for text in letters([9000, 1000, 1399, 9001, 9002])],
        }
    )
    for hashes in (True, False):
        shared = {**public_card({"backbone": {}, **card}, with_hashes=hashes)}
        seen = Seen.by(shared, table)
        assert seen_counts(shared) == {"patients": 300, "pixels": 400}
        assert has_hashes(shared) == hashes
        if hashes:
            assert np.array_equal(seen.patient, [True, True, False, False, False])
            assert np.array_equal(seen.rows, Seen.by(card, table).rows)
            with pytest.raises(UserError, match="3 of 5 test images were seen in pretraining"):
                refuse_leak(shared, table)
        else:
            assert not seen.rows.any()
            assert refuse_leak(shared, table) is None, "no leak can be told, and none must be denied"
