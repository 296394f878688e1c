"""Folders with one odd entry: it costs itself only, and no message says that the data does not exist."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from medssl.data import walk
from medssl.data.detect import detect
from medssl.data.sources import folder
from medssl.errors import UserError
from medssl.plain_yaml import read_yaml

NOBODY = 65534


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that everybody may enter, and this process as a user who is not root."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield place
    for path in place.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(place)


@pytest.fixture
def as_nobody(open_place: Path) -> Iterator[None]:
    """Rights do not bind root."""
    Image.new("L", (4, 4)).save(open_place / "a.png")
    for name in ("locked", "locked/in", "data"):
        (open_place / name).mkdir()
    for name in ("locked/in/b.png", "data/a.png", "data/b.png"):
        shutil.copy(open_place / "a.png", open_place / name)
    (open_place / "data/link").symlink_to(open_place / "locked/in")
    shutil.copytree(open_place / "locked", open_place / "data/locked")
    (open_place / "preset.yaml").write_text("seed: 1")
    for path in open_place.rglob("*"):
        path.chmod(0o755)  # whatever mask other tests have left
    for path in ("locked", "data/locked", "preset.yaml"):
        (open_place / path).chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(user)


def locators(root: Path) -> dict[str, str]:
    """{locator: reason}."""
    return {file.locator: file.reason for file in walk.list_files(root)}


@pytest.mark.fault("D24")
def test_links_in_a_circle_and_deep_folders_cost_themselves_only(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    for name in ("circle.png", "labels.csv", "folder"):
        (tmp_path / name).symlink_to(name)
    there = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1000):  # the path would be too long for one call
        os.mkdir("d", dir_fd=there)
        below = os.open("d", os.O_RDONLY, dir_fd=there)
        os.close(there)
        there = below
    os.close(there)
    found = locators(tmp_path)
    subprocess.run(["/bin/rm", "-r", tmp_path / "d"], check=True)  # pytest could not remove that many
    assert {name: reason for name, reason in found.items() if not reason} == {"a.png": "", "b.png": ""}
    assert [found[name] for name in ("circle.png", "labels.csv", "folder")] == ["not_a_file"] * 3
    assert found["/".join("d" * 101)] == "too_deep"
    assert detect(str(tmp_path)) == "folder"
    assert len(folder.build(folder.Config(), str(tmp_path)).records) == 2
    assert walk.RootFolder(tmp_path).locator("circle.png") is None
    assert walk.RootFolder(tmp_path).locator("folder/a.png") is None


@pytest.mark.fault("D24")
@pytest.mark.parametrize("follow", [False, True])
def test_a_folder_that_may_not_be_entered_costs_itself_only(open_place: Path, as_nobody: None, follow: bool) -> None:
    with walk.following_links(follow):
        found = locators(open_place / "data")
    assert found == {"a.png": "", "b.png": "", "link": "not_a_file" if follow else "outside_root", "locked": "unreadable"}
    assert detect(str(open_place / "data")) == "folder"


@pytest.mark.fault("D24")
def test_data_that_may_not_be_read_and_data_that_is_not_there_are_told_apart(open_place: Path, as_nobody: None) -> None:
    for name in ("locked", "locked/in", "locked/in/b.png"):
        with pytest.raises(UserError, match=f"The data {open_place / name} cannot be read: Permission denied"):
            detect(str(open_place / name))
    with pytest.raises(UserError, match="does not exist"):
        detect(str(open_place / "absent"))
    with pytest.raises(UserError, match=r"preset\.yaml cannot be read: Permission denied"):
        read_yaml(open_place / "preset.yaml")
