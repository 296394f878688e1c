"""The roles of a table's columns, such as patient or label. A role is found by the column's name, in any spelling of case, spaces and
underscores, or by the user's configuration."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, field_validator

from medssl.config import PluginConfig
from medssl.errors import UserError, suggest

# role -> the names of columns that have it, in lower-case letters and digits only; in English, and the usual German, French, Spanish,
# Italian and Portuguese ones
_NAMES = {
    "path": "path image imagepath imagefile imagefilename imageindex imagename imageid imageuid img imgpath imgid imgname file filename "
    "filepath fileid filenames dicompath dicomid dicom idcode isicid isic sopinstanceuid sopuid instanceuid scanid scan scanfile xrayid "
    "bild bilddatei datei dateiname fichier nomfichier imagen archivo immagine imagem arquivo",
    "patient": "patient patientid patientkey patientuid subject subjectid subjectkey participant participantid person personid pid mrn "
    "medicalrecordnumber patienten paciente pacienteid idpaciente paziente idpaziente",
    "study": "study studyid studyuid studykey studyinstanceuid exam examid examination examinationid accession accessionnumber "
    "untersuchung untersuchungsnummer",
    "site": "site siteid hospital institution institutionname centre center",
    "split": "split subset partition",
    "label": "label labels class classname classlabel labelname category finding findings findinglabel findinglabels target diagnosis dx "
    "grade group outcome pathology severity disease condition abnormality malignancy "
    "befund diagnose klasse diagnostic diagnostico diagnóstico diagnosi classe clase etiqueta étiquette",
    "sex": "sex gender patientsex patientgender patientsexdicom geschlecht sexe sexo sesso",
    "age": "age patientage ageyears ageapprox alter âge edad idade età",
    "view": "view viewposition projection frontallateral",
    "scanner": "scanner scannerid manufacturer",
    "sequence": "",  # of an examination (data.sequences); a column that is only called so may number images
}
_ROLE_OF = {name: role for role, names in _NAMES.items() for name in names.split()}
_OF_PATIENT = re.compile(r"(pat|patient|patienten|subject|participant|person)(id|nr|no|num|number|nummer|code|key|name|identifier)")
# what images have in common as those of one patient do, where a table has no patient
_GROUPS = ("fallnummer", "lesionid", "lesion", "caseid", "case", "familyid", "animalid", "donorid", "specimenid")
# columns of two values that say nothing of what is to be learnt
_OTHER_NAMES = (
    "male female ismale isfemale fold kfold cv index row offset followup frontal lateral appa isfrontal smoker smoking portable intubated "
    "laterality side eye train test valid istrain istest isvalid unnamed0 study series id survival masked hasmask"
)
_NO_LABELS = set(_OTHER_NAMES.split())
_READER_NAMES = "radid reader readerid rater raterid radiologist radiologistid annotator annotatorid grader graderid observer"
_READERS = set(_READER_NAMES.split())
_BOX = re.compile(r"(bbox|box)?(x|y|xmin|ymin|xmax|ymax|x1|y1|x2|y2|w|h|width|height)|bbox.*|box.*")
_FOLDERS = {"folder", "foldername", "folderpath", "directory", "dir", "ordner"}
_SPLITS = {
    name: split
    for split, spellings in {"train": "train training", "val": "val valid validation validate dev", "test": "test testing"}.items()
    for name in spellings.split()
}
_CHEXPERT = ("Path", "Frontal/Lateral", "AP/PA")  # the columns after the last of them are findings
NO_LABEL = ("nan", "na", "n/a", "<na>", "#n/a", "null", "none", "unknown", "unlabelled", "unlabeled", "?", "-1")


class TableConfig(PluginConfig):
    """The options of a source with a table."""

    columns: Mapping[str, str] = Field(
        default={},
        description="The column of a role (path, patient, study, site, split, label, sex, age, view, scanner, sequence) whose name does "
        "not show it, as in {patient: case_number}.",
    )
    labels: tuple[str, ...] = Field(
        default=(),
        description="More columns that are read as labels; those of data.label (finetune --label) always are.",
    )
    uncertain: Literal["missing", "positive", "negative"] = Field(
        default="missing", description="What a finding marked -1 counts as, where findings are marked 1, 0, -1 as in CheXpert's tables."
    )
    unmentioned: Literal["negative", "missing"] = Field(
        default="negative", description="What an empty cell counts as, where findings are marked 1, 0, -1 as in CheXpert's tables."
    )
    no_label: tuple[str, ...] = Field(
        default=NO_LABEL,
        description="Cells that mean that the label is not known, in upper or lower case. An empty cell always means this. none is a class "
        "beside words, and -1 is a class where the only other label is 1.",
    )
    merge: Literal["auto", "any", "majority"] = Field(
        default="auto",
        description="The label of an image with several rows that differ. any: every label that a row gives; majority: the most frequent "
        "one. auto: any for findings and boxes, majority for the classes of several readers.",
    )

    @field_validator("labels", "no_label", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns: `roles`, the column of each role but the label; `label`, those that could be the label by their names; `further`,
    those called label_...; `named`, those that the configuration names as labels; `chexpert`, columns for one finding each, by the place
    where CheXpert's tables have them; `others`, all the rest."""

    roles: Mapping[str, str]
    label: Sequence[str]
    further: Sequence[str]
    named: Sequence[str]
    chexpert: Sequence[str]
    others: Sequence[str]


