"""`medssl predict` from the command line: a table for the operator, of data that is prepared as the classifier knows it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from predicting import picture, table

from medssl.commands.prepare import prepare
from medssl.data.cache import cache_folder
from medssl.evaluate.models import classifier_file


def test_a_folder_of_pictures_becomes_a_table_with_what_scikit_learn_says(predict_command, model):
    images = np.stack([picture(Path("ward/a/x.png"), 1), picture(Path("ward/a/y.png"), 2), picture(Path("ward/z.png"), 3)])
    code, said = predict_command("--data", "ward")
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
    for part in ("48 labels of 24 patients", "0.875 [0.750, 1.000]", "predicted 3 images", "not a medical device", "normal, sick"):
        assert part in said


def test_what_cannot_be_read_is_a_row_without_a_prediction_and_is_counted(predict_command):
    picture(Path("ward/a.png"))
    Path("ward/b.png").write_bytes(Path("ward/a.png").read_bytes()[:90])
    Path("ward/c.png").write_text("text")
    Path("ward/d.png").symlink_to("gone.png")
    code, said = predict_command("--data", "ward")
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


def test_below_the_confidence_that_is_asked_for_nothing_is_predicted(predict_command, model):
    images = np.stack([picture(Path(f"ward/{n:02}.png"), n) for n in range(12)])
    confidence = model.says(images).max(1)
    threshold = float(np.median(confidence))
    code, said = predict_command("--data", "ward", "--abstain-below", str(threshold))
    assert code == 0, said
    assert [row["abstained"] for row in table()] == ["true" if c < threshold else "false" for c in confidence]
    assert all((row["prediction"] == "") == (row["abstained"] == "true") for row in table())
    assert f"{int((confidence < threshold).sum())} without a prediction: their confidence is below" in said
    assert predict_command("--data", "ward", "--abstain-below", "1.5")[0] == 2


def test_pages_rows_and_stores_are_told_apart(predict_command, model, reporter):
    pages = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (16, 16), np.uint8)) for n in range(3)]
    Path("ward").mkdir()
    pages[0].save("ward/a.tif", save_all=True, append_images=pages[1:])
    assert predict_command("--data", "ward")[0] == 0
    assert [(row["file"], row["index"]) for row in table()] == [("a.tif", "0"), ("a.tif", "1"), ("a.tif", "2")]
    images = np.random.default_rng(0).integers(0, 255, (4, 16, 16), np.uint8)
    np.savez("new.npz", test_images=images)
    assert predict_command("--data", "new.npz", "--out", "array.csv")[0] == 0
    assert [(row["file"], row["index"]) for row in table("array.csv")] == [("new.npz#test_images", str(n)) for n in range(4)]
    sets = ["data.size=16", "data.max_bad_fraction=1"]
    Path("ward/bad.png").write_text("text")
    prepare(reporter(), data="ward", preset="medmnist_cpu", out=Path("store"), sets=sets)
    assert predict_command("--data", "store", "--out", "keys.csv")[0] == 0
    rows = table("keys.csv")
    assert all(re.fullmatch("[0-9a-f]{32}", row["file"]) for row in rows)
    assert [row["left_out"] for row in rows] == ["", "", "", "not_an_image"]
    assert [row["prob_sick"] for row in rows[:3]] == [row["prob_sick"] for row in table()]


def test_one_picture_is_enough(predict_command, model):
    image = picture(Path("one.png"))
    code, said = predict_command("--data", "one.png")
    assert code == 0, said
    (row,) = table()
    assert row["file"] == "one.png"
    assert float(row["prob_sick"]) == pytest.approx(model.says(image[None])[0, 1], abs=1e-5)


def test_dicom_files_are_predicted_one_and_all(predict_command, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))  # where no other phantoms lie
    sets = ("--set", "data.source.patients=4", "--set", "data.source.size=64")
    code, said = predict_command("--data", "phantom", *sets)
    assert code == 0, said
    rows = table()
    assert all(re.fullmatch(r"P0000\d/\d\.dcm", row["file"]) and row["prediction"] for row in rows)
    (file,) = (cache_folder() / "phantoms").glob("*/P00002/0.dcm")
    code, said = predict_command("--data", str(file), "--out", "one.csv")
    assert code == 0, said
    (one,) = table("one.csv")
    (same,) = (row for row in rows if row["file"] == "P00002/0.dcm")
    assert (one["file"], one["prob_sick"]) == ("0.dcm", same["prob_sick"])


def test_names_stand_in_the_table_alone_and_are_no_formulas(predict_command):
    for n, name in enumerate(("CANARY^JOHN.png", "=1+CANARY.png", "@CANARY.png")):
        picture(Path(f"ward/{name}"), n)
    Path("ward/CANARY_half.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, said = predict_command("--data", "ward")
    assert code == 0, said
    assert "CANARY" not in said
    assert {row["file"] for row in table()} == {"CANARY^JOHN.png", "'=1+CANARY.png", "'@CANARY.png", "CANARY_half.png"}


def test_without_a_name_the_newest_finished_fine_tuning_is_taken(predict_command, model, monkeypatch):
    picture(Path("ward/a.png"))
    ward = str(Path("ward").absolute())
    code, said = predict_command("--data", ward, model=None)
    assert code == 2
    assert "no finished fine-tuning in runs/" in said
    monkeypatch.chdir(model.folder.parent.parent)
    code, said = predict_command("--data", ward, "--overwrite", model=None)
    assert code == 0, said
    assert "runs/linear" in said


def test_the_card_says_what_it_is_and_no_path(model, pictures):
    text = (model.folder / classifier_file.CARD).read_text()
    card = json.loads(text)
    assert str(pictures) not in text
    assert card["contract"]["data.size"] == 16
    assert card["training"]["n_labels"] == 48
    assert "Not a medical device" in card["intended_use"]
