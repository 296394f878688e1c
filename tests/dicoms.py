"""Listing a folder of DICOM files, reading one of pydicom's own files, and the reason why a file is refused."""

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from medssl.data.readers import dicom as reader_module
from medssl.data.sources import dicom as source_module
from medssl.errors import ReadError
from medssl.types import Source

READER = reader_module.build(reader_module.Config())


def build(root: Path, **options: object) -> Source:
    return source_module.build(source_module.Config.model_validate(options), str(root))


def reasons(source: Source) -> dict[str, str]:
    """{file that was left out: its reason}."""
    return {locator: reason for locator, reason, _ in source.skipped}


def shipped(name: str) -> Path:
    """The path of a file that pydicom installs."""
    path = get_testdata_file(name, download=False)
    assert path, f"{name} is no longer shipped with pydicom"
    return Path(str(path))


def reason(path: Path, index: int = 0, reader: reader_module.Reader = READER) -> str:
    """The reason of the ReadError that reading the frame raises."""
    with pytest.raises(ReadError) as caught:
        reader.read(path, index)
    assert caught.value.detail
    return caught.value.reason
