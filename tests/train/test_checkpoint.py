"""Checkpoints: whole or not there, and never half believed."""

import hashlib
import io
import os
import pickle
import time
from pathlib import Path

import pytest
import torch
from kills import folders_left
from surroundings import fill, make_read_only, small_disk
from torch import nn

from medssl.errors import UserError
from medssl.train import checkpoint
from medssl.train.checkpoint import LAST, NEXT, PREVIOUS, CheckpointError, Saver, check_disk_space, load, save


def state(step: int, numbers: int = 3) -> dict[str, object]:
    return {"step": step, "method": {"w": torch.full((numbers,), float(step))}, "config": "seed: 0\n"}


def step_in(folder: Path) -> int:
    """That of the newest checkpoint, once as a number and once in a tensor."""
    found = load(folder)[0]
    assert found["method"]["w"].tolist() == [found["step"]] * len(found["method"]["w"])
    return found["step"]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A run folder with the checkpoints of steps 1 and 2."""
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (1, 2):
        save(folder, state(step))
    return folder


def test_a_state_comes_back_as_it_was(tmp_path):
    save(tmp_path, state(7))
    loaded, note = load(tmp_path)
    assert loaded.keys() == state(7).keys()
    assert (loaded["step"], loaded["config"]) == (7, "seed: 0\n")
    assert torch.equal(loaded["method"]["w"], torch.full((3,), 7.0))
    assert note == ""


def test_the_last_two_are_kept(two):
    save(two, state(3))
    assert sorted(file.name for file in two.iterdir()) == [LAST, PREVIOUS]
    (two / LAST).unlink()
    assert step_in(two) == 2


def damaged(content: bytes) -> dict[str, bytes]:
    """The file cut short in every part of it, a bit flipped in every part of it, and more bytes than were written."""
    start = content.index(b"\n") + 1
    cuts = {0, 1, 20, start - 1, start, start + 1, start + (len(content) - start) // 2, len(content) - 1}
    flips = {0, content.index(b" 2 ") + 1, content.index(b"step 2") + 5, start - 30, start - 1, start, len(content) // 2, len(content) - 1}
    found = {f"cut to {length}": content[:length] for length in cuts} | {"a byte more": content + b"\0"}
    for place in flips:
        found |= {f"bit {bit} of {place}": content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :] for bit in range(8)}
    return found


@pytest.mark.fault("R6")
def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_is_taken(two):
    content = (two / LAST).read_bytes()
    for what, bad in damaged(content).items():
        (two / LAST).write_bytes(bad)
        loaded, note = load(two)
        assert loaded["step"] == 1, what
        assert "last.ckpt is damaged" in note, what
        assert "step 1 (previous.ckpt)" in note, what
    (two / LAST).write_bytes(content)
    assert load(two)[0]["step"] == 2
    assert load(two)[1] == ""


@pytest.mark.fault("R6")
def test_the_note_tells_how_many_steps_are_lost(tmp_path):
    for step in (400, 650):
        save(tmp_path, state(step))
    with (tmp_path / LAST).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    note = load(tmp_path)[1]
    assert note == "last.ckpt is damaged (its digest does not fit). Going on from step 400 (previous.ckpt), 250 steps back."


@pytest.mark.fault("R6")
def test_no_whole_checkpoint_is_an_error_that_names_the_damaged_ones(two):
    (two / LAST).write_bytes(b"")
    (two / PREVIOUS).write_bytes((two / PREVIOUS).read_bytes()[:100])
    with pytest.raises(UserError, match=r"No usable .*last\.ckpt is damaged \(it is empty\); previous\.ckpt is damaged"):
        load(two)


def save_step_3(folder: Path) -> None:
    save(folder, state(3))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """What kills leave of a folder with steps 1 and 2 while step 3 is saved: of a whole one, and of one whose step 2 is damaged."""
    work = tmp_path_factory.mktemp("killed")
    for name in ("whole", "damaged"):
        (work / name).mkdir()
        for step in (1, 2):
            save(work / name, state(step))
    (work / "damaged" / LAST).write_bytes(b"damaged")
    module = "medssl/train/checkpoint"
    whole, damaged = folders_left(__file__, ("save_step_3", work / "whole", module), ("save_step_3", work / "damaged", module))
    assert min(len(whole), len(damaged)) > 10
    return whole, damaged


@pytest.mark.slow
@pytest.mark.fault("R6")
def test_after_a_damaged_one_the_next_checkpoint_is_safe_wherever_its_saving_is_killed(killed):
    """Were the damaged one moved to the place of the good one before the new one has a name, a kill would leave none."""
    steps = [step_in(folder) for folder in killed[1]]
    assert steps == sorted(steps)
    assert set(steps) == {1, 3}


@pytest.mark.slow
@pytest.mark.fault("R5")
def test_wherever_saving_is_killed_the_newest_whole_checkpoint_is_found_and_saving_goes_on(killed):
    steps = [step_in(folder) for folder in killed[0]]
    assert steps == sorted(steps), "once it is there it stays"
    assert set(steps) == {2, 3}
    assert {load(folder)[1] for folder in killed[0]} == {""}, "nothing is damaged"
    states = {tuple(sorted(file.name for file in folder.iterdir() if file.suffix == ".ckpt")) for folder in killed[0]}
    assert states == {(LAST, PREVIOUS), (LAST, NEXT, PREVIOUS), (NEXT, PREVIOUS)}
    for folder in killed[0]:
        save(folder, state(4))
        assert step_in(folder) == 4
        (folder / LAST).unlink()
        assert step_in(folder) in (2, 3), "and one before it"


@pytest.mark.fault("R13")
def test_the_newest_is_told_by_its_step_whatever_the_clock_and_the_names_say(two, monkeypatch):
    os.utime(two / PREVIOUS, (2e9, 2e9))
    os.utime(two / LAST, (1, 1))
    assert step_in(two) == 2
    (two / LAST).rename(two / "kept")
    (two / PREVIOUS).rename(two / LAST)
    (two / "kept").rename(two / PREVIOUS)
    assert step_in(two) == 2
    hour_ago = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: hour_ago)
    save(two, state(3))
    os.utime(two / LAST, (hour_ago, hour_ago))
    assert step_in(two) == 3


@pytest.mark.fault("R5")
def test_a_full_disk_leaves_the_checkpoints_whole_and_no_scrap_and_says_what_it_needs(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=1000) as disk:
        for step in (1, 2):
            save(disk, state(step, numbers=50_000))
        filler = fill(disk)
        with pytest.raises(CheckpointError) as caught:
            save(disk, state(3, numbers=50_000))
        said = str(caught.value)
        for part in (str(disk), "No space left on device", "0.0 MB are free", "step 3 needs 0.2 MB"):
            assert part in said
        assert sorted(file.name for file in disk.iterdir()) == [filler.name, LAST, PREVIOUS]
        assert step_in(disk) == 2
        filler.unlink()
        save(disk, state(3, numbers=50_000))
        assert step_in(disk) == 3


@pytest.mark.fault("R5")
def test_a_run_bears_three_failures_to_save_in_a_row_and_no_fourth(tmp_path):
    warned: list[str] = []
    saver = Saver(tmp_path / "disk", warned.append)
    with small_disk(tmp_path / "disk", kilobytes=1000) as disk:
        saver(state(1, numbers=50_000))
        for first in (2, 5):
            filler = fill(disk)
            for step in range(first, first + 3):
                saver(state(step, numbers=50_000))
            assert step_in(disk) == first - 1
            if first == 2:
                filler.unlink()
                saver(state(4, numbers=50_000))
        assert len(warned) == 6
        assert all("No space left on device" in text for text in warned)
        with pytest.raises(CheckpointError, match="No space left"):
            saver(state(8, numbers=50_000))
        assert step_in(disk) == 4


@pytest.mark.fault("R7")
def test_a_disk_that_becomes_read_only_is_told_and_its_checkpoints_can_be_loaded(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=1000) as disk:
        save(disk, state(1))
        make_read_only(disk)
        with pytest.raises(CheckpointError, match=rf"{disk}.* as user {os.getuid()}: Read-only file system"):
            save(disk, state(2))
        assert step_in(disk) == 1


@pytest.mark.fault("R5")
def test_a_run_does_not_start_where_three_checkpoints_have_no_room(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=2000) as disk:  # 2.048 MB
        large = nn.Linear(250, 250)  # 0.251 MB of weights, and twice as much that AdamW keeps of them
        with pytest.raises(UserError, match=r"need 2\.3 MB more in .*disk \(3 of 0\.8 MB each\), and 2\.0 MB are free\. Make space"):
            check_disk_space(disk, large)
        method = nn.Linear(235, 235)  # 0.6655 MB with AdamW's numbers
        check_disk_space(disk, method)
        optimiser = torch.optim.AdamW(method.parameters())
        method(torch.ones(1, 235)).sum().backward()
        optimiser.step()
        save(disk, {"step": 1, "method": method.state_dict(), "optimiser": optimiser.state_dict()})
        assert (disk / LAST).stat().st_size == pytest.approx(665_500, rel=0.01)
        check_disk_space(disk, method)  # for the two others: the run may go on


def test_resuming_where_nothing_is_says_what_to_name(tmp_path):
    with pytest.raises(UserError, match=r"Nothing to resume.*run folder"):
        load(tmp_path)


def checkpoint_of(body: bytes, words: bytes) -> bytes:
    return words + hashlib.sha256(words + body).hexdigest().encode() + b"\n" + body


def test_another_format_is_told_and_not_taken_for_damage(two):
    (two / LAST).write_bytes(checkpoint_of(b"of a later release", b"medssl checkpoint 3 step 9 sha256 "))
    with pytest.raises(UserError, match="has format 3; this medssl reads 2"):
        load(two)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it-ran",)

    archive = io.BytesIO()
    torch.save({"step": 1, "evil": Evil()}, archive)
    for body in (archive.getvalue(), pickle.dumps(Evil(), protocol=2)):
        (tmp_path / LAST).write_bytes(checkpoint_of(body, b"medssl checkpoint 2 step 1 sha256 "))
        with pytest.raises(UserError, match=r"refused: .* No code in it was run"):
            checkpoint.load(tmp_path)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.fault("C8")
def test_a_part_of_a_state_is_one_message_that_names_what_is_missing(tmp_path):
    checkpoint.check_whole(tmp_path, {**state(1), "data": ""})
    with pytest.raises(UserError, match="only a part of one: method, config is missing"):
        checkpoint.check_whole(tmp_path, {"step": 1, "data": ""})
