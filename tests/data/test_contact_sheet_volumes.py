"""The contact sheet of whole volumes."""

import numpy as np
from volume_stores import write_store

from medssl.data.audit import contact_sheet

EDGE = 192


def test_the_sheet_shows_three_planes_of_each_volume_with_its_row_and_label(tmp_path):
    volumes = np.full((10, 1, 12, 12, 12), 90, np.uint8)
    volumes[3, 0, 10:, 6, 6] = 250  # a line from the middle of the head down
    store = write_store(tmp_path / "known", volumes, ["a"] * 10)
    sheet = np.asarray(contact_sheet(store))[..., 0]
    assert sheet.shape == (2 * (EDGE + 14), 8 * EDGE)
    third = sheet[:EDGE, 3 * EDGE : 4 * EDGE]
    upright = third[:, :94], third[:, 96:190]
    for plane in upright:
        line = plane[:16, 47:55] == 250  # the first two voxels below the head, right of the middle, are 7 pixels wide
        assert line.mean() > 0.5, "above in both upright planes"
        assert not (plane[20:80] == 250).any()
    assert (sheet[EDGE : EDGE + 14, 3 * EDGE :][:, :40] > 200).any(), "the row below the picture"
    assert sheet[:EDGE, :EDGE].max() > 200, "letters"
    unknown = write_store(tmp_path / "unknown", volumes, ["a"] * 10, {"orientation": [""] * 10})
    assert np.asarray(contact_sheet(unknown))[:EDGE, :EDGE].max() == 90, "nobody knows the sides: no letters"
