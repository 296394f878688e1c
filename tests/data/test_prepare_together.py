"""Several processes on one cache, failures of the machine that pass, and disks that are nearly full."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.config import Data
from medssl.data import prepare as prepare_module
from medssl.data.prepare import Shard, prepare, prepare_shard
from medssl.data.store import Store, writer
from medssl.data.workers import pool
from medssl.errors import ReadError, UserError
from medssl.types import Source

MakeSource = Callable[..., Source]
DATA = Data(size=20, max_bad_fraction=0.5)
ANOTHER = """
import sys
from pathlib import Path
from medssl.config import Data
from medssl.data.prepare import prepare
from medssl.types import Record, Source

if __name__ == "__main__":
    root, cache = Path(sys.argv[1]), Path(sys.argv[2])
    records = tuple(Record(f"doe_{n}.png", "raster") for n in range(5))
    store = prepare(Source("folder", root, records), Data(size=20), cache, on_wait=print)
    print(store.path.name, len(store.images))
"""


@pytest.mark.slow
@pytest.mark.fault("R19")
def test_several_processes_at_once_make_one_store_and_each_of_them_gets_it(make_source: MakeSource, tmp_path: Path) -> None:
    root = make_source().root
    (tmp_path / "another.py").write_text(ANOTHER)
    command = [sys.executable, str(tmp_path / "another.py"), str(root), str(tmp_path / "cache")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=100) for process in started]
    assert [process.returncode for process in started] == [0] * 3, told
    (name,) = {out.splitlines()[-1] for out, _ in told}
    assert sum("another process prepares the same images" in out for out, _ in told) >= 1
    assert [path.name for path in (tmp_path / "cache/stores").iterdir()] == [name.split()[0]]
    assert name.endswith(" 5")


COMMAND = """
import sys, time
from pathlib import Path
from medssl.__main__ import main
from medssl.data import prepare
from medssl.commands import prepare as command
from medssl.runs import resolve_config

resolve_config._GPU_FILES = ()  # as on a machine without a GPU
make = prepare._make_store
prepare._make_store = lambda *arguments: (print("MADE"), make(*arguments))[1]
Path(sys.argv.pop(1)).touch()
while not Path(sys.argv[1]).exists():
    time.sleep(0.01)
sys.argv.pop(1)
try:
    main()
finally:
    print("heavy:", sorted({"torch", "scipy", "sklearn", "monai", "timm", "mlflow"} & set(sys.modules)))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.fault("R19")
def test_of_eight_commands_at_the_same_moment_one_prepares_and_the_others_wait_without_heavy_libraries(
    make_source: MakeSource, tmp_path: Path
) -> None:
    root, number = make_source().root, 8
    ready = [tmp_path / f"ready{n}" for n in range(number)]
    arguments = [str(tmp_path / "go"), "prepare", "--data", str(root), "--set", "data.size=20"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(file), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "MEDSSL_CACHE": str(tmp_path / "cache")},
        )
        for file in ready
    ]
    while not all(file.exists() for file in ready) and all(process.poll() is None for process in started):
        time.sleep(0.05)
    (tmp_path / "go").touch()
    told = [process.communicate(timeout=500)[0] for process in started]
    assert [process.returncode for process in started] == [0] * number, told
    assert sum("MADE" in out for out in told) == 1
    assert sum("another process prepares the same images" in out for out in told) >= 1
    assert all(out.splitlines()[-1] == "heavy: []" for out in told), told
    (store,) = (tmp_path / "cache/stores").iterdir()
    assert all(store.name in out for out in told) and len(Store.open(store).images) == 5


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """{locator: reason} of files that the machine cannot read, as long as they are in it; and "read" with what was read."""
    failing: dict[str, str] = {}

    def run(make: Any, arguments: Any, items: Any, limits: Any, group_by: Any) -> Iterator[Any]:
        asked: list[Any] = []
        results = pool.run_in_workers(make, arguments, (asked.append(item) or item for item in items), limits, group_by=group_by)
        for number, result in enumerate(results):
            reason = failing.get(asked[number].locator)
            yield ReadError(reason) if reason else result

    monkeypatch.setattr(prepare_module, "run_in_workers", run)
    return failing


