"""Kept cells: a finished classifier is not fitted twice, and none is taken for another."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from studies import Corner, Noise, a_request
from torch import nn

import medssl
from medssl.data.split import parse_labels
from medssl.evaluate import experiment
from medssl.evaluate.experiment import Experiment, run_experiment
from medssl.evaluate.models import cache
from medssl.evaluate.models.cache import CellCache, CellFit, weights_digest

Count = Callable[[Experiment], int]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    """How many classifiers a study fits."""
    fits: list[str] = []
    for name in ("fit_probe", "fit_knn", "fit_full"):
        real = getattr(experiment, name)
        monkeypatch.setattr(experiment, name, lambda *args, real=real, name=name, **more: fits.append(name) or real(*args, **more))

    def counted(request: Experiment) -> int:
        fits.clear()
        run_experiment(request)
        return len(fits)

    return counted


def small(folder: Path, mode: str = "knn", labels: str = "20pct", draws: int = 1, **more: Any) -> Experiment:
    """One draw of 16 labels: three starts, three cells."""
    return a_request(mode=mode, labels=labels, draws=draws, cells=folder, **more)


def test_a_second_study_fits_nothing_and_finds_the_same(tmp_path: Path, count: Count) -> None:
    for mode, fits in (("linear", 3), ("knn", 3), ("full", 2)):  # the pixels' probe is the same in the full mode
        request = small(tmp_path, mode)
        fresh = run_experiment(replace(request, cells=None))
        assert count(request) == fits
        heard: list[tuple[int, int]] = []
        assert count(request) == 0, mode
        again = run_experiment(request, lambda *progress, heard=heard: heard.append(progress))
        assert again.results.document == fresh.results.document
        assert heard[-1] == (0, 0) and all(done == 0 for done, _ in heard), "what was found is no work, for the time left"
        assert again.exported_fit.tensors.keys() == fresh.exported_fit.tensors.keys() and (mode == "knn" or again.exported_fit.tensors)
        for name, tensor in fresh.exported_fit.tensors.items():
            assert torch.equal(again.exported_fit.tensors[name], tensor), name


def test_another_fraction_or_draw_fits_only_what_is_new(tmp_path: Path, count: Count) -> None:
    assert count(small(tmp_path)) == 3
    assert count(small(tmp_path, labels="20pct,100pct")) == 3
    assert count(small(tmp_path, labels="20pct,100pct", draws=2)) == 4, (
        "another draw of a fifth, for each start, and another random initialisation"
    )
    assert count(small(tmp_path, labels="100pct")) == 0


def heavier(request: Experiment) -> Experiment:
    encoder = Corner()
    encoder.weight.data += 1e-7
    return replace(request, inits={**request.inits, "pretrained": encoder})


def relabelled(request: Experiment) -> Experiment:
    y = request.task.y.copy()
    y[0] = 1 - y[0]  # of a test image
    return replace(request, task=replace(request.task, y=y))


def repainted(request: Experiment) -> Experiment:
    table = request.table.copy()
    table.loc[50, "pixel_hash"] = "another"
    return replace(request, table=table)


def regrouped(request: Experiment) -> Experiment:
    """Every image a patient of its own."""
    return replace(request, task=replace(request.task, patients=np.array([f"p{i}" for i in range(len(request.table))])))


def redrawn(request: Experiment) -> Experiment:
    return replace(request, fractions=parse_labels("30pct"))


def seeded(request: Experiment) -> Experiment:
    return replace(request, seed=1, fractions=parse_labels("100pct"))


def set_to(**settings: Any) -> Callable[[Experiment], Experiment]:
    return lambda request: replace(request, settings=request.settings.model_copy(update=settings))


@pytest.mark.parametrize(
    ("mode", "labels", "change", "fits"),
    [
        ("knn", "20pct", set_to(neighbours=3), 3),
        ("knn", "20pct", heavier, 1),
        ("knn", "20pct", relabelled, 3),
        ("knn", "20pct", repainted, 3),
        ("knn", "100pct", regrouped, 3),
        ("knn", "20pct", redrawn, 3),
        ("knn", "100pct", seeded, 3),
        ("knn", "20pct", set_to(balance=True, steps=5, bootstraps=200), 0),  # nothing of the vote
        ("linear", "20pct", set_to(balance=True), 3),
        ("linear", "20pct", set_to(neighbours=3, lr=0.1), 0),
        ("full", "20pct", set_to(steps=5), 2),
        ("full", "20pct", set_to(lr=0.1), 2),
        ("full", "20pct", set_to(batch_size=4), 2),
        ("full", "20pct", set_to(weight_decay=0.2), 2),
        ("full", "20pct", set_to(early_stopping=False), 2),
        ("full", "20pct", set_to(balance=True), 3),  # the pixels' probe, too
        ("full", "20pct", set_to(layer_decay=0.5), 1),  # random initialisation has none
        ("full", "20pct", set_to(neighbours=3), 0),
        ("full", "20pct", lambda request: replace(request, views="flipped"), 2),
        ("full", "20pct", lambda request: replace(request, precision=torch.bfloat16), 2),
    ],
)
def test_what_a_cell_depends_on_fits_it_anew_and_nothing_else_does(
    tmp_path: Path, count: Count, mode: str, labels: str, change: Callable[[Experiment], Experiment], fits: int
) -> None:
    request = small(tmp_path, mode, labels)
    assert count(request) == 3
    assert count(change(request)) == fits


def test_the_random_start_learns_at_the_full_rate_in_every_layer(tmp_path: Path) -> None:
    # two networks that are no network of timm: a single layer, whose rate is the layers' decay
    request = small(tmp_path, "full", early_stopping=False, lr=0.05)
    same = replace(request, random=lambda _: Corner(), cells=None)
    rows = {
        decay: [cell["test"]["brier"] for cell in run_experiment(set_to(layer_decay=decay)(same)).results.document.to_dict()["cells"]]
        for decay in (1.0, 0.1)
    }
    (ours, random, _), (ours_decayed, random_decayed, _) = rows[1.0], rows[0.1]
    assert ours == random == random_decayed != ours_decayed


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("damage", ["torn", "flipped", "gone"])
def test_a_damaged_cell_is_fitted_again(tmp_path: Path, count: Count, suffix: str, damage: str) -> None:
    request = small(tmp_path, "linear")
    run_experiment(request)
    (file,) = (path for path in tmp_path.glob(f"*{suffix}") if path.with_suffix(".safetensors").is_file())
    intact = file.read_bytes()
    content = bytearray(intact)
    if damage == "torn":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[content.find(b"\x3f")] ^= 1  # in a number's exponent
        file.write_bytes(content)
    else:
        file.unlink()
    assert count(request) == 1
    assert file.read_bytes() == intact, "it is whole again"


def test_a_byte_that_changes_a_number_is_noticed(tmp_path: Path) -> None:
    fit = CellFit(np.array([[0.25, 0.75]]), 1.5, 4, {"weight": torch.ones(1, 2, dtype=torch.float64)})
    kept = CellCache(tmp_path)
    kept.keep({"a": 1}, fit)
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        for place in range(0, len(content), 5):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            found = kept.find({"a": 1}, tensors=True)
            assert found is None or (
                np.array_equal(found.prob, fit.prob)
                and (found.temperature, found.labels) == (1.5, 4)
                and torch.equal(found.tensors["weight"], fit.tensors["weight"])
            ), (file.suffix, place)
        file.write_bytes(content)
    assert kept.find({"a": 1}, tensors=True) is not None and kept.find({"a": 2}, tensors=False) is None


def test_without_a_folder_nothing_is_kept_or_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CellCache(None).keep({}, CellFit(np.zeros((1, 2)), 1.0, 1))
    assert CellCache(None).find({}, tensors=False) is None and not list(tmp_path.iterdir())


def test_networks_with_the_same_weights_but_other_layers_differ() -> None:
    """The small and the medium stem of a ResNet have the same tensors: one pools, one does not."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 2, 3)
    pooled, plain = nn.Sequential(convolution, nn.MaxPool2d(2)), nn.Sequential(convolution, nn.Identity())
    assert weights_digest(pooled) != weights_digest(plain) == weights_digest(nn.Sequential(convolution, nn.Identity()))
    assert weights_digest(Corner()) != weights_digest(Noise())


def test_other_text_of_a_fitting_module_and_another_version_of_a_library_fit_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = shutil.copytree(Path(cache.__file__).parents[1], tmp_path / "evaluate")
    monkeypatch.setattr(cache, "__file__", str(package / "models" / "cache.py"))
    seen = [cache._code_digest.__wrapped__()]
    fitting = ("linear_probe", "knn", "full_finetune", "classifier", "features")
    for file in ("stats/calibration.py", *(f"models/{name}.py" for name in fitting)):
        package.joinpath(file).write_text(package.joinpath(file).read_text("utf-8") + "# changed\n", "utf-8")
        seen.append(cache._code_digest.__wrapped__())
    for library in ("torch", "scikit-learn", "numpy", "timm"):
        monkeypatch.setattr(cache, "version", lambda name, other=library: "other" if name == other else version(name))
        seen.append(cache._code_digest.__wrapped__())
    monkeypatch.undo()
    monkeypatch.setattr(medssl, "__version__", "other")
    seen.append(cache._code_digest.__wrapped__())
    assert len(set(seen)) == 12
    assert cache._code_digest.__wrapped__() == seen[-1]
