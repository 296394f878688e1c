"""What stands on more than one side of train, val and test: patients, studies, equal and nearly equal pictures; and what to do about it.

A pair names a row of the store's table on the weaker side (train, then val) and one on the stronger (val, then test): the first is the
image that must not be learnt from. A flat image (nothing but one grey level, as an empty slice at the end of a volume) is no evidence.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from medssl.data.split import near_duplicates
from medssl.errors import UserError
from medssl.types import SPLITS

Pairs = Int[np.ndarray, "pairs 2"]
FLAT = "0" * 16  # the perceptual hash of a flat image
_COMPARED = 2_000_000_000  # pairs of images: 112,000 images with a fifth of them in the test; seconds for the hashes


@dataclass(frozen=True)
class Leaks:
    """Pairs of rows (weaker side, stronger side): of one `patients`, of one `studies` under several patients' keys, of equal `pixels`,
    `near` duplicates. `contradictions`: rows of equal pixels, on any side, whose labels differ. `flat`: rows on a weaker side that are
    flat and equal to an image on a stronger one. `unsearched`: images of val and test, of large data, whose near duplicates nobody
    looked for."""

    patients: Pairs
    studies: Pairs
    pixels: Pairs
    near: Pairs
    contradictions: Pairs
    flat: Int[np.ndarray, " rows"]
    unsearched: int = 0

    @property
    def certain(self) -> bool:
        """Whether patients, studies or equal pixels stand on several sides; near duplicates are likely only."""
        return any(map(len, (self.patients, self.studies, self.pixels)))

    @property
    def rows(self) -> Int[np.ndarray, " rows"]:
        """The rows that must not be learnt from, ascending. Near duplicates are not among them: they may be two pictures after all."""
        return np.unique(np.concatenate([self.patients[:, 0], self.studies[:, 0], self.pixels[:, 0]]))

    def counts(self) -> dict[str, int]:
        """Patients and studies on several sides, images equal or nearly equal to one on a stronger side, contradicting images."""
        groups = {name: len(np.unique(getattr(self, name)[:, 1])) for name in ("patients", "studies")}
        return groups | {name: len(np.unique(getattr(self, name)[:, 0])) for name in ("pixels", "near", "contradictions")}

    def sentences(self) -> list[str]:
        """For a person: counts and the first pair of rows, never a name."""
        what = {
            "patients": "patients stand on several sides of train, val and test",
            "studies": "studies stand on several sides, under several patients",
            "pixels": "images have the very pixels of an image on another side",
            "near": "images are near duplicates of an image on another side",
            "contradictions": "images have the very pixels of an image with another label",
        }
        counts = self.counts()
        firsts = {name: getattr(self, name)[0] for name in what if counts[name]}
        found = [f"{counts[name]} {what[name]} (rows {first[0]} and {first[1]} of the table)" for name, first in firsts.items()]
        if self.unsearched:
            found.append(f"near duplicates of {self.unsearched} images of val and test were not looked for, as there are too many")
        return found


def find(table: pd.DataFrame, images: np.ndarray, roles: Shaped[np.ndarray, " rows"]) -> Leaks:
    """What leaks between the sides that `roles` ("train", "val", "test", or "" for none) gives the rows of a store's table.

    `images`: the store's; read where a perceptual hash is close to another's.
    """
    sides, none = np.select([roles == role for role in SPLITS], [0, 1, 2], -1), np.empty((0, 2), np.int64)
    flat = flat_rows(table)
    if sides.max(initial=-1) <= 0:  # nothing stands on a stronger side
        return Leaks(none, none, none, none, _contradictions(table, flat), none[:, 0])
    pixels = _torn(table["pixel_hash"].to_numpy(str), sides)
    patients = _torn(table["patient"].to_numpy(str), sides)
    studies = _torn(table["study"].to_numpy(str), sides) if "study" in table else patients[:0]
    near, unsearched = _near(table, images, sides)
    return Leaks(
        patients,
        studies[~np.isin(studies[:, 0], patients[:, 0])],
        pixels[~flat[pixels[:, 0]]],
        near,
        _contradictions(table, flat),
        pixels[flat[pixels[:, 0]], 0],
        unsearched,
    )


def settled(found: Leaks, roles: Shaped[np.ndarray, " rows"], policy: str) -> Shaped[np.ndarray, " rows"]:
    """`roles` after the policy `data.leaks`: "drop" takes the rows concerned out of train and val (role ""). Flat copies go always.

    Raises UserError with policy "refuse" where patients, studies or equal pixels stand on several sides.
    """
    if policy == "refuse" and found.certain:
        raise UserError(
            f"The split that comes with the data leaks: {'; '.join(found.sentences())}. The result would be too good. Correct the split, "
            "or take it out of the data, and patients will be split here; or leave these images out of training: --set data.leaks=drop. "
            "--set data.leaks=allow goes on with them and says so in the encoder's card."
        )
    out = np.union1d(found.flat, found.rows) if policy == "drop" else found.flat
    settled = roles.copy()
    settled[out] = ""
    return settled


def flat_rows(table: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
    """Which images have one grey level only, as far as the table says."""
    return table["perceptual_hash"].to_numpy(str) == FLAT if "perceptual_hash" in table else np.zeros(len(table), bool)


def _torn(keys: Shaped[np.ndarray, " rows"], sides: Int[np.ndarray, " rows"]) -> Pairs:
    """Each row whose key also stands on a stronger side, with the first row that has it on the strongest."""
    rows = np.flatnonzero((keys != "") & (sides >= 0))
    names, group = np.unique(keys[rows], return_inverse=True)
    order = np.lexsort((-rows, sides[rows], group))  # in each group the strongest side, and its first row, come last
    last = order[np.searchsorted(group[order], np.arange(len(names)), "right") - 1]
    strongest = rows[last][group]
    return np.stack([rows, strongest], axis=1)[sides[rows] < sides[strongest]]


def _near(table: pd.DataFrame, images: np.ndarray, sides: Int[np.ndarray, " rows"]) -> tuple[Pairs, int]:
    """Near duplicates between sides that are not equal to the bit; and the number of rows of val and test that were left out, evenly
    spread, so that no more than _COMPARED pairs are looked at."""
    if "perceptual_hash" not in table:
        return np.empty((0, 2), np.int64), 0
    hashes = np.array([int(text or "0", 16) for text in table["perceptual_hash"]], np.uint64)
    pixels = table["pixel_hash"].to_numpy(str)
    weaker, every = np.flatnonzero((sides == 0) | (sides == 1)), np.flatnonzero(sides > 0)
    stronger = every[np.linspace(0, len(every) - 1, min(len(every), _COMPARED // max(1, len(weaker)))).astype(int)]
    candidates = (
        np.stack([weaker[a], stronger[b]], axis=1) for a, b in (block.T for block in near_duplicates.near(hashes[weaker], hashes[stronger]))
    )
    across = (pairs[(sides[pairs[:, 0]] < sides[pairs[:, 1]]) & (pixels[pairs[:, 0]] != pixels[pairs[:, 1]])] for pairs in candidates)
    found = near_duplicates.confirmed(images, across)
    return found[np.lexsort((found[:, 1], found[:, 0]))], len(every) - len(stronger)


def _contradictions(table: pd.DataFrame, flat: Bool[np.ndarray, " rows"]) -> Pairs:
    """Each row whose label, in any column, is not that of the first labelled row with its pixels."""
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
