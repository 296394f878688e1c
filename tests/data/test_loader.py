"""Batches and views are functions of (seed, step, row, view), of nothing else."""

import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl.data.loader import Batches, Loader, workers_for
from medssl.errors import UserError
from medssl.types import Batch
from medssl.views import executors
from medssl.views.recipes import chest_xray

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 1, 32, 32), np.uint8)
ROWS = np.arange(1, 23)
VIEWS = executors.make("auto", chest_xray.build(chest_xray.Config()), 24)


def loader(
    images: np.ndarray = IMAGES,
    make_views=VIEWS,
    steps: int = 8,
    batch_size: int = 5,
    seed: int = 7,
    start: int = 0,
    workers: int = 0,
    **options,
) -> Loader:
    return Loader(Batches(images, ROWS, make_views, seed, batch_size, **options), steps, start, workers)


def stored(image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    return image


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        a.step == b.step and torch.equal(a.rows, b.rows) and all(torch.equal(u, v) for u, v in zip(a.views, b.views, strict=True))
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.fault("R23")
def test_two_workers_two_epochs_and_two_views_all_differ() -> None:
    one_picture = np.repeat(IMAGES[:1], len(IMAGES), axis=0)  # so that nothing but the draws can differ
    batches = list(loader(images=one_picture, workers=2))
    views = [view.numpy().tobytes() for batch in batches for pair in batch.views for view in pair]
    assert len(views) == 2 * 4 * 2 * 5  # two epochs of four batches, two views, five samples
    assert len(set(views)) == len(views)


def test_each_view_has_its_own_key() -> None:
    keys: list[tuple[int, ...]] = []
    batches = list(loader(make_views=lambda image, key: keys.append(key) or image))
    assert set(keys) == {(7, batch.step, row, view) for batch in batches for row in batch.rows.tolist() for view in (0, 1)}
    assert len(keys) == len(set(keys))


@pytest.mark.fault("R22")
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    assert same(list(loader(workers=workers)), list(loader(workers=0)))


def test_on_one_core_two_workers_are_one_and_torch_warns_of_nothing(monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert same(list(loader(workers=2, steps=2)), list(loader(steps=2)))


@pytest.mark.parametrize("start", [3, 4, 7])
@pytest.mark.parametrize("workers", [0, 2])
def test_starting_later_gives_the_batches_that_would_have_come(start: int, workers: int) -> None:
    assert same(list(loader(start=start, workers=workers)), list(loader())[start:])


def test_another_seed_gives_another_order_and_other_views() -> None:
    one, other = (next(iter(loader(seed=seed))) for seed in (0, 1))
    assert not torch.equal(one.rows, other.rows)
    assert not torch.equal(one.views[0], other.views[0])


def test_an_epoch_shows_each_row_at_most_once_and_the_next_has_another_order() -> None:
    batches = list(loader(steps=8))
    assert loader().steps_per_epoch == 4  # 22 rows in batches of 5, two rows are left out
    epochs = [torch.cat([batch.rows for batch in batches[first : first + 4]]).tolist() for first in (0, 4)]
    for rows in epochs:
        assert len(set(rows)) == 20
        assert set(rows) <= set(ROWS.tolist())
    assert epochs[0] != epochs[1]


def test_views_and_labels_belong_to_their_rows() -> None:
    labels = np.arange(23) % 3
    for batch in loader(make_views=stored, labels=labels, n_views=1):
        assert len(batch.views) == 1
        np.testing.assert_array_equal(batch.views[0], IMAGES[batch.rows])
        assert batch.labels is not None
        np.testing.assert_array_equal(batch.labels, labels[batch.rows])


@pytest.mark.parametrize(("dtype", "views_dtype"), [(np.uint8, torch.uint8), (np.uint16, torch.float32)])
def test_eight_bits_stay_bytes_and_sixteen_become_floats(dtype: type, views_dtype: torch.dtype) -> None:
    batch = next(iter(loader(images=IMAGES.astype(dtype))))
    assert {view.dtype for view in batch.views} == {views_dtype}
    assert {tuple(view.shape) for view in batch.views} == {(5, 1, 24, 24)}


def test_iterating_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    next(iter(loader()))
    assert torch.equal(before, torch.get_rng_state())


def test_a_memory_map_travels_to_a_worker_as_its_path(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((500, 1, 64, 64), np.uint8))
    batches = loader(images=np.load(tmp_path / "images.npy", mmap_mode="r"))._batches
    sent = pickle.dumps(batches)
    assert len(sent) < 10_000
    received = pickle.loads(sent)  # noqa: S301
    assert isinstance(received.images, np.memmap)
    assert same([received[3]], [batches[3]])


@pytest.mark.parametrize(("batch_size", "remedy"), [(23, "from 2 to 22"), (1, "from 2 to 22"), (0, "from 2 to 22")])
def test_a_batch_that_cannot_be_filled_is_refused_with_the_size_that_can(batch_size: int, remedy: str) -> None:
    with pytest.raises(UserError, match=remedy):
        loader(batch_size=batch_size)


def test_a_batch_may_be_all_rows() -> None:
    assert sorted(next(iter(loader(batch_size=22))).rows.tolist()) == ROWS.tolist()


def test_one_image_is_refused() -> None:
    with pytest.raises(UserError, match="At least 2"):
        Batches(IMAGES, np.array([0]), VIEWS, 0, 2)


def killed(image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)
    return image


@pytest.mark.fault("R11")
def test_a_worker_that_dies_ends_the_run_with_a_remedy() -> None:
    with pytest.raises(UserError, match="workers=0"):
        next(iter(loader(make_views=killed, workers=1)))


def hung(image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    time.sleep(600)
    return image


@pytest.mark.fault("R11")
def test_a_worker_that_hangs_ends_the_run_with_a_remedy_and_is_ended_itself(monkeypatch) -> None:
    monkeypatch.setattr("medssl.data.loader._HUNG_SECONDS", 1)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"timed out.*workers=0"):
        next(iter(loader(make_views=hung, workers=1)))
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


def signalled(image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        os.kill(os.getpid(), number)
    return image


@pytest.mark.fault("R3")
def test_workers_serve_on_after_ctrl_c_and_after_signals_to_all_processes_of_a_job() -> None:
    assert len(list(loader(make_views=signalled, workers=1, steps=2))) == 2


def broken(image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_in_the_views_stays_a_bug(workers: int) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        next(iter(loader(make_views=broken, workers=workers)))


MB = 2**20


@pytest.mark.fault("R12")
@pytest.mark.parametrize(
    ("requested", "cores", "batch_mb", "shm_mb", "workers"),
    [
        (-1, 1, 25, 1000, 0),
        (-1, 2, 25, 1000, 0),
        (-1, 8, 25, 1000, 7),
        (-1, 64, 25, 4000, 12),
        (2, 3, 25, 1000, 2),  # what the user asks for
        (3, 2, 25, 1000, 2),  # as many as there are cores
        (0, 8, 25, 1000, 0),
        (4, 8, 10, 64, 2),  # Docker's 64 MB: two batches each, one on its way, 50 of 64 MB
        (4, 8, 25, 64, 0),
        (-1, 8, 100, 64, 0),
    ],
)
def test_workers_fit_the_cores_and_the_shared_memory(requested: int, cores: int, batch_mb: int, shm_mb: int, workers: int) -> None:
    number, note = workers_for(requested, cores, batch_mb * MB, shm_mb * MB)
    assert number == workers
    assert bool(note) == (shm_mb == 64)


def test_the_note_names_a_shared_memory_that_is_enough() -> None:
    note = workers_for(4, 8, 100 * MB, 64 * MB)[1]
    assert "--shm-size=1g" in note
    assert workers_for(4, 8, 100 * MB, 2**30) == (4, "")
