"""The acceptance on a GPU runs with what is likely to be there, writes each result at once, and tells what is wrong."""

import importlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / "benchmarks/acceptance/wheels.txt"
THERE = ("torch", "torchvision", "timm", "pandas", "pyarrow", "scikit-learn")
CALLS = ("right", "fast", "learns")
Row = dict[str, Any]

HIDE = """
import importlib.util, json, os, sys
absent = set(json.loads(os.environ["ABSENT"]))
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
there = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in absent else there(name, package)
"""  # as sitecustomize.py, it also holds in the processes that read images

ALL_CALLS = """
import sys
from acceptance.__main__ import main
out, archive = sys.argv[1:]
for call in ("right", "fast", "learns"):
    main([call, "--tiny", "--device", "cpu", "--out", f"{out}/{call}.jsonl", "--cifar", archive])
"""

FAULTS = """
import json, sys
out = sys.argv[1]
import one_gpu
from acceptance.__main__ import main
from acceptance.subjects import NETWORKS
options = ["--tiny", "--device", "cpu", "--out"]
main(["fast", *options, f"{out}/beside.jsonl", "--only", "beside lightly"])
counted = one_gpu.count(NETWORKS[0])
print(json.dumps([counted.step.total("operations"), one_gpu.counts([counted])]))

from medssl.methods.pnnclr import PNNCLR
from medssl.nn import SupportSet
from medssl.views.torch_executor import ViewMaker
nearest, forward = SupportSet.nearest, PNNCLR.forward
def beside_it(self, z, tags, k=1):
    return (nearest(self, z, tags, k) + 1) % len(self.rows)
def counts_too_early(self, batch):
    self.support.pushed += 1
    return forward(self, batch)
def fails(self, images, keys):
    raise RuntimeError("no kernel image is available")
SupportSet.nearest, PNNCLR.forward, ViewMaker.views = beside_it, counts_too_early, fails
sys.exit(main(["right", *options, f"{out}/faults.jsonl", "--only", "views natural 32", "bad step", "look-up"]))
"""


