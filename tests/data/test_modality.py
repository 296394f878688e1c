"""Which DICOM images `data.modality` leaves out, and what is said of that."""

from pathlib import Path

import pytest

from medssl.data.modality import keep_modality
from medssl.errors import UserError
from medssl.types import Record, Source

FRAMES = [("a", "CT"), ("a", "CT"), ("b", "MR"), ("c", "DX"), ("d", "")]
RECORDS = tuple(Record(name, "dicom", extra={"modality": code} if code else {}) for name, code in FRAMES)
SOURCE = Source("dicom", Path("ward"), (*RECORDS, Record("e.png", "raster")), ("a note",))


def names(source: Source) -> str:
    return "".join(record.locator[0] for record in source.records)


def test_named_modalities_are_kept_and_the_others_are_left_out_with_their_number() -> None:
    assert names(keep_modality(SOURCE, "CT")) == "aae"
    both = keep_modality(SOURCE, "dx, CT")
    assert names(both) == "aace"
    assert both.skipped == (("b", "other_modality", "modality MR"), ("d", "other_modality", "modality unknown"))
    assert both.notes == ("a note", "2 images of other modalities left out (MR 1, unknown 1), as data.modality is dx, CT")


def test_all_images_are_kept_by_default() -> None:
    assert keep_modality(SOURCE, "all") is SOURCE
    assert keep_modality(Source("dicom", Path("ward"), RECORDS[:2]), "CT").notes == ()


def test_a_modality_that_no_image_has_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(UserError, match=r"No image has the modality US .* CT 2, MR 1, DX 1, unknown 1"):
        keep_modality(Source("dicom", Path("ward"), RECORDS), "US")
