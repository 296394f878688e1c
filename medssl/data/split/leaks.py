"""Leaks: patients, studies, equal images and near duplicates that are in more than one of train, val and test, and how they are treated.

The splits have ranks: val is higher than train, and test is higher than val. A pair is (row in the lower split, row in the higher split)
of the store's table; the first one is the image that must not be used for training. Flat images (of one grey level, such as empty slices
at the end of a volume) are equal without being a leak.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from medssl.data.split import near_duplicates
from medssl.data.store import StoredVolumes
from medssl.errors import UserError
from medssl.types import SPLITS

Pairs = Int[np.ndarray, "pairs 2"]
FLAT = "0" * 16  # the perceptual hash of a flat image
_COMPARED = 2_000_000_000  # the most pairs of images that are compared: 112,000 images with a fifth of them in test; takes seconds


@dataclass(frozen=True)
class Leaks:
    """Pairs of rows (lower split, higher split): of one patient (`patients`), of one study under several patients' keys (`studies`), with
    equal pixels (`pixels`), and near duplicates (`near`). `contradictions`: pairs of rows with equal pixels, in any split, whose labels
    differ. `flat`: rows of flat images that equal an image of a higher split. `unsearched`: the number of val and test images that were not
    compared, as there are too many images."""

    patients: Pairs
    studies: Pairs
    pixels: Pairs
    near: Pairs
    contradictions: Pairs
    flat: Int[np.ndarray, " rows"]
    unsearched: int = 0

    @property
    def certain(self) -> bool:
        """Whether patients, studies or equal pixels are in several splits. Near duplicates do not count: they may be different images."""
        return any(map(len, (self.patients, self.studies, self.pixels)))

    @property
    def rows(self) -> Int[np.ndarray, " rows"]:
        """The rows that must not be used for training, ascending; near duplicates are not among them."""
        return np.unique(np.concatenate([self.patients[:, 0], self.studies[:, 0], self.pixels[:, 0]]))

    def counts(self) -> dict[str, int]:
        """The number of patients and studies in several splits, of images that equal or nearly equal an image of a higher split, and of
        images whose label contradicts that of an equal image."""
        groups = {name: len(np.unique(getattr(self, name)[:, 1])) for name in ("patients", "studies")}
        return groups | {name: len(np.unique(getattr(self, name)[:, 0])) for name in ("pixels", "near", "contradictions")}

    def sentences(self, images: str = "images") -> list[str]:
        """The leaks as sentences for a person: counts and the first pair of rows, without any name. `images`: what the rows are."""
        descriptions = {
            "patients": "patients are in more than one of train, val and test",
            "studies": "studies are in more than one of train, val and test, under several patients",
            "pixels": f"{images} have the same pixels as one of another split",
            "near": f"{images} are near duplicates of one of another split",
            "contradictions": f"{images} have the same pixels as one with another label",
        }
        counts = self.counts()
        firsts = {name: getattr(self, name)[0] for name in descriptions if counts[name]}
        found = [f"{counts[name]} {descriptions[name]} (rows {first[0]} and {first[1]} of the table)" for name, first in firsts.items()]
        if self.unsearched:
            found.append(f"near duplicates of {self.unsearched} images of val and test were not searched: there are too many images")
        return found


def find_leaks(table: pd.DataFrame, images: np.ndarray | StoredVolumes, roles: Shaped[np.ndarray, " rows"]) -> Leaks:
    """The leaks between the splits of the rows of a store's table. `roles`: for each row "train", "val", "test", or "" for no split.

    `images`: the images of the store, [N, C, H, W] or [N, C, D, H, W]. Only images whose perceptual hash is close to that of another image
    are read.
    """
    ranks, none = np.select([roles == role for role in SPLITS], [0, 1, 2], -1), np.empty((0, 2), np.int64)
    flat = flat_rows(table)
    if ranks.max(initial=-1) <= 0:  # there is no row in val or test
        return Leaks(none, none, none, none, _contradictions(table, flat), none[:, 0])
    pixels = _pairs_across_splits(table["pixel_hash"].to_numpy(str), ranks)
    patients = _pairs_across_splits(table["patient"].to_numpy(str), ranks)
    studies = _pairs_across_splits(table["study"].to_numpy(str), ranks) if "study" in table else patients[:0]
    near, unsearched = _near_duplicates(table, images, ranks)
    return Leaks(
        patients,
        studies[~np.isin(studies[:, 0], patients[:, 0])],
        pixels[~flat[pixels[:, 0]]],
        near,
        _contradictions(table, flat),
        pixels[flat[pixels[:, 0]], 0],
        unsearched,
    )


def apply_leak_policy(found: Leaks, roles: Shaped[np.ndarray, " rows"], policy: str) -> Shaped[np.ndarray, " rows"]:
    """`roles` after the policy `data.leaks`: "drop" gives the role "" to the rows of train and val that leak. Flat copies always get it.

    Raises UserError with policy "refuse" where patients, studies or equal pixels are in several splits.
    """
    if policy == "refuse" and found.certain:
        raise UserError(
            f"The split that comes with the data leaks: {'; '.join(found.sentences())}. The result would be too good. Correct the split, "
            "or take it out of the data, and patients will be split here; or leave these images out of training: --set data.leaks=drop. "
            "--set data.leaks=allow goes on with them and says so in the encoder's card."
        )
    out = np.union1d(found.flat, found.rows) if policy == "drop" else found.flat
    kept = roles.copy()
    kept[out] = ""
    return kept


def flat_rows(table: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
    """For each row whether its image has only one grey level, by the table's perceptual hash."""
    return table["perceptual_hash"].to_numpy(str) == FLAT if "perceptual_hash" in table else np.zeros(len(table), bool)


