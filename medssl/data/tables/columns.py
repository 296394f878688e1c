"""The roles of a table's columns, such as path, patient or label. A role is found by the column's name, in any spelling of case, spaces
and underscores, or by the user's configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from medssl.config import PluginConfig
from medssl.errors import UserError, suggest

# role -> the names of columns that have it, in lower-case letters and digits only
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
    for split, spellings in {"train": "train training", "val": "val valid validation dev", "test": "test testing"}.items()
    for name in spellings.split()
}
_CHEXPERT = ("Path", "Frontal/Lateral", "AP/PA")  # the columns after the last of them are findings


class TableConfig(PluginConfig):
    """The options of a source with a table."""

    columns: Mapping[str, str] = Field(
        default={},
        description="The column of a role (path, patient, study, site, split, sex, age, view, scanner) whose name does not show it, as in "
        "{patient: case_number}.",
    )
    labels: tuple[str, ...] = Field(
        default=(),
        description="More columns that are read as labels; those of data.label (finetune --label) always are.",
    )
    uncertain: Literal["missing", "positive", "negative"] = Field(
        default="missing", description="What a finding marked -1 in CheXpert's tables counts as."
    )
    unmentioned: Literal["negative", "missing"] = Field(
        default="negative", description="What an empty cell in CheXpert's tables counts as."
    )


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions of columns: `roles` of those with a role, `labels` of further label columns, `marked` of columns for one finding each,
    whose cells are 1, 0, -1 or empty, as in CheXpert's tables."""

    roles: Mapping[str, int]
    labels: Mapping[str, int]
    marked: Mapping[str, int]


def normalise_name(name: str) -> str:
    """Lower-case letters and digits only: "Patient ID" and "patient_id" are one name."""
    return re.sub(r"[\W_]+", "", name.casefold())


def parse_split(name: str) -> str | None:
    """ "train", "val" or "test" where `name` is one of their usual spellings, else None."""
    return _SPLITS.get(normalise_name(name))


def find_columns(header: list[str], config: TableConfig, name: str) -> Columns:
    """The roles of the columns of the table `name`. Where several columns could be the label, all are labels under their own names.

    Raises UserError where the configuration names an unknown role or a missing column, and where several columns could have another role.
    """
    for role in config.columns:
        if role not in _NAMES:
            raise UserError(f"columns: {role!r} is no role of a column. {suggest(role, _NAMES)}")
    roles, labels = {}, {column: header.index(column) for column in config.labels if column in header}
    for role in _NAMES:
        columns = [config.columns[role]] if role in config.columns else _find_candidates(header, role, config)
        if len(columns) > 1 and role == "label":
            labels |= {column: header.index(column) for column in columns}
        elif len(columns) > 1:
            raise UserError(
                f"{name}: the columns {', '.join(columns)} could all be the {role}. "
                f"Choose one with --set data.source.columns.{role}={columns[0]}"
            )
        elif columns:
            roles[role] = _position(header, columns[0], name)
    labels |= {column: n for n, column in enumerate(header) if normalise_name(column).startswith("label") and n not in roles.values()}
    findings = header.index(_CHEXPERT[-1]) + 1 if set(_CHEXPERT) <= set(header) else len(header)
    marked = {column: n for n, column in enumerate(header) if n >= findings and n not in {*roles.values(), *labels.values()}}
    return Columns(roles, labels, marked)


def _position(header: list[str], column: str, name: str) -> int:
    if column not in header:
        raise UserError(f"{name} has no column {column!r}. {suggest(column, header)}")
    return header.index(column)


def _find_candidates(header: list[str], role: str, config: TableConfig) -> list[str]:
    """The columns whose names show the role; only the one that is called like the role, where there is one."""
    candidates = [column for column in header if normalise_name(column) in _NAMES[role].split() and column not in config.columns.values()]
    exact = [column for column in candidates if normalise_name(column) == role]
    return exact if len(exact) == 1 else candidates
