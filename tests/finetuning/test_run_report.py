"""The report of a run, from its folder and the prepared images: equal whoever writes it, and never replaced by one with less."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl.commands.finetune import finetune
from medssl.commands.report import report
from medssl.errors import UserError
from medssl.evaluate.schema import read_results
from medssl.finetuning import run_report

pytestmark = pytest.mark.slow
PARTS = {"performance", "features", "neighbours", "grad-cam"}


@pytest.fixture(scope="module")
def runs(pretrained, small, reporter, tmp_path_factory) -> Path:
    """A folder with a fine-tuning of each mode, whose headline fraction is not that of the exported classifier."""
    folder = tmp_path_factory.mktemp("finetuned")
    for mode in ("linear", "full", "knn"):
        sets = [*small, "finetune.steps=6", "tracking.mlflow=false", "device=cpu"]
        said = reporter()
        finetune(said, encoder=str(pretrained[0]), labels="20pct,100pct", mode=mode, out=folder / mode, sets=sets)
        (warning,) = said.warned
        assert warning.startswith("The test has only 6 patients")
    return folder


def sections(page: Path) -> set[str]:
    return {part for part in PARTS if f'<h2 id="{part}">' in page.read_text("utf-8")}


@pytest.mark.parametrize(("mode", "expected"), [("linear", PARTS), ("full", PARTS), ("knn", {"performance"})])
def test_the_report_that_is_written_again_equals_that_of_the_fine_tuning(runs, reporter, mode, expected):
    page, said = runs / mode / "report.html", reporter()
    before = page.read_text("utf-8")
    assert sections(page) == expected
    page.unlink()
    report(said, runs=[runs / mode])
    assert page.read_text("utf-8") == before and said.warned == []
    assert ("has no weights to keep" in before) == (mode == "knn")


@pytest.mark.parametrize("mode", ["linear", "full"])
def test_curves_are_of_the_first_fraction_and_grad_cam_of_the_exported_classifier_and_its_own_cases(runs, monkeypatch, mode):
    handed = []
    monkeypatch.setattr(run_report, "draw_pictures", lambda *given: handed.append(given))
    document = read_results(runs / mode)
    run_report.make_pictures(runs / mode, document, torch.device("cpu"))
    ((curves, inputs, _),) = handed
    (cell,) = [c for c in document.cells if (c.labels, c.draw, c.mode, c.init) == ("20pct", 0, mode, "pretrained")]
    assert (curves.labels, curves.temperature, inputs.labels) == ("20pct", cell.temperature, "100pct")
    assert {init: len(draws) for init, draws in curves.probs.items()} == {"pretrained": 2, "random": 2, "pixels": 2}
    with torch.no_grad():
        said = inputs.classifier(torch.from_numpy(inputs.images[inputs.test]).float() / 255).softmax(1).numpy()
    np.testing.assert_allclose(said, inputs.prob, atol=1e-5)
    assert np.abs(said - curves.probs["pretrained"][0]).max() > 1e-3, "the fractions' classifiers cannot be told apart here"
    bright = inputs.images[..., 6:10, 6:10].mean((1, 2, 3)) > 110  # the square that the sick have
    assert (bright[inputs.test] == curves.y).all() and (bright[inputs.pool] == inputs.pool_y).all()
    assert not set(inputs.test) & set(inputs.pool) and len(inputs.pool) == 48


def without_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_CACHE", str(run / "elsewhere"))


def without_classifier(run: Path, _: pytest.MonkeyPatch) -> None:
    (run / "classifier.json").unlink()


@pytest.mark.parametrize(("lose", "why"), [(without_images, "MEDSSL_CACHE"), (without_classifier, "No classifier at")])
def test_a_report_with_pictures_is_not_replaced_by_one_without_unless_that_is_wanted(runs, reporter, tmp_path, monkeypatch, lose, why):
    run, said = tmp_path / "run", reporter()
    shutil.copytree(runs / "linear", run)
    before, picture = (run / "report.html").read_bytes(), (run / "figures" / "grad_cam.png").read_bytes()
    lose(run, monkeypatch)
    with pytest.raises(UserError, match=rf"{why}[^\n]*\n[^\n]* it is not replaced"):
        report(said, runs=[run])
    assert (run / "report.html").read_bytes() == before and said.said == []
    report(said, runs=[run], out=tmp_path / "page.html")
    assert sections(tmp_path / "page.html") == {"performance"} and "could not be used" in (tmp_path / "page.html").read_text()
    assert str(tmp_path) not in (tmp_path / "page.html").read_text()
    (warning,) = said.warned
    assert why in warning
    report(said, runs=[run], overwrite=True)
    assert (run / "report.html").read_bytes() == (tmp_path / "page.html").read_bytes()
    assert (run / "figures" / "grad_cam.png").read_bytes() == picture


def test_images_that_are_not_those_of_the_run_are_not_shown(runs, reporter, tmp_path):
    shutil.copytree(runs / "linear", tmp_path / "run")
    results = tmp_path / "run" / "results.json"
    fingerprint = read_results(tmp_path / "run").data.fingerprint
    store = Path(run_report.open_store_of_run(tmp_path / "run", fingerprint).path)
    other = store.with_name("0" * len(fingerprint))
    results.write_text(results.read_text().replace(fingerprint, other.name))
    try:
        shutil.copytree(store, other)
        with pytest.raises(UserError, match="has other images than the run"):
            report(reporter(), runs=[tmp_path / "run"])
    finally:
        shutil.rmtree(other)
