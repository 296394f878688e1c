"""What the columns of a table mean: roles are found by name, whatever the case, spaces and underscores, or as the user maps them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.config import PluginConfig
from medssl.errors import UserError, nearest

# role -> the names that it goes by, with everything but letters and digits taken out
_NAMES = {
    "path": "path image imagepath imagefile imagefilename imageindex imagename img imgpath file filename filepath dicompath",
    "patient": "patient patientid patientkey subject subjectid pid mrn",
    "study": "study studyid studyuid studyinstanceuid exam examid accession accessionnumber",
    "site": "site siteid hospital institution institutionname centre center",
    "split": "split subset partition",
    "label": "label labels class classname category finding findings findinglabels target diagnosis",
    "sex": "sex gender patientsex patientgender",
    "age": "age patientage",
    "view": "view viewposition projection",
    "scanner": "scanner scannerid manufacturer",
}
_SPLITS = {
    name: split
    for split, known in {"train": "train training", "val": "val valid validation dev", "test": "test testing"}.items()
    for name in known.split()
}


class TableConfig(PluginConfig):
    """`columns`: which column plays a role (path, patient, study, site, split, label, sex, age, view, scanner) where its name does
    not say so, as in {patient: case_number}. `labels`: columns kept as labels beside those named label*."""

    columns: Mapping[str, str] = {}
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """The positions of the columns that play a role, and of further label columns under their own names."""

    roles: Mapping[str, int]
    labels: Mapping[str, int]


def squeezed(name: str) -> str:
    """Lower-case letters and digits only: "Patient ID" and "patient_id" are one name."""
    return re.sub(r"[\W_]+", "", name.casefold())


def split_named(name: str) -> str | None:
    """ "train", "val" or "test" where `name` is one of its usual spellings."""
    return _SPLITS.get(squeezed(name))


def understood(header: Sequence[str], config: TableConfig, file: Path) -> Columns:
    """The roles that the columns of `file` play. Raises UserError for a mapping to no column and for a role that several columns claim."""
    for role in config.columns:
        if role not in _NAMES:
            raise UserError(f"columns: {role!r} is no role of a column. {nearest(role, _NAMES)}")
    roles = {}
    for role in _NAMES:
        column = config.columns.get(role) or _claimed(header, role, config, file)
        if column:
            roles[role] = _position(header, column, file)
    labels = {name: _position(header, name, file) for name in config.labels}
    labels |= {name: n for n, name in enumerate(header) if squeezed(name).startswith("label") and n not in roles.values()}
    return Columns(roles, labels)


def _position(header: Sequence[str], column: str, file: Path) -> int:
    if column not in header:
        raise UserError(f"{file} has no column {column!r}. {nearest(column, header)}")
    return list(header).index(column)


def _claimed(header: Sequence[str], role: str, config: TableConfig, file: Path) -> str | None:
    taken = {*config.columns.values(), *config.labels}
    claims = [name for name in header if squeezed(name) in _NAMES[role].split() and name not in taken]
    exact = [name for name in claims if squeezed(name) == role]
    if len(claims) > 1 and len(exact) != 1:
        raise UserError(
            f"{file}: the columns {', '.join(claims)} could all be the {role}. Say which with --set data.source.columns.{role}={claims[0]}"
        )
    return (exact or claims or [None])[0]
