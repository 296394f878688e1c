"""What the columns of a table mean: roles are found by name, whatever the case, spaces and underscores, or as the user maps them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medssl.config import PluginConfig
from medssl.errors import UserError, suggest

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
    "view": "view viewposition projection frontallateral",
    "scanner": "scanner scannerid manufacturer",
}
_SPLITS = {
    name: split
    for split, known in {"train": "train training", "val": "val valid validation dev", "test": "test testing"}.items()
    for name in known.split()
}
_CHEXPERT = ("Path", "Frontal/Lateral", "AP/PA")  # the columns after the last of them are findings


class TableConfig(PluginConfig):
    """`columns`: which column plays a role (path, patient, study, site, split, label, sex, age, view, scanner) where its name does
    not say so, as in {patient: case_number}. `labels`: columns kept as labels beside those named label*. In a table of CheXpert's,
    `uncertain`: what a finding marked -1 counts as, `unmentioned`: what an empty cell does (negative, as in its paper)."""

    columns: Mapping[str, str] = {}
    labels: tuple[str, ...] = ()
    uncertain: Literal["missing", "positive", "negative"] = "missing"
    unmentioned: Literal["negative", "missing"] = "negative"


@dataclass(frozen=True, slots=True)
class Columns:
    """The positions of the columns that play a role, of further label columns under their own names, and of findings that are marked
    1, 0, -1 or left empty, as in CheXpert's tables."""

    roles: Mapping[str, int]
    labels: Mapping[str, int]
    marked: Mapping[str, int]


def normalise_name(name: str) -> str:
    """Lower-case letters and digits only: "Patient ID" and "patient_id" are one name."""
    return re.sub(r"[\W_]+", "", name.casefold())


def parse_split(name: str) -> str | None:
    """ "train", "val" or "test" where `name` is one of its usual spellings."""
    return _SPLITS.get(normalise_name(name))


def find_columns(header: list[str], config: TableConfig, name: str) -> Columns:
    """The roles that the columns of the table `name` play. Raises UserError for a mapping to no column and for a role that several columns
    claim."""
    for role in config.columns:
        if role not in _NAMES:
            raise UserError(f"columns: {role!r} is no role of a column. {suggest(role, _NAMES)}")
    roles = {}
    for role in _NAMES:
        column = config.columns.get(role) or _claimed(header, role, config, name)
        if column:
            roles[role] = _position(header, column, name)
    labels = {column: _position(header, column, name) for column in config.labels}
    labels |= {column: n for n, column in enumerate(header) if normalise_name(column).startswith("label") and n not in roles.values()}
    findings = header.index(_CHEXPERT[-1]) + 1 if set(_CHEXPERT) <= set(header) else len(header)
    marked = {column: n for n, column in enumerate(header) if n >= findings and n not in {*roles.values(), *labels.values()}}
    return Columns(roles, labels, marked)


def _position(header: list[str], column: str, name: str) -> int:
    if column not in header:
        raise UserError(f"{name} has no column {column!r}. {suggest(column, header)}")
    return header.index(column)


def _claimed(header: list[str], role: str, config: TableConfig, name: str) -> str | None:
    taken = {*config.columns.values(), *config.labels}
    claims = [column for column in header if normalise_name(column) in _NAMES[role].split() and column not in taken]
    exact = [column for column in claims if normalise_name(column) == role]
    if len(claims) > 1 and len(exact) != 1:
        raise UserError(
            f"{name}: the columns {', '.join(claims)} could all be the {role}. Say which with --set data.source.columns.{role}={claims[0]}"
        )
    return (exact or claims or [None])[0]
