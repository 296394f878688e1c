"""Volumes in one file, of which parts are read: boxes, windows, and what a process keeps of them."""

import pickle
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval
from patch_stores import enlarge, small_store
from volume_stores import in_one_file

from medssl.data.loader import Batches, Loader
from medssl.data.store import Store, StoredVolumes, cut_windows
from medssl.errors import UserError

PATCH = (16, 20, 10)
SHAPES = ((16, 20, 10), (50, 61, 33), (17, 40, 100), (24, 20, 11))

FILE = "data/store/stored_volumes.py"
FAULTS = {
    "a quarter of overlap": (FILE, "// (edge // 2)) + 1) * (edge // 2)", "// (edge * 3 // 4)) + 1) * (edge * 3 // 4)"),
    "the same box in every step": (FILE, "(seed, step, row, _BOX_KEY)", "(seed, 0, row, _BOX_KEY)"),
    "boxes of air are taken": (FILE, "for _ in range(_DRAWS)", "for _ in range(1)"),
    "maps of the file stay open": (
        FILE,
        "mapped, volume = self._map(row)",
        "mapped, volume = self.__dict__.setdefault(row, self._map(row))",
    ),
}


def noise(shape: tuple[int, ...], dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(list(shape)).integers(0, np.iinfo(dtype).max, (1, *shape), dtype)


@pytest.fixture
def volumes(tmp_path: Path) -> StoredVolumes:
    return in_one_file(tmp_path / "images.npy", [noise(shape) for shape in SHAPES], PATCH)


def test_volumes_of_any_shapes_are_read_back(volumes: StoredVolumes) -> None:
    assert volumes.shape == (4, 1, *PATCH)
    for row, shape in enumerate(SHAPES):
        np.testing.assert_array_equal(volumes[row], noise(shape))
        volumes.check(row)


@pytest.mark.parametrize("shape", [*SHAPES, (64, 64, 64), (65, 127, 21)])
@pytest.mark.parametrize("patch", [PATCH, (16, 16, 9)])
def test_windows_lie_as_those_of_monai_with_half_overlap(shape: tuple[int, int, int], patch: tuple[int, int, int], tmp_path: Path) -> None:
    volume = noise(shape)
    windows = in_one_file(tmp_path / "images.npy", [noise((20, 20, 20)), volume, noise((20, 20, 20))], patch).windows
    of_monai = dense_patch_slices(shape, patch, _get_scan_interval(shape, patch, 3, [0.5] * 3))
    expected = np.stack([volume[:, *place] for place in of_monai])
    numbers = windows.starts[1] + np.arange(windows.sizes[1])
    np.testing.assert_array_equal(windows[numbers], expected)
    np.testing.assert_array_equal(cut_windows(volume, patch), expected)
    assert len(windows) == windows.sizes.sum() == windows.shape[0]


def test_a_box_is_a_function_of_seed_step_and_row(volumes: StoredVolumes) -> None:
    rows = np.array([3, 1, 2])
    boxes = volumes.draw(rows, seed=1, step=5)
    assert boxes.shape == (3, 1, 20, 24, 12)  # 1.2 times the patch
    np.testing.assert_array_equal(boxes[1], volumes.draw(np.array([1]), 1, 5)[0])
    np.testing.assert_array_equal(boxes, pickle.loads(pickle.dumps(volumes)).draw(rows, 1, 5))  # noqa: S301 - as a worker gets it
    for seed, step in ((2, 5), (1, 6)):
        assert (volumes.draw(rows, seed, step) != boxes).any(axis=(1, 2, 3, 4))[1:].all()


def test_boxes_begin_everywhere_equally_often_and_never_leave_the_volume(tmp_path: Path) -> None:
    shape, edge = (26, 20, 20), 20
    places = np.stack(np.broadcast_arrays(*np.ogrid[: shape[0], : shape[1], : shape[2]])).astype(np.uint16) * 1000 + 1
    volumes = in_one_file(tmp_path / "images.npy", [places[:1]], (16, 16, 16))
    starts = np.array([volumes.draw(np.array([0]), 0, step)[0, 0, :, 0, 0].astype(int) // 1000 for step in range(700)])
    np.testing.assert_array_equal(starts[:, -1] - starts[:, 0], edge - 1)
    assert np.bincount(starts[:, 0], minlength=7).min() > 60  # of 100 at each of seven places


def test_a_volume_that_is_smaller_than_the_box_lies_in_its_middle_among_zeros(tmp_path: Path) -> None:
    volume = noise((16, 30, 17), np.uint8) | 1
    volumes = in_one_file(tmp_path / "images.npy", [volume], (16, 16, 16))
    (box,) = volumes.draw(np.array([0]), 0, 0)
    inside = np.zeros(box.shape, bool)
    inside[:, 2:18, :, 1:18] = True
    np.testing.assert_array_equal(box > 0, inside)
    assert any((box[:, 2:18, :, 1:18] == volume[:, :, first : first + 20]).all() for first in range(11))


def test_boxes_of_air_are_drawn_again(tmp_path: Path) -> None:
    volume = np.full((1, 60, 20, 20), 3, np.uint8)
    volume[:, :14] = noise((14, 20, 20), np.uint8)
    volumes = in_one_file(tmp_path / "images.npy", [volume], (16, 16, 16))
    shown = np.mean([volumes.draw(np.array([0]), 0, step).std() > 20 for step in range(300)])
    at_once = 13 / 41  # of all places, those that begin within the noise, but for its last slice
    assert abs(shown - (1 - (1 - at_once) ** 4)) < 0.08


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_are_equal_whoever_makes_them(volumes: StoredVolumes, workers: int) -> None:
    batches = Batches(volumes, np.arange(4), None, seed=0, batch_size=2)
    for step, batch in enumerate(Loader(batches, 5, workers=workers)):
        np.testing.assert_array_equal(batch.views[0].numpy(), volumes.draw(batch.rows.numpy(), 0, step))


def test_the_views_of_a_step_show_the_same_part_of_the_volume(tmp_path: Path) -> None:
    """The three channels say where each voxel lies, so the ends of a view tell its box."""
    from medssl import plugins
    from medssl.views import executors

    shape, recipe = (90, 80, 100), plugins.find("views.recipes", "volume_shape")
    places = np.stack(np.broadcast_arrays(*np.ogrid[: shape[0], : shape[1], : shape[2]])).astype(np.uint16) * 100
    volumes = in_one_file(tmp_path / "images.npy", [places] * 2, (32, 32, 32))
    operations = recipe.build(recipe.Config(rotation_p=0))
    batches = Batches(volumes, np.arange(2), executors.make("albumentations", operations, (32, 32, 32)), seed=0, batch_size=2)
    outer, shares = np.full(3, np.inf), []
    for step in range(40):
        views = batches[step].views
        for one, other in zip(*(np.round(view.numpy() * 65535 / 100) for view in views), strict=True):
            low, high = (np.stack([of(view.reshape(3, -1), axis=1) for view in (one, other)]) for of in (np.min, np.max))
            common = np.clip(high.min(0) - low.max(0) + 1, 0, None).prod()
            shares.append(common / (high - low + 1).prod(axis=1).min())
            assert (high.max(0) - low.min(0) < 39).all(), "both views are within one box of 39 voxels"
            outer = np.minimum(outer, low.min(0))
    assert min(shares) > 0.2 and (outer < 20).all()


def test_a_damaged_volume_is_found_where_it_is_read_as_a_whole(volumes: StoredVolumes) -> None:
    with volumes.file.open("r+b") as file:
        file.seek(-4, 2)
        file.write(bytes(4))
    volumes.check(0)
    with pytest.raises(UserError, match="row 3 are not those that were prepared"):
        volumes.check(3)


def resident() -> float:
    """Megabytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_a_store_of_40_gigabytes_opens_at_once_and_20_steps_need_no_more_memory_than_one(tmp_path: Path) -> None:
    """A real store of small volumes whose file is lengthened by a hole, and whose table says that the volumes are large. All boxes are
    zero, so they are drawn four times."""
    store = enlarge(small_store(tmp_path), (8000, 512, 512))
    file = (store / "images.npy").stat()
    assert file.st_size > 40e9 and file.st_blocks * 512 < 1e7
    begin = time.monotonic()
    opened = Store.open(store)
    assert time.monotonic() - begin < 2
    batches = Batches(opened.images, np.arange(len(opened.table)), None, seed=0, batch_size=8)
    assert batches[0].rows.sum() > 0
    before, most = resident(), 0.0
    for step in range(1, 21):
        assert not batches[step].views[0].any()
        most = max(most, resident() - before)
    assert most < 20  # eight boxes of 39 x 39 x 39 voxels are 0.9, and the pages they lie in 12; of all steps 1000
