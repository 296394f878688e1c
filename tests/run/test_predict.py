"""`medssl predict` from the command line: a table for the operator, of data that is prepared as the classifier knows it, or a refusal."""

import csv
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.__main__ import main
from medssl.config import resolve
from medssl.encoder import artefact
from medssl.evaluate import classifier, outlying
from medssl.evaluate.features import extract
from medssl.run.choose import listed
from medssl.run.data import prepared
from medssl.run.export import export, export_classifier
from medssl.run.folder import describe

BACKBONE = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 8, 16, 16]}}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Model:
    """A fine-tuning's folder, what was fitted there, and the classes."""

    folder: Path
    encoder: torch.nn.Module
    probe: Pipeline

    def says(self, images: np.ndarray) -> np.ndarray:
        """The probabilities of uint8 images [n, 1, 16, 16] by scikit-learn."""
        return self.probe.predict_proba(extract(self.encoder, images, np.arange(len(images)), CPU).astype(np.float64))


@pytest.fixture(scope="module")
def model(pictures, reporter, tmp_path_factory) -> Model:
    """A linear classifier of the pictures, as a fine-tuning leaves it."""
    folder = tmp_path_factory.mktemp("work") / "runs" / "linear"
    folder.mkdir(parents=True)
    config = resolve({"data": {"path": str(pictures), "size": 16}, "backbone": BACKBONE})
    found = prepared(listed(config.data), config, reporter())
    encoder = artefact.build_encoder(BACKBONE, 1, 16, torch.tensor([0.4]), torch.tensor([0.2]), seed=0)
    describe(folder, config, "finetune")
    export(folder, config, found, encoder, {})
    _, origin = artefact.load(folder)
    (folder / artefact.CARD).unlink()
    rows = np.flatnonzero(found.roles == "train")
    described = extract(outlying.Described(encoder), found.store.images, rows, CPU)
    features = described[:, : encoder.num_features]
    probe = make_pipeline(StandardScaler(), LogisticRegression()).fit(features.astype(np.float64), found.labels[rows])
    weight, bias = classifier.folded(probe, 2)
    auroc = {"mean": 0.875, "low": 0.75, "high": 1.0}
    export_classifier(
        folder,
        config,
        found,
        origin,
        encoder=encoder,
        weight=weight,
        bias=bias,
        temperature=1.0,
        kind="classes",
        classes=found.classes,
        statistics=outlying.fit(described, found.patients[rows].astype(str)),
        training={
            "labels": "100pct",
            "fraction": 1.0,
            "draw": 0,
            "mode": "linear",
            "init": "pretrained",
            "n_labels": 48,
            "n_patients": 24,
            "test": {"n_labels": 12, "n_patients": 6, "auroc": auroc},
        },
    )
    return Model(folder, encoder, probe)