def _pairs_across_splits(keys: Shaped[np.ndarray, " rows"], ranks: Int[np.ndarray, " rows"]) -> Pairs:
    """Each row whose key is also in a higher split, paired with the first row of that key in the highest split that has it."""
    rows = np.flatnonzero((keys != "") & (ranks >= 0))
    names, group = np.unique(keys[rows], return_inverse=True)
    order = np.lexsort((-rows, ranks[rows], group))  # in each group the highest split, and its first row, come last
    last = order[np.searchsorted(group[order], np.arange(len(names)), "right") - 1]
    highest = rows[last][group]
    return np.stack([rows, highest], axis=1)[ranks[rows] < ranks[highest]]


def _near_duplicates(table: pd.DataFrame, images: np.ndarray | StoredVolumes, ranks: Int[np.ndarray, " rows"]) -> tuple[Pairs, int]:
    """Pairs of near duplicates between splits, without equal pixels; and the number of rows of val and test that were not compared. Those
    rows are evenly spaced, and so many that at most _COMPARED pairs remain."""
    if "perceptual_hash" not in table:
        return np.empty((0, 2), np.int64), 0
    hashes = np.array([int(text or "0", 16) for text in table["perceptual_hash"]], np.uint64)
    pixels = table["pixel_hash"].to_numpy(str)
    lower, val_and_test = np.flatnonzero((ranks == 0) | (ranks == 1)), np.flatnonzero(ranks > 0)
    higher = val_and_test[np.linspace(0, len(val_and_test) - 1, min(len(val_and_test), _COMPARED // max(1, len(lower)))).astype(int)]
    blocks = near_duplicates.near_pairs(hashes[lower], hashes[higher])
    candidates = (np.stack([lower[a], higher[b]], axis=1) for a, b in (block.T for block in blocks))
    across = (pairs[(ranks[pairs[:, 0]] < ranks[pairs[:, 1]]) & (pixels[pairs[:, 0]] != pixels[pairs[:, 1]])] for pairs in candidates)
    found = near_duplicates.confirm_pairs(images, across)
    return found[np.lexsort((found[:, 1], found[:, 0]))], len(val_and_test) - len(higher)


def _contradictions(table: pd.DataFrame, flat: Bool[np.ndarray, " rows"]) -> Pairs:
    """Pairs of rows with equal pixels: the first labelled row with these pixels, and a row whose label differs from it, in any column."""
    found = [np.empty((0, 2), np.int64)]
    pixels = table["pixel_hash"].to_numpy(str)
    repeated = table["pixel_hash"].duplicated(keep=False).to_numpy() & ~flat
    for column in (name for name in table.columns if str(name).startswith("label:")):
        labels = table[column].to_numpy(str)
        rows = np.flatnonzero(repeated & (labels != ""))
        _, first, group = np.unique(pixels[rows], return_index=True, return_inverse=True)
        earlier = rows[first][group]
        found.append(np.stack([earlier, rows], axis=1)[labels[rows] != labels[earlier]])
    return np.unique(np.concatenate(found), axis=0)
