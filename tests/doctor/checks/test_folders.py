"""Folders that are full, small and read-only, on real file systems; a key that others can read."""

import shutil

import pytest
from surroundings import fill, make_read_only, small_disk

from medssl.doctor.checks import folders


def found():
    return {finding.name: finding for finding in folders.check()}


def test_folders_with_room_are_ok_and_nothing_is_made_in_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "a" / "b"))
    findings = found()
    assert list(findings) == ["runs", "cache", "temporary", "site key"]
    enough = shutil.disk_usage(tmp_path).free > 10 * 2**30
    assert findings["cache"].level == ("ok" if enough else "warning")
    assert findings["cache"].seen.startswith(f"{tmp_path}/a/b, ")
    assert findings["site key"].level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_small_a_full_and_a_read_only_disk_are_errors(tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", 4096) as disk:
        monkeypatch.setenv("MEDSSL_CACHE", str(disk / "cache"))
        small = found()["cache"]
        assert (small.level, "0.0 GiB free" in small.seen, "Less than 1 GiB" in small.remedy) == ("error", True, True)
        full = fill(disk)
        assert "No space left on device" in found()["cache"].seen
        full.unlink()
        make_read_only(disk)
        finding = found()["cache"]
        assert finding.level == "error"
        assert f"Cannot write {disk}/cache as user" in finding.seen
        assert "MEDSSL_CACHE" in finding.remedy


@pytest.mark.fault("S18")
def test_a_key_that_others_can_read_is_warned_of_and_one_that_is_short_or_missing_is_an_error(tmp_path, monkeypatch):
    key = tmp_path / "key"
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(key))
    assert found()["site key"].level == "error"
    key.write_bytes(b"CANARY" * 6)
    key.chmod(0o600)
    assert found()["site key"].level == "ok"
    key.chmod(0o640)
    finding = found()["site key"]
    assert (finding.level, finding.remedy) == ("warning", f"Others can read it: chmod 600 {key}")
    assert "CANARY" not in finding.seen
    key.write_bytes(b"short")
    assert found()["site key"].level == "error"