@pytest.fixture
def acceptance(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """acceptance("record"): a module of benchmarks/acceptance."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return lambda name: importlib.import_module(f"acceptance.{name}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Row]]:
    """The lines of all three calls, without any package but torch and a few others."""
    out = tmp_path_factory.mktemp("out")
    archive = archive_of_cifar(out / "cifar-10-python.tar.gz", images_per_class=4)
    (out / "sitecustomize.py").write_text(HIDE, "utf-8")
    absent = {"ABSENT": json.dumps(sorted(absent_modules())), "PYTHONPATH": os.pathsep.join([str(out), os.environ.get("PYTHONPATH", "")])}
    python("-c", ALL_CALLS, str(out), str(archive), env=os.environ | absent)
    return {call: lines(out / f"{call}.jsonl") for call in CALLS}


def python(*line: str, env: Mapping[str, str] | None = None, code: int = 0) -> str:
    """The standard output of a program in the folder of benchmarks, which ends with `code`."""
    folder = ROOT / "benchmarks"
    done = subprocess.run([sys.executable, *line], cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def lines(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def absent_modules() -> set[str]:
    """The modules of all packages here that the six packages, the wheels of the list and their needs do not bring."""
    wheels = [line for line in WHEELS.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    there, todo = set[str](), [*THERE, *wheels]
    while todo:
        name = normal(todo.pop())
        if name not in there:
            there.add(name)
            # A wheel of the list brings nothing but itself: it is installed without what it needs.
            needs = [] if name in wheels else map(Requirement, requirements(name))
            todo += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    found = metadata.packages_distributions()
    return {module for module, names in found.items() if not there & set(map(normal, names))} - {"medssl", "_virtualenv"}


def requirements(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # of another system
        return []


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def archive_of_cifar(file: Path, images_per_class: int) -> Path:
    """As the authors' archive: dictionaries that name numpy as its first version did."""
    random, labels = np.random.default_rng(0), list(range(10)) * images_per_class
    with tarfile.open(file, "w:gz") as archive:
        for name in ("data_batch_1", "test_batch"):
            data = random.integers(0, 256, (len(labels), 3072), np.uint8)
            content = pickle.dumps({b"labels": labels, b"data": data}, protocol=2).replace(b"numpy._core.", b"numpy.core.")
            add(archive, f"cifar-10-batches-py/{name}", content)
    return file


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_each_result_is_on_the_disk_before_the_next_measurement_and_an_error_ends_none(acceptance, tmp_path):
    file = tmp_path / "new" / "gpu.jsonl"
    record = acceptance("record").Record(file, limit=100, only=["a", "b", "c"])
    seen: list[int] = []

    def work(row: Row) -> Row:
        seen.append(len(lines(file)) if file.exists() else 0)
        return row

    record.measure("a", work, {"loss": float("nan"), "ok": True})
    record.measure("b", lambda: 1 / 0)
    record.measure("other", work, {})
    record.measure("c", work, {"ok": False})
    record.finish()
    rows = lines(file)
    assert seen == [0, 2] and [row["what"] for row in rows] == ["a", "b", "c", "end"]
    assert rows[0]["loss"] == "nan" and "ZeroDivisionError" in rows[1]["error"] and rows[1]["where"][-1].startswith("test_benchmarks.py:")
    assert rows[-1]["failed"] == ["b", "c"] and rows[-1]["not_begun"] == []


def test_no_measurement_begins_after_the_limit(acceptance, tmp_path):
    record = acceptance("record").Record(tmp_path / "gpu.jsonl", limit=-1)
    record.measure("a", lambda: {"never": 1})
    record.finish()
    assert [row["what"] for row in lines(tmp_path / "gpu.jsonl")] == ["end"] and record.skipped == ["a"]


def test_both_archives_of_cifar_give_the_same_kind_of_images_and_labels(acceptance, tmp_path):
    cifar, first = acceptance("cifar"), archive_of_cifar(tmp_path / "batches.tar.gz", images_per_class=3)
    data = cifar.read(first, limit=2)
    assert data.images.shape == (40, 3, 32, 32) and np.bincount(data.labels).tolist() == [4] * 10
    assert data.train.tolist() == list(range(20)) and data.test.tolist() == list(range(20, 40))
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3072), np.uint8)
    assert np.array_equal(data.images[0], pixels[0].reshape(3, 32, 32)), "red, green and blue planes follow one another"
    with tarfile.open(tmp_path / "pictures.tar", "w") as archive:
        for place, shade in (("train/cat", 10), ("train/ape", 20), ("test/cat", 30), ("extra/cat", 40)):
            picture = io.BytesIO()
            Image.new("RGB", (32, 32), (shade, 0, 255)).save(picture, "PNG")
            add(archive, f"cifar/{place}/1.png", picture.getvalue())
    data = cifar.read(tmp_path / "pictures.tar")
    assert data.images[:, :, 5, 5].tolist() == [[10, 0, 255], [20, 0, 255], [30, 0, 255]]
    assert data.labels.tolist() == [1, 0, 1] and data.train.tolist() == [0, 1] and data.test.tolist() == [2]


