"""What headers and tables say of an image, without what may identify a person: high ages, dates, names in the place of a hospital."""

import re

from medssl.data.person_names import name_a_person
from medssl.data.pseudonyms import pseudonym

_LONGEST = 64  # characters, as in DICOM's LO (PS3.5, table 6.2-1)
_OLDEST = 90  # years; 45 CFR 164.514(b)(2)(i)(C)
_AGE = re.compile(r"(\d+(?:[.,]\d+)?)\s*([A-Za-z]*)\.?")
_PER_YEAR = {"M": 12.0, "W": 52.2, "D": 365.25}
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}")


def without_identity(name: str, value: str) -> str:
    """The value of the extra `name`, cut to 64 characters; of an age above 89 years "90+", and nothing of one that is a date."""
    value = value[:_LONGEST]
    if name != "age" or not value:
        return value
    if _DATE.search(value):
        return ""
    if found := _AGE.fullmatch(value.strip()):
        years = float(found[1].replace(",", ".")) / _PER_YEAR.get(found[2][:1].upper(), 1.0)
        return "90+" if years >= _OLDEST else value
    return "90+" if any(int(number) >= _OLDEST for number in re.findall(r"\d+", value)) else value


def site_without_identity(site: str, key: bytes) -> str:
    """The name of the hospital; a keyed hash of it where it is like a person's name or number, or longer than any name."""
    return f"site {pseudonym(key, 'site', site)[:8]}" if len(site) > _LONGEST or name_a_person([site]) else site
