"""neighbours.png: who is shown beside an image, and what the picture says of them."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medssl.errors import UserError
from medssl.nn.losses import l2_normalize
from medssl.nn.support_set import SupportSet
from medssl.pretraining.support_set_figure import Line, Member, lookup_lines, save_figure
from medssl.types import LookUp, Rows

NOW = 5


def turned(*degrees: float) -> torch.Tensor:
    """Unit rows in a plane."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def looked_up() -> tuple[LookUp, SupportSet]:
    """Image 0 of patient 7 at 0 degrees found image 3 at 20; the set holds image 0 of step 2 at 30, image 1 of patient 7 at 40, a start
    row at 50, and, by now, the image itself, which has been pushed."""
    support = SupportSet(6, 2)
    support.rows.copy_(turned(20, 30, 40, 50, 180, 200))
    support.tags[:3] = torch.tensor([[3, 9, 1, 1], [0, 7, 0, 2], [1, 7, 0, 3]])
    support.pushed += 4
    z, tags = turned(0), torch.tensor([[0, 7, 0, NOW]])
    nn, nn_tags = support.rows[:1].clone(), support.tags[:1].clone()
    support.push(Rows(z, tags))
    return LookUp(z, nn, l2_normalize(z + nn), torch.tensor([0]), tags, nn_tags), support


def cosine(degrees: float) -> Any:
    return pytest.approx(float(np.cos(np.deg2rad(degrees))), abs=1e-5)


def test_the_nearest_neighbour_and_the_next_three_without_it_and_without_what_has_been_pushed_since():
    (line,) = lookup_lines(*looked_up(), NOW)
    assert line.nearest == Member(3, cosine(20), 1, 4, "")
    assert line.others == (
        Member(0, cosine(30), 0, 3, "same image"),
        Member(1, cosine(40), 0, 2, "same patient"),
        Member(-1, cosine(50), -1, 0, ""),
    )
    assert (line.row, line.label, line.cos_z, line.cos_nn) == (0, 0, cosine(10), cosine(10))


def test_the_nearest_neighbour_is_the_one_that_was_found_though_its_place_is_taken_by_now():
    found, support = looked_up()
    support.rows[0], support.tags[0] = turned(0)[0], torch.tensor([0, 7, 0, NOW])
    (line,) = lookup_lines(found, support, NOW)
    assert line.nearest.row == 3
    assert [member.row for member in line.others] == [0, 1, -1]


def test_patients_who_are_not_known_are_not_the_same():
    found, support = looked_up()
    found.z_tags[:, 1] = -1
    support.tags[:, 1] = -1
    assert [member.mark for member in lookup_lines(found, support, NOW)[0].others] == ["same image", "", ""]


def test_a_small_set_has_fewer_to_show_and_a_batch_no_more_than_eight_lines():
    support = SupportSet(2, 2)
    z = turned(*range(12))
    tags = torch.arange(12)[:, None].expand(-1, 4)
    found = lookup_lines(
        LookUp(z, support.rows[[0] * 12], z, torch.zeros(12, dtype=torch.long), tags, support.tags[[0] * 12]), support, NOW
    )
    assert len(found) == 8
    assert all(len(line.others) == 1 for line in found)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_picture_shows_the_stored_images_in_this_order_and_a_blank_for_a_start_row(tmp_path: Path, dtype):
    full = np.iinfo(dtype).max // 255
    images = np.stack([np.full((1, 40, 40), grey * full, dtype) for grey in (10, 60, 110, 160)])
    member = Member(1, 0.9, 1, 3, "same image")
    line = Line(0, 0, member, 0.95, 0.97, (Member(2, 0.5, 0, 2, ""), Member(-1, 0.4, -1, 0, ""), Member(3, -0.2, 7, 1, "same patient")))
    save_figure(tmp_path / "neighbours.png", [line, line], images, ("normal", "a class with quite a long name, longer than a tile"))
    assert [path.name for path in tmp_path.iterdir()] == ["neighbours.png"], "no draft is left"
    with Image.open(tmp_path / "neighbours.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape == (30 + 2 * 196 + 14, 5 * 14 + 6 * 160 + 2 * 4)
    for top in (30, 226):
        columns = (14, 188, 536, 700, 864)
        assert [int(pixels[top + 20, x + 20]) for x in columns] == [10, 60, 110, 255, 160]
        captions = [pixels[top + 161 : top + 195, x : x + 160] for x in columns]
        assert all((caption < 200).any() for caption in captions)
        assert (pixels[top + 161 : top + 195, 174:188] > 240).all(), "no caption runs out of its column"


def test_an_old_picture_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch):
    path = tmp_path / "neighbours.png"
    path.write_bytes(b"old")

    def full_disk(self, file, *_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(UserError, match="No space left"):
        save_figure(path, [], np.zeros((1, 1, 16, 16), np.uint8), ())
    assert path.read_bytes() == b"old"