def test_an_archive_that_would_run_a_program_is_refused(acceptance, tmp_path):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        add(archive, "data_batch_1", b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(pickle.UnpicklingError, match=r"os\.system is no part of an array"):
        acceptance("cifar").read(tmp_path / "bad.tar")


@pytest.mark.slow
def test_right_finds_no_difference_between_a_cpu_and_itself(results):
    begin, *rows, end = results["right"]
    named = {row["what"]: row for row in rows}
    assert begin["call"] == "right" and begin["commit"] not in ("", "unknown") and end["failed"] == [] == end["not_begun"]
    assert sum("ok" in row for row in rows) == len([row for row in rows if not row["what"].startswith("host waits")]) >= 11
    assert [row["at_s"] for row in rows] == sorted(row["at_s"] for row in rows)
    assert named["resume"]["device_then_device"] == named["resume"]["never_interrupted"] == 0
    assert named["bad step"]["changed"] == [] and named["look-up"]["same_nearest"] == 1
    losses = named["loss and gradient pnnclr"]
    assert losses["fp32"] == {"loss": 0, "gradient": 0} and 1 < losses["loss"] < 6, "about log(8), as the network is random"
    assert 0 < losses["bf16"]["loss"] < 0.1 and losses["bf16"] == losses["bf16_of_the_CPU"]
    memory = named["memory of the support set"]
    assert 0 < memory["look_up_MiB"] < memory["whole_product_MiB"] / 2 and memory["set_MiB"] == pytest.approx(65_536 * (32 + 8) * 4 / 2**20)
    assert named["out of memory"]["fits"] == 8 and "--set train.batch_size=8" in named["out of memory"]["message"]


@pytest.mark.slow
def test_fast_gives_rates_that_fit_one_another_and_names_what_takes_the_time(results):
    _, *rows, end = results["fast"]
    named = {row["what"]: row for row in rows}
    assert end["failed"] == [] and named["beside lightly resnet18 16 px"]["skipped"] == "lightly is not installed"
    peak = named["card"]["TFLOP_per_s"]
    for network in ("resnet18 16 px", "vit_small_patch16_224 16 px"):
        row = named[f"training {network}"]
        for part, images in (("whole", 4), ("ceiling", 4), ("bare", 4), ("views", 8)):
            assert row[part]["images_per_s"] * row[part]["ms"] == pytest.approx(1000 * images, rel=1e-3)
        assert row["of_ceiling"] == pytest.approx(row["ceiling"]["ms"] / row["whole"]["ms"], rel=1e-3)
        assert row["MFU"] == pytest.approx(row["TFLOP_per_step"] / row["whole"]["ms"] * 1e3 / peak, rel=1e-3)
    profile = named["profile resnet18 16 px"]
    shares = [part["share"] for part in profile["longest"].values()]
    assert any("convolution" in name for name in profile["longest"]) and shares == sorted(shares, reverse=True) and sum(shares) <= 1
    assert 0.1 < profile["busy"] <= 1.2 and profile["launches_per_step"] > 100
    assert {row["changes"]["feed"] for row in rows if row["what"].startswith("variant")} == {8, 16}
    assert named["monitors"]["checkpoint_MB"] > 1 and named["look-up"]["medssl_ms"] > 0


@pytest.mark.slow
def test_learns_gives_an_accuracy_after_each_part_of_the_time(results):
    _, data, *rows, end = results["learns"]
    assert data["training_images"] == data["test_images"] == 40 and end["failed"] == []
    for method in ("pnnclr", "nnclr", "simclr"):
        found = [row for row in rows if row["what"] == f"accuracy {method}"]
        assert len(found) >= 2 and found[-1]["step"] == found[-1]["total_steps"]
        assert all(a["training_minutes"] < b["training_minutes"] for a, b in pairwise(found))
        assert all(0 <= row["knn_top1"] <= 1 and row["loss"] > 0 for row in found)


@pytest.mark.slow
def test_right_reports_planted_faults_and_the_arithmetic_agrees_with_the_sum_by_hand(tmp_path):
    said = python("-c", FAULTS, str(tmp_path), code=1)
    *rows, end = lines(tmp_path / "faults.jsonl")
    named = {row["what"]: row for row in rows}
    assert sorted(end["failed"]) == ["bad step", "look-up", "views natural 32 px 8 bits"]
    assert named["bad step"]["changed"] == ["support.pushed"] and named["look-up"]["same_nearest"] < 0.1
    assert "no kernel image is available" in named["views natural 32 px 8 bits"]["error"]
    beside = lines(tmp_path / "beside.jsonl")[1]
    assert (
        beside["times_whole"] == pytest.approx(beside["medssl_whole"] / beside["lightly_whole"], rel=1e-3)
        and beside["workers_of_lightly"] == 0
    )

    operations, table = json.loads(next(line for line in said.splitlines() if line.startswith("[")))
    # ResNet-18 at 32 pixels, multiplications of one view: the first convolution, then four stages
    first, stages = 32**2 * 27 * 64, 32**2 * 4 * 576 * 64 + 3 * (16**2 * (576 * 128 + 3 * 1152 * 128 + 64 * 128))
    projector, predictor = 512 * 2048 + 2048 * 2048 + 2048 * 256, 2 * 256 * 2048
    # Two views forward and twice that backward (the images get no gradient); two views of the target network; two look-ups
    of_image = 8 * (first + stages + projector) - 2 * first + 6 * predictor + 2 * 16_384 * 256
    assert operations == pytest.approx(1024 * 2 * of_image, rel=2e-3)
    row = "| resnet18 | 32 | 1024 | 9.00 |"
    assert table.splitlines()[2].startswith(row) and row in (ROOT / "docs/explanation/scale.md").read_text("utf-8")
