from pathlib import Path

import numpy as np
import pytest

from medssl.data.store import writer
from medssl.data.store.writer import ImageWriter, csv_text
from medssl.errors import UserError


def images(number: int, dtype: type) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (number, 1, 5, 5)).astype(dtype)


def written(path: Path, expected: int, rows: list[np.ndarray]) -> np.ndarray:
    file = ImageWriter(path, expected, (1, 5, 5))
    for row in rows:
        file.append(row)
    file.finish()
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("expected", [12, 13, 1_000_000])
def test_the_file_holds_the_images_that_came_however_many_were_expected(tmp_path: Path, expected: int) -> None:
    rows = images(12, np.uint8)
    np.testing.assert_array_equal(written(tmp_path / "a.npy", expected, list(rows)), rows)


def test_eight_bit_images_are_widened_before_and_after_one_with_sixteen(tmp_path: Path) -> None:
    narrow, wide = images(6, np.uint8), images(1, np.uint16)
    found = written(tmp_path / "a.npy", 7, [*narrow[:3], wide[0], *narrow[3:]])
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[[0, 1, 2, 4, 5, 6]] / 65535, narrow / 255)
    np.testing.assert_array_equal(found[3], wide[0])


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    written(tmp_path / "a.npy", 1, list(images(1, np.uint8)))
    assert (tmp_path / "a.npy").stat().st_mode & 0o777 == 0o600


def test_a_disk_without_space_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 24}))
    with pytest.raises(UserError, match=r"need .* GB .* are free .* MEDSSL_CACHE"):
        ImageWriter(tmp_path / "a.npy", 1, (1, 5, 5))


def test_in_a_table_numbers_below_zero_are_numbers_and_formulas_are_text() -> None:
    rows = [["-1.5", "-20", "0"], ["-1+1", "=1", "@a"], ["-", "-1.", "--1"]]
    assert csv_text(rows) == "-1.5,-20,0\r\n'-1+1,'=1,'@a\r\n'-,'-1.,'--1\r\n"
