"""The Bloom filter finds all texts of its set and hardly any other; and a card with filters shows the same leaks as one with lists."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from medssl.data.pseudonyms import pixel_key, pseudonym, site_name
from medssl.data.split import Seen, bloom, join_seen, list_seen, seen_counts, unsearchable
from medssl.encoder.export.public import public_card
from medssl.errors import UserError
from medssl.evaluate.leakage import refuse_leak
from medssl.runs.start import continued

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


def test_an_encoder_that_continues_from_an_exported_one_has_seen_what_both_have_seen():
    earlier = {"patients": letters(range(300)), "pixels": letters(range(300))}
    own = {"patients": letters(range(290, 310)), "pixels": letters(range(5000, 5010))}
    table = pd.DataFrame({name: [f"{text}{'0' * 16}" for text in letters([0, 305, 9000])] for name in ("patient", "pixel_hash")})
    for hashes in (True, False):
        start = public_card({"backbone": {}, "method": {}, "start": {}, "pretraining": earlier}, with_hashes=hashes)
        card = continued({"method": {"uses_labels": False}, "pretraining": own}, {"method": {}, "start": {}, **start})
        assert seen_counts(card) == {"patients": 320, "pixels": 310}
        assert card["start"]["seen_before"] == {"patients": 300, "pixels": 300}
        assert np.array_equal(Seen.by(card, table).patient, [hashes, True, False])
        assert (not unsearchable(card, table, "")) == hashes
        shared = public_card({"backbone": {}, **card}, with_hashes=True)
        assert np.array_equal(Seen.by(shared, table).patient, [hashes, True, False])
        assert not any(text in json.dumps(shared) for text in own["patients"])
        with pytest.raises(UserError, match=f"{1 + hashes} of 3 test images were seen in pretraining"):
            refuse_leak(card, table)


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
        assert (not unsearchable(shared, table, "")) == hashes
        if hashes:
            assert np.array_equal(seen.patient, [True, True, False, False, False])
            assert np.array_equal(seen.rows, Seen.by(card, table).rows)
            with pytest.raises(UserError, match="3 of 5 test images were seen in pretraining"):
                refuse_leak(shared, table)
        else:
            assert not seen.rows.any()
            assert refuse_leak(shared, table) is None, "no leak can be told, and none must be denied"


def a_table(site: bytes, patients: list[str], images: list[str]) -> pd.DataFrame:
    """The table of a store that was made with the key `site`."""
    keys = {"patient": [pseudonym(site, "patient", name) for name in patients], "pixel_key": [pixel_key(site, text) for text in images]}
    return pd.DataFrame({**keys, "pixel_hash": images})


@pytest.mark.fault("S24")
@pytest.mark.parametrize("exported", [False, True])
def test_pixels_of_training_images_are_found_with_the_key_of_the_site_and_with_no_other(exported):
    images, ours, other = [f"{text}{text}" for text in letters(range(20))], b"k" * 32, b"o" * 32
    pretraining = list_seen(a_table(ours, ["p"] * 20, images), site_name(ours))
    card = {"backbone": {}, "pretraining": pretraining}
    card = public_card(card, with_hashes=True) if exported else card
    assert seen_counts(card) == {"patients": 1, "pixels": 20}
    same = a_table(ours, [f"new {n}" for n in range(20)], images)
    assert Seen.by(card, same).pixels.all()
    assert not Seen.by(card, same).patient.any()
    with pytest.raises(UserError, match="20 of 20 test images were seen in pretraining"):
        refuse_leak(card, same, site_name(ours))
    assert not Seen.by(card, same.drop(columns="pixel_key")).rows.any(), "who has the images and no key can prove nothing"
    assert not any(image[:16] in json.dumps(card) for image in images)
    theirs = a_table(other, ["p"] * 20, images)
    assert not Seen.by(card, theirs).rows.any()
    assert refuse_leak(card, theirs, site_name(other)) is None, "nothing can be told, and no leak must be denied"
    assert "the key of another site" in unsearchable(card, theirs, site_name(other))
    assert refuse_leak(card, a_table(ours, ["q"], ["f" * 32]), site_name(ours)) is not None


def test_a_card_of_two_pretrainings_is_one_list_with_one_key_and_two_with_two():
    images, keys = letters(range(6)), (b"k" * 32, b"o" * 32)
    first, second, foreign = (
        list_seen(a_table(key, some, some), site_name(key))
        for key, some in ((keys[0], images[:4]), (keys[0], images[2:5]), (keys[1], images[5:]))
    )
    assert join_seen(first["pixels"], second["pixels"]) == list_seen(a_table(keys[0], images[:5], images[:5]), site_name(keys[0]))["pixels"]
    both = {"pretraining": {name: join_seen(first[name], foreign[name]) for name in first}}
    assert seen_counts(both) == {"patients": 5, "pixels": 5}
    for key, found in zip(keys, ([True] * 4 + [False] * 2, [False] * 5 + [True]), strict=True):
        table = a_table(key, images, images)
        assert np.array_equal(Seen.by(both, table).pixels, found)
        assert unsearchable(both, table, site_name(key)), "a part of the card is always of the other site"
    assert join_seen(first["pixels"], []) == first["pixels"], "weights of other programs have no images"
