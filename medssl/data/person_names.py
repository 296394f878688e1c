"""Names of folders that are those of persons: of such folders no class is made, and no name is printed or stored in the clear."""

import re
from collections.abc import Collection

_SMALL = 20  # images of a folder: more than ten folders with fewer on average are those of patients
_PATIENT = re.compile(r"(patient|pat|subject|subj|sub|case)[-_ ]?\d+", re.IGNORECASE)
# DOE^JANE, as names are written in DICOM; the number of a patient or an examination, or a date. No year within a name: covid_2020
_PERSON = re.compile(r"\^|\d{6}|^\d{4,}$|^[A-Za-z]{1,3}[-_ ]?\d{5,}$")
# Mustermann_Max, Doe, Jane, Anna-Lena_Graf_1967; classes such as Pleural_Effusion have this form, too
_TWO_NAMES = re.compile(r"([^\W\d_]+(-[^\W\d_]+)?)((_|, ?|\.| )[^\W\d_]+(-[^\W\d_]+)?){1,3}([_ ,.-]+\d[\d._-]*)?")
# Parts of words by which the names of findings, organs, methods and degrees are known
_MEDICAL = re.compile(
    r"opac|pneumo|effus|norm|viral|bacter|covid|lung|chest|benign|bengin|malig|tumou?r|cancer|carcin|lesion|nodul|fractur|disease|diseas|oma$|"
    r"omas$|itis$|osis$|oses$|pathy|edema|oedema|cyst|polyp|ulcer|infect|hemorr|haemorr|infarct|stroke|ischem|degener|dement|dysplas|plasia|"
    r"keratos|kerato|nev(us|i)$|nevi|mole|dermat|vascul|cardi|hyper|hypo|megaly|ectasis|thorax|pleura|hernia|fibro|emphys|consolid|"
    r"atelect|infiltr|mass$|thicken|device|support|finding|negativ|positiv|healthy|control|patholog|abnormal|sick|ill$|well$|unknown|other|"
    r"mild|moderate|severe|early|late$|stage|grade|class|type|group|very|non$|^no$|^not$|with|without|left|right|upper|lower|anterior|"
    r"posterior|brain|liver|kidney|breast|bone|skin|eye|retin|macul|diabet|glauc|cataract|optic|heart|stomach|colon|cell|tissue|muscle|blood|"
    r"image|scan|view|slice|axial|sagit|coron|xray|x-ray|tubercul|glioma|mening|pituit|squam|adeno|basal|actinic|benign|melano|seborr|"
    r"lymph|leuk|anemi|malaria|parasit|intestin|esophag|gastr|pylor|cecum|dyed|resection|test|train|valid|data|set$",
    re.IGNORECASE,
)


def are_patients(names: Collection[str], images: int) -> bool:
    """Whether folders with these names, and with `images` images in all, stand for patients: three or more of them, all with names like
    patient_012, most with names like a person's name or number, or too many and too small ones for classes."""
    if len(names) < 3:  # a guess must not leave a data set with one or two patients
        return False
    persons = sum(name_a_person([name]) for name in names)
    many = len(names) > max(10, images / _SMALL)
    return are_called_patients(names) or 2 * persons > len(names) or many or are_named_like_persons(names)


def are_called_patients(names: Collection[str]) -> bool:
    """Whether the names say that they are those of patients, as patient_012 and case 7 do."""
    return all(map(_PATIENT.fullmatch, names))


def name_a_person(names: Collection[str]) -> bool:
    """Whether one of the names is like a person's name or number: then they are neither classes nor printed."""
    return any(map(_PERSON.search, names)) or are_named_like_persons(names)


def are_named_like_persons(names: Collection[str]) -> bool:
    """Whether most of several names are two or more capitalised words without a medical one, as in Mustermann_Max. One name alone says
    nothing: Foreign Body may be a class."""
    return len(names) > 1 and 2 * sum(map(_is_family_and_given_name, names)) > len(names)


def _is_family_and_given_name(name: str) -> bool:
    words = re.findall(r"[^\W\d_]+", name)
    capital = all(word[0].isupper() for word in words if word not in ("van", "von", "de", "der", "da", "di", "del", "la", "le", "el", "al"))
    return bool(_TWO_NAMES.fullmatch(name)) and capital and not any(map(_MEDICAL.search, words))
