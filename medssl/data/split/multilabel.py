"""A draw of label fractions where an image has several labels: patients in one order whose every beginning has each label in its share.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML 2011), turned into an order so that a smaller fraction lies inside every
larger one. Every label counts twice, as present and as absent, and may be neither (not known); a patient with both counts as present.

    first   for each label that no patient taken so far has, rarest first, the first patient in the order of hashes who has it
    then    again and again the first patient who has the label that is farthest behind its share

The order of hashes is that of `split`: of sha256("draw", seed, draw, patient).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Shaped

from medssl.data.split.assignment import rank_patients
from medssl.data.split.label_fractions import LabelFraction, raise_too_small
from medssl.errors import UserError

Has = Bool[np.ndarray, "p l"]


def draw_multilabel(
    patients: Shaped[np.ndarray, " rows"], y: Int[np.ndarray, "rows k"], names: Sequence[str], wanted: LabelFraction, draw: int, seed: int
) -> Int[np.ndarray, " drawn"]:
    """The positions, ascending, of the rows of the patients that number `draw` of `wanted` takes. `y`: 1, 0, and -1 for not known.

    Shots are patients with and patients without each label. Raises UserError where a fraction is too small for every label to be there
    once present and once absent, or where a label has fewer patients than shots.
    """
    who = np.array(rank_patients(np.unique(patients).tolist(), "draw", seed, draw))
    index = np.argsort(who)[np.searchsorted(np.sort(who), patients)]
    present = np.zeros((len(who), y.shape[1]), dtype=bool)
    absent = present.copy()
    np.logical_or.at(present, index, y == 1)
    np.logical_or.at(absent, index, y == 0)
    has = np.concatenate([present, absent & ~present], axis=1)
    if wanted.shots is not None:
        _check_shots(wanted, names, has)
        taken = _each(has, wanted.shots)
    else:
        first, number = _each(has, 1), wanted.of(len(who))
        if number < len(first):
            raise_too_small(wanted, len(who), len(first), "less than it takes for each label to be present and absent once")
        taken = _filled(has, first, number)
    return np.flatnonzero(np.isin(index, taken))


def _each(has: Has, number: int) -> list[int]:
    """Patients until each label has `number` of them, rarest first."""
    taken: list[int] = []
    for label in np.argsort(has.sum(0), kind="stable"):
        members = np.flatnonzero(has[:, label])
        missing = number - int(has[taken, label].sum())
        taken += [p for p in members.tolist() if p not in taken][: max(0, missing)]
    return taken


def _filled(has: Has, taken: list[int], number: int) -> list[int]:
    """`taken` and more patients up to `number`, each the first who has the label that is farthest behind its share."""
    free = np.ones(len(has), dtype=bool)
    free[taken] = False
    behind = has.sum(0) / len(has)
    have, left, next_free = has[taken].sum(0), has[free].sum(0), np.zeros(has.shape[1], dtype=int)
    order = [np.flatnonzero(column) for column in has.T]
    result = list(taken)
    while len(result) < number:
        lag = np.where(left > 0, behind * (len(result) + 1) - have, -np.inf)
        label = int(lag.argmax())
        if left[label] == 0:  # who is left has no known label
            result += np.flatnonzero(free)[: number - len(result)].tolist()
            break
        while not free[patient := order[label][next_free[label]]]:
            next_free[label] += 1
        free[patient] = False
        have, left = have + has[patient], left - has[patient]
        result.append(int(patient))
    return result


def _check_shots(wanted: LabelFraction, names: Sequence[str], has: Has) -> None:
    counts = dict(zip([*names, *(f"no {name}" for name in names)], has.sum(0).tolist(), strict=True))
    scarce = min(counts, key=counts.__getitem__)
    if (wanted.shots or 0) > counts[scarce]:
        raise UserError(
            f"--labels {wanted}: of {scarce!r} there are {counts[scarce]} labelled training patients. The largest that works is "
            f"{counts[scarce]}shot; or leave that label out with --set data.label=NAME,NAME."
        )
