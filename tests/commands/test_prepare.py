"""`medssl prepare` as a process: what it writes, how it ends, and that no interruption changes what it makes."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.__main__ import main
from medssl.commands.pretrain import pretrain
from medssl.errors import UserError

IMAGES = 900  # eight chunks of 128 at most
SETTINGS = ("--preset", "medmnist_cpu", "--set", "data.size=16")
STORED = ("images.npy", "table.parquet", "skipped.csv", "card.json", "audit.json", "contact_sheet.png")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 pictures of two classes; three of them are broken."""
    root = tmp_path_factory.mktemp("many")
    draw = np.random.default_rng(0)
    for name in ("normal", "sick"):
        (root / name).mkdir()
    for number in range(IMAGES):
        file = root / ("normal", "sick")[number % 2] / f"{number:03}.png"
        Image.fromarray(draw.integers(0, 256, (24, 24), np.uint8)).save(file)
        if number in (5, 400, 899):
            file.write_bytes(file.read_bytes()[:100])
    return root


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site key that every run of this file shares."""
    file = tmp_path_factory.mktemp("key") / "site.key"
    file.write_bytes(bytes(range(32)))
    return file


def environment(cache: Path, key: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MEDSSL_CACHE": str(cache), "MEDSSL_KEY_FILE": str(key)}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "medssl", *map(str, arguments)]


def finished(cache: Path, key: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment(cache, key), cwd=key.parent, capture_output=True, text=True, check=False, timeout=120
    )


def stopped(cache: Path, key: Path, number: signal.Signals, when: Callable[[], bool], *arguments: str | Path) -> tuple[int, str]:
    """Starts the command, sends it the signal once `when()` says so, and returns its exit code and what it said."""
    process = subprocess.Popen(
        command(*arguments), env=environment(cache, key), cwd=key.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and not when() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def chunks(cache: Path) -> list[Path]:
    return sorted(cache.glob("stores/*.chunks/*.chunk"))


def store_in(cache: Path) -> Path:
    (store,) = (folder for folder in (cache / "stores").iterdir() if "." not in folder.name)  # a killed one leaves its own for a day
    return store


@pytest.fixture(scope="module")
def calm(many: Path, key: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The cache of a preparation that nobody disturbed, and what it said."""
    cache = tmp_path_factory.mktemp("calm")
    done = finished(cache, key, "prepare", "--data", many, *SETTINGS)
    assert done.returncode == 0, done.stderr
    return cache, done


def assert_same(cache: Path, calm: Path) -> None:
    ours, expected = store_in(cache), store_in(calm)
    assert ours.name == expected.name
    for name in STORED:
        assert (ours / name).read_bytes() == (expected / name).read_bytes(), name


