"""Tables that are no regular files, that are too large, or that lead out of their folder."""

import os
from pathlib import Path

import pytest
from PIL import Image

from medssl.data.sources import folder
from medssl.data.tables.reading import read_table
from medssl.errors import UserError


@pytest.mark.fault("C9")
def test_a_pipe_a_device_and_a_folder_are_no_tables(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "folder.csv", "device.csv"):
        with pytest.raises(UserError, match=f"{name} is a folder, a pipe, a socket or a device"):
            read_table(tmp_path / name, name, lambda _: False)


@pytest.mark.fault("C9")
def test_a_table_that_is_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(2**31 + 1)  # a file with a hole: no bytes are written
    with pytest.raises(UserError, match=r"large\.csv has more than 2 GiB"):
        read_table(tmp_path / "large.csv", "large.csv", lambda _: False)


@pytest.mark.fault("C9")
def test_a_link_beside_the_images_that_leads_elsewhere_is_not_read(tmp_path: Path) -> None:
    images, elsewhere = tmp_path / "data/images", tmp_path / "elsewhere"
    images.mkdir(parents=True)
    elsewhere.mkdir()
    for name in "ab":
        Image.new("L", (4, 4)).save(images / f"{name}.png")
    (elsewhere / "labels.csv").write_text("path,label\na.png,secret\nb.png,other\n")
    for place in (images, images.parent):
        (place / "labels.csv").symlink_to(elsewhere / "labels.csv")
        source = folder.build(folder.Config(), str(images))
        assert not source.table_error
        assert all(not record.labels for record in source.records)
        (place / "labels.csv").unlink()
    (images.parent / "labels.csv").write_bytes((elsewhere / "labels.csv").read_bytes())
    assert [record.labels["label"] for record in folder.build(folder.Config(), str(images)).records] == ["secret", "other"]
