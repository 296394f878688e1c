"""Links that leave the data folder, and names in other spellings than the table's."""

import os
import unicodedata
from pathlib import Path

import pytest

from medssl.data.walk import RootFolder, following_links, list_files


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def listed(root: Path, follow: bool = True) -> list[tuple[str, str]]:
    with following_links(follow):
        return [(found.locator, found.reason) for found in list_files(root)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with a link to a file and one to a folder of a store beside it, which links back."""
    root, store = tmp_path / "data", tmp_path / "store"
    touch(root / "own.png", store / "blobs/a1", store / "sick/1.png", store / "sick/deep/2.png")
    (root / "linked.png").symlink_to(store / "blobs/a1")
    (root / "sick").symlink_to(store / "sick")
    (store / "sick/deep/home").symlink_to(root)
    (store / "sick/deep/up").symlink_to(store / "sick")
    (store / "sick/deep/above").symlink_to(tmp_path)
    return root


def test_links_that_leave_the_folder_are_followed_if_the_user_says_so_and_loops_end(root: Path) -> None:
    assert listed(root) == [
        ("linked.png", ""),
        ("own.png", ""),
        ("sick/1.png", ""),
        ("sick/deep/2.png", ""),
        ("sick/deep/above", "linked_folder"),
        ("sick/deep/home", "linked_folder"),
        ("sick/deep/up", "linked_folder"),
    ]


def test_links_that_leave_the_folder_are_counted_and_told_where_they_are_not_followed(root: Path) -> None:
    with following_links(False) as links:
        assert [found.locator for found in list_files(root) if found.reason == "outside_root"] == ["linked.png", "sick"]
    (note,) = links.notes()
    assert note.startswith("2 links lead out of the data folder")
    assert "--set data.follow_links=true" in note
    assert listed(root, follow=False) == [(found.locator, found.reason) for found in list_files(root)]


def test_a_folder_that_two_links_name_is_listed_once(tmp_path: Path) -> None:
    touch(tmp_path / "store/1.png", tmp_path / "data/own.png")
    for name in ("a", "b"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "store")
    assert listed(tmp_path / "data") == [("a/1.png", ""), ("b", "linked_folder"), ("own.png", "")]


def test_a_ladder_of_folders_with_two_links_each_is_listed_in_no_time(tmp_path: Path) -> None:
    """2 to the power of 40 paths lead to the last folder."""
    for number in range(40):
        touch(tmp_path / f"step{number}/image.png")
        for side in "lr":
            (tmp_path / f"step{number}" / side).symlink_to(tmp_path / f"step{number + 1}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/first").symlink_to(tmp_path / "step0")
    assert sum(not reason for _, reason in listed(tmp_path / "data")) == 40


def test_a_row_may_name_a_file_behind_a_link_only_if_links_are_followed(root: Path) -> None:
    for follow, expected in ((True, ["linked.png", "sick/deep/2.png", "sick/1.png"]), (False, None)):
        with following_links(follow) as links:
            folder = RootFolder(root)
            if expected:
                assert [folder.locator(cell) for cell in ("linked.png", "./sick/deep/2.png", "sick\\1.png")] == expected
            else:
                for cell in ("linked.png", "sick/1.png"):
                    with pytest.raises(ValueError, match=cell):
                        folder.locator(cell)
                assert links.left_out == 2
            for way_out in ("../store/blobs/a1", str(root.parent / "store/blobs/a1"), "sick/../../store/blobs/a1"):
                with pytest.raises(ValueError, match="store"):
                    folder.locator(way_out)


@pytest.mark.parametrize(
    "spelt", [lambda name: unicodedata.normalize("NFD", name).encode(), lambda name: name.encode("latin-1"), lambda name: name.encode()]
)
def test_a_row_names_the_file_of_the_same_text_in_another_form_or_encoding(tmp_path: Path, spelt) -> None:
    folder, name = spelt("Bäuche"), spelt("Müller 1.png")
    (tmp_path / os.fsdecode(folder)).mkdir()
    touch(tmp_path / os.fsdecode(folder) / os.fsdecode(name))
    (found,) = (entry.locator for entry in list_files(tmp_path))
    names = RootFolder(tmp_path)
    assert names.locator("Bäuche/Müller 1.png") == names.locator(unicodedata.normalize("NFD", "Bäuche/Müller 1.png")) == found
    assert names.locator("Bäuche/Meier 1.png") is None