@pytest.mark.parametrize("reason", ["unreadable: Permission denied", "timed_out: not read within 30 seconds", "killed: by the system"])
def test_an_image_that_the_machine_could_not_read_is_tried_again(
    make_source: MakeSource, tmp_path: Path, fails: dict[str, str], reason: str, pictures: np.ndarray
) -> None:
    source = make_source()
    fails["doe_2.png"] = reason
    first = prepare(source, DATA, tmp_path / "cache")
    assert first.card["counts"]["skipped"] == {reason.partition(":")[0]: 1}
    made = (first.path / "images.npy").stat().st_ino
    assert (prepare(source, DATA, tmp_path / "cache").path / "images.npy").stat().st_ino == made  # it fails again: nothing is written
    fails.clear()
    assert len(prepare(source, DATA, tmp_path / "cache", retry=False).images) == 4
    again = prepare(source, DATA, tmp_path / "cache")
    assert again.path == first.path
    assert again.card["counts"]["skipped"] == {}
    np.testing.assert_array_equal(again.images[:, 0], pictures)


def test_an_unfinished_preparation_tries_those_images_again_and_no_others(
    make_source: MakeSource, tmp_path: Path, fails: dict[str, str]
) -> None:
    source = make_source(broken=(1,))
    fails["doe_2.png"] = "unreadable: Input/output error"
    prepare_shard(source, DATA, tmp_path / "cache", Shard(1, 1))
    fails |= {"doe_0.png": "crashed: it was read again", "doe_1.png": "crashed: it was read again"}
    del fails["doe_2.png"]
    store = prepare(source, DATA, tmp_path / "cache")
    assert len(store.images) == 4
    assert store.card["counts"]["skipped"] == {"truncated": 1}


def test_what_the_bytes_of_a_file_decide_is_kept(make_source: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(broken=(1,))
    assert prepare(source, DATA, tmp_path / "cache").card["counts"]["skipped"] == {"truncated": 1}
    monkeypatch.setattr(prepare_module, "run_in_workers", lambda *_, **__: pytest.fail("it was read again"))
    assert len(prepare(source, DATA, tmp_path / "cache").images) == 4


@pytest.mark.parametrize(("deep", "free"), [((), 2 * 5 * 400 - 1), ((0,), 2 * 5 * 400)])
def test_a_disk_without_space_is_told_before_images_are_decoded_or_once_their_bits_are_known(
    make_source: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: tuple[int, ...], free: int
) -> None:
    seen: list[int] = []
    source = make_source(deep=deep)
    monkeypatch.setattr("medssl.data.store.chunks._MAX_RECORDS", 1)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(UserError, match=r"need .* GB .* are free .* MEDSSL_CACHE"):
        prepare(source, DATA, tmp_path / "cache", lambda done, _: seen.append(done))
    assert max(seen) == len(deep)


@pytest.mark.parametrize("arguments", [{"spatial_axis": 7}, {"axis": 0}, {"spatial_axis": "x"}])
def test_a_wrong_argument_of_a_transform_is_told_once_before_any_image_is_read(
    make_source: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object]
) -> None:
    monkeypatch.setattr(prepare_module, "run_in_workers", lambda *_, **__: pytest.fail("images were read"))
    wrong = Data.model_validate(DATA.model_dump() | {"transforms": [{"name": "monai.transforms.Flip", **arguments}]})
    with pytest.raises(UserError, match=r"data\.transforms: monai\.transforms\.Flip does not take \{'"):
        prepare(make_source(), wrong, tmp_path / "cache")


def test_a_store_that_can_only_be_read_is_used(make_source: MakeSource, tmp_path: Path, fails: dict[str, str], monkeypatch: Any) -> None:
    source = make_source()
    fails["doe_2.png"] = "unreadable: Permission denied"
    first = prepare(source, DATA, tmp_path / "cache")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(prepare_module, "lock_store", refuse)
    assert prepare(source, DATA, tmp_path / "cache").path == first.path
    assert isinstance(first, Store)
