"""Names as text that can be stored and compared, whatever bytes and whatever Unicode form a drive spells them in.

Python reads bytes of a file's name that are no UTF-8 as lone surrogates, which no table, JSON document or page can hold. Locators keep
them, as files are opened by them; what is known of an image (label, patient, site) does not. Old Windows archives hold Latin-1 bytes, and
Macs write an umlaut as a letter and its dots (NFD): the same word is then spelt in two ways.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import replace

from medssl.types import Record, Source

_PADDING = re.compile(r"(?<![\d.,])0+(?=\d)")  # not behind a point: 1.05 is not 1.5
_UID = re.compile(r"[0-2](\.\d+)+")


def readable(text: str) -> str:
    """The text in NFC, with plain spaces in the place of non-breaking ones and without invisible characters at its ends. Where bytes of it
    are no UTF-8, all of its bytes are read as Latin-1.

    >>> readable("M\\udcfcller"), readable("Mu\\u0308ller")
    ('Müller', 'Müller')
    """
    if text.isascii():
        return text
    content = text.encode("utf-8", "surrogateescape")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    text = "".join(" " if unicodedata.category(character) == "Zs" else character for character in unicodedata.normalize("NFC", text))
    start, end = 0, len(text)
    while start < end and _is_blank(text[start]):
        start += 1
    while end > start and _is_blank(text[end - 1]):
        end -= 1
    return text[start:end]


def in_any_spelling(name: str, *, numbers: bool = True) -> str:
    """What all spellings of a name have in common: upper and lower case, full-width letters, spaces of any kind, invisible characters, and
    (`numbers`) zeros before a number make no difference.

    >>> in_any_spelling("MÜLLER\u200b  007") == in_any_spelling("müller\u00a07")
    True
    """
    if not name.isascii():
        name = unicodedata.normalize("NFKC", readable(name))
        name = "".join(character for character in name if unicodedata.category(character) != "Cf")
    name = " ".join(unicodedata.normalize("NFC", name.casefold()).split())
    return _PADDING.sub("", name) if numbers else name


def usual_spellings(names: Counter[str], numbers: bool = True) -> dict[str, str]:
    """{name: the most frequent name that differs from it in its spelling only}, for all of the names. Of equally frequent ones those in
    ASCII come first."""
    usual: dict[str, str] = {}
    for name, _ in sorted(names.items(), key=lambda item: (-item[1], not item[0].isascii(), item[0])):
        usual.setdefault(in_any_spelling(name, numbers=numbers), name.strip())
    return {name: usual[in_any_spelling(name, numbers=numbers)] for name in names}


def with_one_spelling(source: Source) -> Source:
    """The source with one spelling of each patient, study and site. A note says how many spellings were joined. Studies that are UIDs, and
    patients that are files or volumes, stay as they are."""
    if source.kind == "store":
        return source
    records, notes = source.records, []
    for field, what in (("patient", "patients"), ("study", "studies"), ("site", "sites")):
        names = Counter(text for record in records if (text := _joinable(record, field)))
        spelling = {name: usual for name, usual in usual_spellings(names).items() if name.strip() != usual}
        if not spelling:
            continue
        records = tuple(
            replace(record, **{field: spelling[text]}) if (text := _joinable(record, field)) in spelling else record for record in records
        )
        notes.append(
            f"{len(set(spelling.values()))} {what} are written in {len(set(spelling.values())) + len(spelling)} ways that differ in case, "
            "spaces, forms of letters or zeros before a number only: counted as one each"
        )
    return replace(source, records=records, notes=(*source.notes, *notes)) if notes else source


def _joinable(record: Record, field: str) -> str:
    """The value of the field if its spelling is a person's; "" for UIDs and names of files, which programs write."""
    text: str = getattr(record, field) or ""
    by_program = _UID.fullmatch(text) or (field == "patient" and (record.patient_from == "itself" or text == record.locator))
    return "" if by_program else text


def _is_blank(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cf"


def readable_source(source: Source) -> Source:
    """The source with readable labels, patients, studies, series, sites, further values and notes. A note says how many names of files are
    no UTF-8."""
    odd = len({record.locator for record in source.records if not record.locator.isascii() and not _is_text(record.locator)})
    notes = [f"{odd} files have names that are not UTF-8: labels and patients from them are read as Latin-1"] if odd else []
    return replace(source, records=tuple(map(_readable_record, source.records)), notes=(*map(readable, source.notes), *notes))


def _readable_record(record: Record) -> Record:
    known = (record.patient, record.study, record.series, record.site)
    mappings = (record.labels, record.extra)
    if all(text is None or text.isascii() for text in known) and all(
        name.isascii() and value.isascii() for mapping in mappings for name, value in mapping.items()
    ):
        return record
    patient, study, series, site = (text if text is None else readable(text) for text in known)
    labels, extra = ({readable(name): readable(value) for name, value in mapping.items()} for mapping in mappings)
    return replace(record, labels=labels, patient=patient, study=study, series=series, site=site, extra=extra)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
