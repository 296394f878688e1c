"""Labels that come after the pretraining: whatever was labelled later, the test has every class, and nothing that the encoder has seen."""

import numpy as np
import pandas as pd
import pytest

from medssl.data.split import Seen, assign_roles, choose_holdout, class_shares, serves
from medssl.errors import UserError
from medssl.evaluate.leakage import refuse_leak, refuse_untestable

FRACTION, HOLD_OUT = 0.2, 0.25  # the hold-out of `medssl pretrain` where no image has a label


def archive(random: np.random.Generator, patients: int) -> pd.DataFrame:
    """One to three images of each patient, without labels; some share a study or a picture with another patient."""
    names = random.bytes(16 * patients).hex()
    keys = np.repeat(np.array([names[32 * i : 32 * i + 32] for i in range(patients)]), random.integers(1, 4, patients))
    pixels = random.bytes(16 * len(keys)).hex()
    table = pd.DataFrame({"patient": keys, "split": "", "study": "", "perceptual_hash": "1"})
    table["pixel_hash"] = [pixels[32 * i : 32 * i + 32] for i in range(len(keys))]
    twice = random.choice(len(keys), 6, replace=False)
    table.loc[twice[:2], "study"] = "shared"
    table.loc[twice[2:4], "pixel_hash"] = table["pixel_hash"].iloc[twice[2]]
    table.loc[twice[4:], ["pixel_hash", "perceptual_hash"]] = "f" * 32, "0" * 16  # two flat images
    return table


def card_of(table: pd.DataFrame) -> dict:
    """What pretraining writes on the encoder's card."""
    roles = assign_roles(table, "", 0, FRACTION)
    seen = table.loc[(roles == "train") & ~choose_holdout(table, roles, "", 0, HOLD_OUT)]
    return {
        "pretraining": {name: sorted({key[:16] for key in seen[of]}) for name, of in (("patients", "patient"), ("pixels", "pixel_hash"))}
    }


def with_labels(table: pd.DataFrame, random: np.random.Generator, labelled: int, **shares: float) -> pd.DataFrame:
    """The table with a column for each of `shares`, 1 for that share of `labelled` patients drawn at random and 0 for the rest of them."""
    patients = np.unique(table["patient"].to_numpy(str))
    known = random.choice(patients, labelled, replace=False)
    for name, share in shares.items():
        positive = known[random.random(labelled) < share]
        values = np.where(table["patient"].isin(positive.tolist()), "1", "0")
        table = table.assign(**{f"label:{name}": np.where(table["patient"].isin(known.tolist()), values, "")})
    return table


def later(variant: str, random: np.random.Generator) -> tuple[pd.DataFrame, dict]:
    """The data as it is fine-tuned on, and the card of an encoder that was pretrained before there were labels."""
    before = archive(random, 150)
    card = card_of(before)
    if variant == "all patients":
        return with_labels(before, random, 150, sick=0.5), card
    if variant == "some patients":
        return with_labels(before, random, 70, sick=0.5), card
    if variant == "new images":
        new = archive(random, 60)
        new.loc[new.index[:4], "pixel_hash"] = before["pixel_hash"].iloc[:4].to_numpy()  # sent again, under other names
        new.loc[new.index[-9:], "patient"] = before["patient"].iloc[-9:].to_numpy()  # patients who came back
        return with_labels(pd.concat([before, new], ignore_index=True), random, 90, sick=0.4), card
    if variant == "several findings":
        return with_labels(before, random, 120, mass=0.5, effusion=0.4, nodule=0.3), card
    assert variant == "another site"
    return with_labels(archive(random, 60), random, 60, sick=0.4), card


def split_for(table: pd.DataFrame, card: dict) -> tuple[np.ndarray, list[str]]:
    """As `runs.dataset.with_unseen_test` does, without looking for near duplicates; and the label columns."""
    columns, seen = [str(name)[6:] for name in table.filter(like="label:")], Seen.by(card, table).rows
    roles = assign_roles(table, "", 0, FRACTION)
    if not serves(table, columns, roles, FRACTION, seen):
        roles = assign_roles(table, columns[0] if len(columns) == 1 else "", 0, FRACTION, seen)
    return roles, columns


