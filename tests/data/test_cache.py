from pathlib import Path

import pytest

from medssl.data.cache import cache_folder, site_key
from medssl.errors import UserError


def test_the_cache_folder_is_named_by_medssl_then_by_xdg_then_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MEDSSL_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "medssl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "medssl"
    assert list(tmp_path.iterdir()) == []


def test_the_site_key_is_made_once_for_its_owner_only(tmp_path):
    key = site_key(tmp_path / "new")
    assert len(key) == 32
    assert site_key(tmp_path / "new") == key
    assert site_key(tmp_path / "other") != key
    assert (tmp_path / "new" / "site.key").stat().st_mode & 0o777 == 0o600


def test_a_named_key_file_stands_above_the_cache_and_is_never_made(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "mine"))
    with pytest.raises(UserError, match=r"mine .*MEDSSL_KEY_FILE"):
        site_key(tmp_path)
    (tmp_path / "mine").write_bytes(b"k" * 32)
    assert site_key(tmp_path) == b"k" * 32
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_key_cut_short_is_refused(tmp_path):
    Path(tmp_path, "site.key").write_bytes(b"short")
    with pytest.raises(UserError, match=r"5 bytes, it needs 32"):
        site_key(tmp_path)