def left_running(cache: Path) -> list[str]:
    """The processes that were started with that cache and still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(cache).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:  # it has just ended, or is another user's
            continue
    return found


def test_it_says_what_was_found_and_leaves_store_audit_and_contact_sheet(calm) -> None:
    cache, done = calm
    store = store_in(cache)
    for sentence in (
        "897 used of 900 found (folder)",
        "3 left out: truncated (a fault)",
        f"{'normal':10}{449:>9}",
        f"{'sick':10}{448:>9}",
        f"{store}",
    ):
        assert sentence in done.stdout
    settings = json.loads((store / "card.json").read_text())["settings"]
    assert f"stored as {settings['size']} x {settings['size']} pixels, grey, window {settings['window']}\n" in done.stdout
    assert json.loads((store / "audit.json").read_text())["images"] == {"found": 900, "used": 897, "skipped": {"truncated": 3}}
    with Image.open(store / "contact_sheet.png") as sheet:
        assert sheet.size[0] == 8 * 128
    with (cache / "private" / f"{store.name}-skipped.csv").open() as table:
        assert [row["file"] for row in csv.DictReader(table)] == ["normal/400.png", "sick/005.png", "sick/899.png"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--data", "nowhere"), "nowhere"),
        (("--data", "{many}", "--shard", "3/2"), "--shard 3/2"),
        (("--data", "{many}", "--shard", "half"), "3/16"),
        (("--data", "{many}", "--set", "train.lr=1"), "train belongs to pretrain"),
        (("--data", "{many}", "--set", "data.sise=16"), "'size'"),
        (("--data", "{many}", "--preset", "medmnist_cpu", "--out", "{many}"), "is not a complete store"),
    ],
)
def test_wrong_input_ends_with_2_and_one_message_before_anything_is_written(
    arguments: tuple[str, ...],
    expected: str,
    many: Path,
    key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment(tmp_path, key).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["medssl", "prepare", *(argument.format(many=many) for argument in arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2
    assert expected in said.err
    assert said.err.count("error: ") == 1
    assert "Traceback" not in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_ends_with_3_and_the_same_command_goes_on_without_reading_again(many: Path, key: Path, calm, tmp_path: Path) -> None:
    """The files of the chunks that are done are spoilt before it goes on, of the same size and time, so that nothing tells."""
    data = tmp_path / "data"
    subprocess.run(["cp", "-a", many, data], check=True)  # noqa: S607
    cache, arguments = tmp_path / "cache", ("prepare", "--data", data, *SETTINGS)
    code, said = stopped(cache, key, signal.SIGINT, lambda: len(chunks(cache)) >= 2, *arguments)
    assert (code, said.splitlines()[-1]) == (
        3,
        "warning: Stopped. The prepared images are kept, and the same command continues with the others.",
    )
    done = len(chunks(cache))
    assert 2 <= done < 8
    for file in sorted(data.rglob("*.png"))[: 128 * done]:
        found = file.stat()
        file.write_bytes(bytes(found.st_size))
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert finished(cache, key, *arguments).returncode == 0
    assert (store_in(cache) / "images.npy").read_bytes() == (store_in(calm[0]) / "images.npy").read_bytes()


@pytest.mark.slow
@pytest.mark.fault("R25")
def test_killed_three_times_it_makes_the_same_store_and_leaves_no_process_behind(many: Path, key: Path, calm, tmp_path: Path) -> None:
    arguments, codes = ("prepare", "--data", many, *SETTINGS), []
    for pause in (random.SystemRandom().uniform(0, 0.1) for _ in range(3)):
        before = len(chunks(tmp_path))

        def when(before: int = before, pause: float = pause) -> bool:
            if len(chunks(tmp_path)) <= before:
                return False
            time.sleep(pause)
            return True

        codes.append(stopped(tmp_path, key, signal.SIGKILL, when, *arguments)[0])
    assert codes.count(-signal.SIGKILL) >= 2, codes
    deadline = time.monotonic() + 10
    while (running := left_running(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running
    assert finished(tmp_path, key, *arguments).returncode == 0
    assert_same(tmp_path, calm[0])


@pytest.mark.slow
def test_shards_on_two_machines_join_to_the_store_of_one(many: Path, key: Path, calm, tmp_path: Path) -> None:
    for shard, records in (("1/2", 4 * 128), ("2/2", IMAGES - 4 * 128)):
        done = finished(tmp_path, key, "prepare", "--data", many, *SETTINGS, "--shard", shard)
        assert (done.returncode, f"shard     {shard}: {records} images" in done.stdout) == (0, True), done.stderr
    assert len(chunks(tmp_path)) == 8
    assert finished(tmp_path, key, "prepare", "--data", many, *SETTINGS).returncode == 0
    assert_same(tmp_path, calm[0])


@pytest.mark.slow
def test_a_store_of_ones_own_is_pretrained_on_as_it_was_prepared(
    pictures: Path, small: list[str], key: Path, tmp_path: Path, reporter
) -> None:
    store, settings = tmp_path / "mine", [*small, "train.steps=2", "tracking.mlflow=false"]
    done = finished(tmp_path / "a", key, "prepare", "--data", pictures, *SETTINGS, "--out", store)
    assert (done.returncode, f"next      medssl pretrain --data {store}" in done.stdout) == (0, True), done.stderr
    again = finished(tmp_path / "a", key, "prepare", "--data", store)
    assert (again.returncode, "is prepared already" in again.stderr) == (2, True)
    flags = (part for item in settings for part in ("--set", item))
    trained = finished(tmp_path / "b", key, "pretrain", "--data", store, "--out", tmp_path / "run", *flags)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run/encoder.safetensors").is_file()
    with pytest.raises(UserError, match=r"was prepared with data\.size = 16, not 32"):
        pretrain(reporter(), data=str(store), out=tmp_path / "other", sets=[*settings, "data.size=32"])