@pytest.mark.fault("L1", "L2")
@pytest.mark.parametrize("draws", [4, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("variant", ["all patients", "some patients", "new images", "several findings", "another site"])
def test_every_class_is_tested_and_trained_on_and_no_test_patient_or_picture_was_seen(variant: str, draws: int) -> None:
    for seed in range(draws):
        table, card = later(variant, np.random.default_rng(seed))
        roles, columns = split_for(table, card)
        test = table.loc[roles == "test"]
        for share in class_shares(table, columns, roles):
            assert share.tested and share.trained, (seed, share)
        labelled = table.loc[(table[[f"label:{column}" for column in columns]] != "").any(axis=1)]["patient"].nunique()
        assert FRACTION * labelled / 2 <= test["patient"].nunique() <= 0.3 * table["patient"].nunique()
        assert not {key[:16] for key in test["patient"]} & set(card["pretraining"]["patients"])
        assert not {key[:16] for key in test["pixel_hash"]} & set(card["pretraining"]["pixels"])
        found = refuse_leak(card, test)
        assert found is not None and found.leaked == 0
        train = table.loc[roles == "train"]
        assert not set(train["patient"]) & set(test["patient"])
        assert not set(train["study"]) & set(test["study"]) - {""}
        if seed < 3:
            shuffled = table.sample(frac=1, random_state=seed)
            assert set(shuffled[split_for(shuffled, card)[0] == "test"].index) == set(test.index)


def test_on_the_data_of_the_pretraining_the_test_is_the_one_that_pretraining_left_out() -> None:
    table = with_labels(archive(np.random.default_rng(0), 150), np.random.default_rng(1), 150, sick=0.3)
    roles = assign_roles(table, "sick", 0, FRACTION)
    seen = (roles == "train") & ~choose_holdout(table, roles, "sick", 0, 0.1)
    assert seen.any() and serves(table, ["sick"], roles, FRACTION, seen)
    assert assign_roles(table, "sick", 0, FRACTION, seen).tolist() == roles.tolist(), "drawing among the unseen gives the same patients"


def test_a_split_that_was_seen_or_lacks_a_class_or_is_too_small_does_not_serve() -> None:
    table = pd.DataFrame({"patient": list("abcdefghij"), "split": "", "label:sick": list("0101010101")})
    roles, none = np.array(["test", "test", *["train"] * 8]), np.zeros(10, bool)
    assert serves(table, ["sick"], roles, 0.2, none)
    assert not serves(table, ["sick"], roles, 0.2, roles == "test")
    assert not serves(table, ["sick"], np.where(np.arange(10) == 1, "train", roles), 0.2, none), "no test patient has a 1"
    assert not serves(table, ["sick"], np.where(table["label:sick"] == "1", "test", "train"), 0.2, none), "nobody in training has a 1"
    assert not serves(table, ["sick"], roles, 0.5, none)


def test_patients_linked_to_a_seen_picture_or_study_are_not_tested_and_seen_flat_images_accuse_nobody() -> None:
    table = pd.DataFrame({"patient": list("abcdef"), "split": "", "study": ["s", "s", "", "", "", ""], "perceptual_hash": "1"})
    table["pixel_hash"] = ["1", "2", "3", "3", "flat", "flat"]
    table.loc[4:, "perceptual_hash"] = "0" * 16
    seen = np.array([True, False, True, False, True, False])
    roles = assign_roles(table, "", 0, 0.5, seen)
    assert set(roles[:4]) == {"train"}, "b shares a study with a, d a picture with c"
    seen[5] = True  # the flat picture of e is that of f
    assert assign_roles(table, "", 0, 0.9, seen).tolist() == [*["train"] * 4, "", ""]


def test_where_a_class_was_seen_whole_the_message_says_what_can_be_done() -> None:
    table = pd.DataFrame(
        {"patient": [f"{i:032x}"[::-1] for i in range(20)], "pixel_hash": [f"{i:032x}"[::-1] for i in range(20)], "split": ""}
    )
    table["label:label"] = ["sick"] * 5 + ["well"] * 10 + [""] * 5
    card = {"pretraining": {"patients": sorted(key[:16] for key in table["patient"][:10]), "pixels": []}}
    roles = assign_roles(table, "label", 0, 0.2, Seen.by(card, table).rows)
    assert set(roles[:10]) == {"train"} and "test" in roles[10:15]
    with pytest.raises(UserError, match=r"'sick' of 'label' \(5 patients\).*has 5 without a label.*pretrain again.*data\.leaks=allow"):
        refuse_untestable(card, table, ["label"], roles)
    refuse_untestable(card, table.iloc[5:], ["label"], roles[5:])