@pytest.fixture
def medssl(monkeypatch, capsys, tmp_path, model):
    """medssl(arguments...) -> (exit code, what it printed), of `predict --model`, run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, model: str | None = str(model.folder)) -> tuple[int, str]:
        named = ("--model", model) if model else ()
        monkeypatch.setattr(sys, "argv", ["medssl", "predict", *named, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call


def table(file: str = "predictions.csv") -> list[dict[str, str]]:
    with Path(file).open(encoding="utf-8", newline="") as content:
        return list(csv.DictReader(content))


def picture(file: Path, seed: int = 0, edge: int = 16) -> np.ndarray:
    """A picture of noise, as it is stored [1, 16, 16]."""
    pixels = np.random.default_rng(seed).integers(60, 180, (edge, edge), np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return pixels[None]


def test_a_folder_of_pictures_becomes_a_table_with_what_scikit_learn_says(medssl, model):
    images = np.stack([picture(Path("ward/a/x.png"), 1), picture(Path("ward/a/y.png"), 2), picture(Path("ward/z.png"), 3)])
    code, said = medssl("--data", "ward")
    assert code == 0, said
    rows = table()
    columns = ["file", "index", "patient", "prob_normal", "prob_sick", "prediction", "confidence", "abstained", "out_of_distribution"]
    assert list(rows[0]) == [*columns, "left_out"]
    assert [row["file"] for row in rows] == ["a/x.png", "a/y.png", "z.png"]
    prob = model.says(images)
    np.testing.assert_allclose([[float(row["prob_normal"]), float(row["prob_sick"])] for row in rows], prob, atol=1e-5)
    assert [row["prediction"] for row in rows] == [("normal", "sick")[k] for k in prob.argmax(1)]
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], prob.max(1), atol=1e-5)
    assert all(re.fullmatch("[0-9a-f]{32}", row["patient"]) for row in rows)
    assert all(0 <= float(row["out_of_distribution"]) <= 1 for row in rows)
    assert Path("predictions.csv").stat().st_mode & 0o777 == 0o600
    for part in ("48 labels of 24 patients", "0.875 [0.750, 1.000]", "predicted 3 images", "no medical device", "normal, sick"):
        assert part in said


def test_what_cannot_be_read_is_a_row_without_a_prediction_and_is_counted(medssl):
    picture(Path("ward/a.png"))
    Path("ward/b.png").write_bytes(Path("ward/a.png").read_bytes()[:90])
    Path("ward/c.png").write_text("text")
    Path("ward/d.png").symlink_to("gone.png")
    code, said = medssl("--data", "ward")
    assert code == 0, said
    rows = {row.pop("file"): row for row in table()}
    assert {file: row["left_out"] for file, row in rows.items()} == {
        "a.png": "",
        "b.png": "truncated",
        "c.png": "not_an_image",
        "d.png": "not_a_file",
    }
    for name in ("b.png", "c.png", "d.png"):
        assert not any(value for column, value in rows[name].items() if column not in ("index", "patient", "left_out")), name
    assert "3 could not be used and have no prediction" in said


def test_below_the_confidence_that_is_asked_for_nothing_is_predicted(medssl, model):
    images = np.stack([picture(Path(f"ward/{n:02}.png"), n) for n in range(12)])
    confidence = model.says(images).max(1)
    threshold = float(np.median(confidence))
    code, said = medssl("--data", "ward", "--abstain-below", str(threshold))
    assert code == 0, said
    assert [row["abstained"] for row in table()] == ["true" if c < threshold else "false" for c in confidence]
    assert all((row["prediction"] == "") == (row["abstained"] == "true") for row in table())
    assert f"{int((confidence < threshold).sum())} with a decision left open" in said
    assert medssl("--data", "ward", "--abstain-below", "1.5")[0] == 2


def test_pages_rows_and_stores_are_told_apart(medssl, model, reporter):
    pages = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (16, 16), np.uint8)) for n in range(3)]
    Path("ward").mkdir()
    pages[0].save("ward/a.tif", save_all=True, append_images=pages[1:])
    assert medssl("--data", "ward")[0] == 0
    assert [(row["file"], row["index"]) for row in table()] == [("a.tif", "0"), ("a.tif", "1"), ("a.tif", "2")]
    images = np.random.default_rng(0).integers(0, 255, (4, 16, 16), np.uint8)
    np.savez("new.npz", test_images=images)
    assert medssl("--data", "new.npz", "--out", "array.csv")[0] == 0
    assert [(row["file"], row["index"]) for row in table("array.csv")] == [("new.npz#test_images", str(n)) for n in range(4)]
    from medssl.run.prepare import prepare

    sets = ["data.size=16", "data.max_bad_fraction=1"]
    Path("ward/bad.png").write_text("text")
    prepare(reporter(), data="ward", preset="medmnist_cpu", out=Path("store"), sets=sets)
    assert medssl("--data", "store", "--out", "keys.csv")[0] == 0
    rows = table("keys.csv")
    assert all(re.fullmatch("[0-9a-f]{32}", row["file"]) for row in rows)
    assert [row["left_out"] for row in rows] == ["", "", "", "not_an_image"]
    assert [row["prob_sick"] for row in rows[:3]] == [row["prob_sick"] for row in table()]


def test_one_picture_is_enough(medssl, model):
    image = picture(Path("one.png"))
    code, said = medssl("--data", "one.png")
    assert code == 0, said
    (row,) = table()
    assert row["file"] == "one.png"
    assert float(row["prob_sick"]) == pytest.approx(model.says(image[None])[0, 1], abs=1e-5)


def test_dicom_files_are_predicted_one_and_all(medssl, repository):
    sets = ("--set", "data.source.patients=4", "--set", "data.source.size=64")
    code, said = medssl("--data", "phantom", *sets)
    assert code == 0, said
    rows = table()
    assert all(re.fullmatch(r"P0000\d/\d\.dcm", row["file"]) and row["prediction"] for row in rows)
    from medssl.data.cache import cache_folder

    (file,) = (cache_folder() / "phantoms").glob("*/P00002/0.dcm")
    code, said = medssl("--data", str(file), "--out", "one.csv")
    assert code == 0, said
    (one,) = table("one.csv")
    (same,) = (row for row in rows if row["file"] == "P00002/0.dcm")
    assert (one["file"], one["prob_sick"]) == ("0.dcm", same["prob_sick"])


def test_names_stand_in_the_table_alone_and_are_no_formulas(medssl):
    for n, name in enumerate(("CANARY^JOHN.png", "=1+CANARY.png", "@CANARY.png")):
        picture(Path(f"ward/{name}"), n)
    Path("ward/CANARY_half.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, said = medssl("--data", "ward")
    assert code == 0, said
    assert "CANARY" not in said
    assert {row["file"] for row in table()} == {"CANARY^JOHN.png", "'=1+CANARY.png", "'@CANARY.png", "CANARY_half.png"}


def volume(file: Path) -> None:
    file.parent.mkdir()
    nibabel.Nifti1Image(np.random.default_rng(0).integers(0, 99, (16, 16, 3), np.int16), np.eye(4)).to_filename(file)  # pyright: ignore


REFUSED = {
    "another size": (("--data", "ward", "--set", "data.size=32"), ("data.size is 32", "trained with 16", "Leave it")),
    "other channels": (("--data", "ward", "--set", "data.channels=3"), ("data.channels is 3", "trained with 1")),
    "another window": (("--data", "ward", "--set", "data.window=percentile"), ("data.window is percentile", "trained with header")),
    "volumes": (("--data", "brain"), ("volumes: True", "volumes: False", "images like those")),
    "a setting of another command": (("--data", "ward", "--set", "train.lr=1"), ("train belongs to finetune",)),
    "a misspelt setting": (("--data", "ward", "--set", "data.widow=none"), ("widow", "'window'")),
    "no setting at all": (("--data", "ward", "--set", "data=3"), ("configuration is wrong", "data")),
    "no data": (("--data", "nowhere"), ("nowhere", "does not exist")),
    "an empty folder": (("--data", "empty"), ("no image below empty",)),
    "text": (("--data", "text.txt"), ("No image of text.txt can be used", "not_an_image")),
    "a folder for the table": (("--data", "ward", "--out", "ward"), ("ward exists", "--out")),
    "a table among the images": (("--data", "ward", "--out", "ward/p.csv"), ("ward/p.csv", "table of labels", "--out")),
    "a table in no folder": (("--data", "ward", "--out", "gone/p.csv"), ("gone/p.csv", "--out")),
    "no such device": (("--data", "ward", "--device", "gpu"), ("gpu", "cuda")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_both_values_and_a_remedy(medssl, case):
    picture(Path("ward/a.png"))
    Path("empty").mkdir()
    Path("text.txt").write_text("text")
    volume(Path("brain/a.nii.gz"))
    arguments, parts = REFUSED[case]
    code, said = medssl(*arguments)
    assert code == 2
    for part in parts:
        assert part in said
    assert "Traceback" not in said
    assert not Path("predictions.csv").exists()


def test_a_store_of_another_size_or_of_an_older_preparation_is_refused(medssl, reporter):
    from medssl.run.prepare import prepare

    picture(Path("ward/a.png"))
    prepare(reporter(), data="ward", preset="medmnist_cpu", out=Path("large"), sets=["data.size=32"])
    code, said = medssl("--data", "large")
    assert code == 2
    assert "data.size is 32 in large, but the classifier was trained with 16" in said
    prepare(reporter(), data="ward", preset="medmnist_cpu", out=Path("old"), sets=["data.size=16"])
    card = json.loads(Path("old/card.json").read_text())
    card["preparation"]["version"] = 0
    Path("old/card.json").write_text(json.dumps(card))
    code, said = medssl("--data", "old")
    assert code == 2
    assert "the preparation's version is 0 in old" in said


def test_a_table_that_exists_is_kept_unless_it_is_to_be_replaced(medssl):
    picture(Path("ward/a.png"))
    Path("predictions.csv").write_text("mine")
    code, said = medssl("--data", "ward")
    assert code == 2
    assert "predictions.csv exists" in said
    assert "--overwrite" in said
    assert Path("predictions.csv").read_text() == "mine"
    assert medssl("--data", "ward", "--overwrite")[0] == 0
    assert len(table()) == 1


def test_without_a_name_the_newest_finished_fine_tuning_is_taken(medssl, model, monkeypatch):
    picture(Path("ward/a.png"))
    ward = str(Path("ward").absolute())
    code, said = medssl("--data", ward, model=None)
    assert code == 2
    assert "no finished fine-tuning in runs/" in said
    monkeypatch.chdir(model.folder.parent.parent)
    code, said = medssl("--data", ward, "--overwrite", model=None)
    assert code == 0, said
    assert "runs/linear" in said


@pytest.mark.parametrize("what", ["nothing", "an encoder", "a picture"])
def test_a_wrong_model_is_one_message(medssl, what):
    picture(Path("ward/a.png"))
    if what == "an encoder":
        Path("nothing").mkdir()
        (Path("nothing") / "encoder.safetensors").touch()
    code, said = medssl("--data", "ward", model="ward/a.png" if what == "a picture" else "nothing")
    assert code == 2
    assert "No classifier at" in said
    assert "Traceback" not in said


def test_the_card_says_what_it_is_and_no_path(model, pictures):
    text = (model.folder / classifier.CARD).read_text()
    card = json.loads(text)
    assert str(pictures) not in text
    assert card["contract"]["data.size"] == 16
    assert card["training"]["n_labels"] == 48
    assert "Not a medical device" in card["intended_use"]
