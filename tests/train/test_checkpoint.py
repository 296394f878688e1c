"""Checkpoints: whole or not there, and never half believed."""

import pytest
import torch

from medssl.errors import UserError
from medssl.train import checkpoint


def state(step: int) -> dict[str, object]:
    return {"step": step, "method": {"w": torch.full((3,), float(step))}, "config": "seed: 0\n"}


def test_a_state_comes_back_as_it_was(tmp_path):
    checkpoint.save(tmp_path, state(7))
    loaded, note = checkpoint.load(tmp_path)
    assert loaded["step"] == 7
    assert torch.equal(loaded["method"]["w"], torch.full((3,), 7.0))
    assert note == ""


@pytest.mark.parametrize("damage", ["bit", "torn", "empty"])
def test_a_damaged_newest_checkpoint_is_noticed_and_the_one_before_is_taken(tmp_path, damage):
    for step in (1, 2):
        checkpoint.save(tmp_path, state(step))
    path = tmp_path / checkpoint.LAST
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"bit": bytes(content), "torn": bytes(content[: len(content) // 2]), "empty": b""}[damage])
    loaded, note = checkpoint.load(tmp_path)
    assert loaded["step"] == 1
    assert "went back to step 1" in note
    (tmp_path / checkpoint.PREVIOUS).unlink()
    with pytest.raises(UserError, match="No usable checkpoint"):
        checkpoint.load(tmp_path)


def test_resuming_where_nothing_is_says_what_to_name(tmp_path):
    with pytest.raises(UserError, match=r"Nothing to resume.*run folder"):
        checkpoint.load(tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint_whole_and_no_scrap(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, state(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        checkpoint.save(tmp_path, state(2))
    monkeypatch.undo()
    assert checkpoint.load(tmp_path)[0]["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.LAST]


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    import hashlib
    import io
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    buffer = io.BytesIO()
    torch.save({"format": 1, "evil": Evil()}, buffer)
    body = buffer.getvalue()
    head = b"medssl checkpoint 1 sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"
    (tmp_path / checkpoint.LAST).write_bytes(head + body)
    with pytest.raises(pickle.UnpicklingError, match="print"):
        checkpoint.load(tmp_path)
