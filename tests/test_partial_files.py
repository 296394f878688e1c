"""A disk that is full in the middle of a file: the error is one of the disk, and half a file does not stay."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import TINY, make_encoder
from surroundings import files_up_to, small_disk

from medssl.data.cache import site_key
from medssl.data.decode import PreparedImage
from medssl.data.store import write_chunk
from medssl.data.store.writer import write_private
from medssl.embedding.parts import Part
from medssl.encoder.export.formats import export
from medssl.encoder.export.options import Options
from medssl.errors import UserError
from medssl.files import write_atomically
from medssl.train import checkpoint

NOISE = np.random.default_rng(0).integers(0, 256, (1, 64, 64), np.uint8)
IMAGE = PreparedImage(NOISE, 8, 64, 64, None, "0" * 32, "0" * 16)


def save_checkpoint(folder: Path) -> None:
    checkpoint.save(folder, {"step": 2, "method": {"weight": torch.rand(2000)}})


WRITERS: dict[str, Callable[[Path], None]] = {
    "file": lambda folder: write_atomically(folder / "file", bytes(5000)),
    "list of names": lambda folder: write_private(folder / "list.csv", "name\n" * 1000),
    "chunk of a store": lambda folder: write_chunk(folder / "1.chunk", [IMAGE] * 3),
    "checkpoint": save_checkpoint,
    "part of features": lambda folder: Part(np.arange(90), np.arange(90), "1.npy").save(folder, np.ones((90, 30), np.float32)),
}


@pytest.mark.fault("R33")
@pytest.mark.parametrize("name", WRITERS)
def test_half_a_file_does_not_stay_where_the_disk_is_full(name: str, tmp_path: Path) -> None:
    with files_up_to(3000), pytest.raises((OSError, UserError), match=r"too large|requested and \d+ written"):
        WRITERS[name](tmp_path)
    assert list(tmp_path.iterdir()) == []
    WRITERS[name](tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.fault("R33")
def test_a_key_that_could_not_be_written_is_made_by_the_next_command(tmp_path: Path) -> None:
    with files_up_to(0), pytest.raises(UserError, match=r"site.key cannot be used by user .*too large"):
        site_key(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(site_key(tmp_path)) == 32


@pytest.mark.fault("R33")
def test_the_earlier_checkpoint_and_the_earlier_list_stay_as_they_are(tmp_path: Path) -> None:
    save_checkpoint(tmp_path)
    write_private(tmp_path / "list.csv", "name\n")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with files_up_to(3000), pytest.raises(checkpoint.CheckpointError, match="the earlier ones are kept"):
        save_checkpoint(tmp_path)
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "list.csv", "other")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.fault("R33")
@pytest.mark.parametrize("name", ["medssl", "timm"])
def test_an_export_on_a_full_disk_is_one_message_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    for folder in ("encoder", "out"):
        (tmp_path / folder).mkdir()
    encoder, card = make_encoder(tmp_path / "encoder", TINY)
    with files_up_to(20_000), pytest.raises(UserError, match=r"Cannot write .*chest.* as user .*too large"):
        export(encoder, card, name, tmp_path / "out" / "chest", Options())
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.fault("R33")
def test_a_disk_that_is_really_full_keeps_no_part_of_a_chunk_or_an_encoder(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        write_chunk(disk / "0.chunk", [IMAGE])
        with pytest.raises(OSError, match="No space left"):
            write_chunk(disk / "1.chunk", [IMAGE] * 30)
        with pytest.raises(UserError, match="make space"):
            make_encoder(disk, TINY)
        assert [file.name for file in disk.iterdir()] == ["0.chunk"]