@lru_cache(100_000)
def normalise_name(name: str) -> str:
    """Lower-case letters and digits only: "Patient ID" and "patient_id" are one name."""
    return re.sub(r"[\W_]+", "", name.casefold())


def knows_name(name: str) -> bool:
    """Whether a column with this name has a role, or looks like an identifier."""
    name = normalise_name(name)
    return (
        bool(role_of_name(name))
        or name in _GROUPS
        or name in _NO_LABELS
        or name.startswith("label")
        or (len(name) > 2 and name.endswith("id"))
    )


def role_of_name(name: str) -> str:
    """The role of a column by its name, "" where it has none."""
    plain = normalise_name(name)
    return _ROLE_OF.get(plain, "patient" if _OF_PATIENT.fullmatch(plain) else "")


def names_folders(column: str) -> bool:
    """Whether a column of this name has folders in its cells."""
    return normalise_name(column) in _FOLDERS


def may_name_images(name: str) -> bool:
    """Whether the name of a column says that its cells may name images, studies or patients."""
    plain = normalise_name(name)
    hints = ("id", "uid", "file", "filename", "path", "image", "name", "key", "index", "case", "subject", "fundus", "scan")
    return role_of_name(name) in ("path", "patient", "study") or plain in _GROUPS or plain.endswith(hints) or plain.startswith("image")


def is_reader(name: str) -> bool:
    """Whether a column with this name says who has read the image."""
    return normalise_name(name) in _READERS


def is_box(name: str) -> bool:
    """Whether a column with this name holds the place of a finding."""
    return _BOX.fullmatch(normalise_name(name)) is not None


def may_be_mark(name: str) -> bool:
    """Whether a column of two values may be a label, by its name."""
    plain = normalise_name(name)
    return bool(name) and role_of_name(name) in ("", "label") and plain not in _NO_LABELS and not plain.endswith(("id", "uid"))


def parse_split(name: str) -> str | None:
    """ "train", "val" or "test" where `name` is one of their usual spellings, else None."""
    return _SPLITS.get(normalise_name(name))


def find_columns(header: Sequence[str], config: TableConfig, name: str) -> Columns:
    """The roles of the columns of the table `name`. The column that names the images is found by its cells, unless `config` says it.

    Raises UserError where the configuration names an unknown role, and where several columns could have one role.
    """
    check_roles(config)
    roles: dict[str, str] = {}
    by_role = _candidates(header, config)
    label = by_role.pop("label", [])
    for role, columns in by_role.items():
        if len(columns) > 1 and role != "path":
            raise UserError(
                f"{name}: the columns {', '.join(columns)} could all be the {role}. Choose one with {choose_column(role, columns[0])}"
            )
        if role != "path" or role in config.columns:
            roles[role] = columns[0]
    known = {*label, *roles.values()}
    further = [column for column in header if normalise_name(column).startswith("label") and column not in known]
    start = header.index(_CHEXPERT[-1]) + 1 if set(_CHEXPERT) <= set(header) else len(header)
    known |= {*further}
    chexpert = [column for column in header[start:] if column not in known]
    others = [column for column in header[:start] if column not in known]
    return Columns(roles, label, further, [column for column in config.labels if column in header], chexpert, others)


def choose_column(role: str, column: str) -> str:
    """The option that gives a column its role, quoted so that it can be pasted."""
    return f"--set {shlex.quote(f'data.source.columns.{role}={column}')}"


def check_roles(config: TableConfig) -> None:
    """Raises UserError where the configuration names a role that no column has."""
    for role in config.columns:
        if role not in _NAMES:
            raise UserError(f"columns: {role!r} is no role of a column. {suggest(role, _NAMES)}")


def find_groups(header: Iterable[str]) -> list[str]:
    """The columns that group images as a patient does: lesion, case."""
    return [column for column in header if normalise_name(column) in _GROUPS]


def _candidates(header: Sequence[str], config: TableConfig) -> dict[str, list[str]]:
    """The columns of each role: the one that the configuration names; else those whose names show the role, and only the one that is
    called like the role, where there is one."""
    result = {}
    for role in _NAMES:
        if role in config.columns:
            columns = [config.columns[role]] if config.columns[role] in header else []
        else:
            columns = [column for column in header if role_of_name(column) == role and column not in config.columns.values()]
            exact = [column for column in columns if normalise_name(column) == role]
            columns = exact if len(exact) == 1 else columns
        if columns:
            result[role] = columns
    return result
