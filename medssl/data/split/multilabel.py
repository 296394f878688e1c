"""Drawing label fractions where an image has several labels: any number of selected patients has each label at about its share in the data.

This is iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML 2011) as an order of patients, so a smaller fraction is a part of
every larger one. Each label counts as two, present and absent. A label may be unknown; a patient with both, in different images, counts as
present.

    first   for each label that no selected patient has, rarest label first: the first patient in the order of hashes with that label
    then    repeated: the first patient with the label whose number is farthest below its share

The order of hashes is that of `assignment.rank_patients`: by sha256("draw", seed, draw, patient).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Shaped

from medssl.data.split.assignment import rank_patients
from medssl.data.split.label_fractions import LabelFraction, raise_too_small
from medssl.errors import UserError

PatientHas = Bool[np.ndarray, "p l"]


def draw_multilabel(
    patients: Shaped[np.ndarray, " rows"], y: Int[np.ndarray, "rows k"], names: Sequence[str], wanted: LabelFraction, draw: int, seed: int
) -> Int[np.ndarray, " drawn"]:
    """The positions, ascending, of the rows of the patients that draw number `draw` of the fraction `wanted` selects. `y`: for each row and
    label 1 (present), 0 (absent) or -1 (unknown). `names`: of the labels.

    n shots are n patients with and n patients without each label. Raises UserError where a fraction is too small to have each label
    present once and absent once, or where a label has fewer patients than shots.
    """
    ranked = np.array(rank_patients(np.unique(patients).tolist(), "draw", seed, draw))
    index = np.argsort(ranked)[np.searchsorted(np.sort(ranked), patients)]
    present = np.zeros((len(ranked), y.shape[1]), dtype=bool)
    absent = present.copy()
    np.logical_or.at(present, index, y == 1)
    np.logical_or.at(absent, index, y == 0)
    patient_has = np.concatenate([present, absent & ~present], axis=1)
    if wanted.shots is not None:
        _check_shots(wanted, names, patient_has)
        selected = _select_shots(patient_has, wanted.shots)
    else:
        first, number = _select_shots(patient_has, 1), wanted.of(len(ranked))
        if number < len(first):
            raise_too_small(wanted, len(ranked), len(first), "less than it takes for each label to be present and absent once")
        selected = _add_patients(patient_has, first, number)
    return np.flatnonzero(np.isin(index, selected))


def _select_shots(patient_has: PatientHas, number: int) -> list[int]:
    """Patients, until `number` of them have each label; the rarest label comes first. `patient_has`: [patients, 2 * labels], present and
    absent."""
    selected: list[int] = []
    for label in np.argsort(patient_has.sum(0), kind="stable"):
        members = np.flatnonzero(patient_has[:, label])
        missing = number - int(patient_has[selected, label].sum())
        selected += [p for p in members.tolist() if p not in selected][: max(0, missing)]
    return selected


def _add_patients(patient_has: PatientHas, selected: list[int], number: int) -> list[int]:
    """`selected` and more patients, `number` in all. Each is the first free patient with the label whose number is farthest below its
    share."""
    free = np.ones(len(patient_has), dtype=bool)
    free[selected] = False
    shares = patient_has.sum(0) / len(patient_has)
    selected_counts, free_counts = patient_has[selected].sum(0), patient_has[free].sum(0)
    next_free = np.zeros(patient_has.shape[1], dtype=int)
    order = [np.flatnonzero(column) for column in patient_has.T]
    result = list(selected)
    while len(result) < number:
        lag = np.where(free_counts > 0, shares * (len(result) + 1) - selected_counts, -np.inf)
        label = int(lag.argmax())
        if free_counts[label] == 0:  # the remaining patients have no known label
            result += np.flatnonzero(free)[: number - len(result)].tolist()
            break
        while not free[patient := order[label][next_free[label]]]:
            next_free[label] += 1
        free[patient] = False
        selected_counts, free_counts = selected_counts + patient_has[patient], free_counts - patient_has[patient]
        result.append(int(patient))
    return result


def _check_shots(wanted: LabelFraction, names: Sequence[str], patient_has: PatientHas) -> None:
    counts = dict(zip([*names, *(f"no {name}" for name in names)], patient_has.sum(0).tolist(), strict=True))
    scarce = min(counts, key=counts.__getitem__)
    if (wanted.shots or 0) > counts[scarce]:
        raise UserError(
            f"--labels {wanted}: of {scarce!r} there are {counts[scarce]} labelled training patients. The largest that works is "
            f"{counts[scarce]}shot; or leave that label out with --label NAME,NAME."
        )
