"""Names as text that can be stored and compared, whatever bytes and whatever Unicode form a drive spells them in.

Python reads bytes of a file's name that are no UTF-8 as lone surrogates, which no table, JSON document or page can hold. Locators keep
them, as files are opened by them; what is known of an image (label, patient, site) does not. Old Windows archives hold Latin-1 bytes, and
Macs write an umlaut as a letter and its dots (NFD): the same word is then spelt in two ways.
"""

import unicodedata
from dataclasses import replace

from medssl.types import Record, Source


def readable(text: str) -> str:
    """The text in NFC. Where bytes of it are no UTF-8, all of its bytes are read as Latin-1.

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
    return unicodedata.normalize("NFC", text)


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
