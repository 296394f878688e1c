"""The classifier as a model of MLflow: what it takes, and that it says what `medssl predict` says."""

import base64
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from predicting import table

from medssl.encoder.export.program_file import find_paths
from medssl.errors import UserError
from medssl.evaluate.models import classifier_file, served


@pytest.fixture(scope="module")
def loaded(written):
    return served._load_pyfunc(str(written / "data"))


def png(seed, edge=16):
    pixels = np.random.default_rng(seed).integers(60, 180, (edge, edge), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue(), pixels[None]


def text(content):
    return base64.b64encode(content).decode()


def probabilities(frame):
    return frame[["prob_normal", "prob_sick"]].to_numpy(float)


def test_the_model_states_its_input_its_output_and_the_digest_of_its_weights(written):
    described = yaml.safe_load((written / "MLmodel").read_text())
    (images,) = json.loads(described["signature"]["inputs"])
    assert images == {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 16, 16]}}
    names = ["prob_normal", "prob_sick", "prediction", "confidence", "out_of_distribution", "left_out"]
    assert [column["name"] for column in json.loads(described["signature"]["outputs"])] == names
    card = json.loads((written / "data" / "classifier.json").read_text())
    assert described["metadata"]["weights_sha256"] == card["weights_sha256"]
    assert described["flavors"]["pytorch"]["model_data"] == "data"


def test_no_path_computer_or_user_is_in_the_files(written):
    names = [str(Path.home()), str(Path(torch.__file__).parent.parent), str(Path(__file__).parents[3]), os.uname().nodename]
    canaries = [name.encode() for name in names if len(name) > 4]  # shorter ones are in the numbers by chance
    contents = {file.name: file.read_bytes() for file in written.rglob("*") if file.is_file()}
    assert contents.keys() == {"MLmodel", "requirements.txt", "python_env.yaml", "model.pt2", "classifier.json", "statistics.safetensors"}
    with zipfile.ZipFile(written / "data" / "model.pt2") as archive:
        contents |= {name: archive.read(name) for name in archive.namelist()}
    assert not [(name, canary) for name, content in contents.items() for canary in canaries if canary in content]
    assert find_paths(written / "data" / "model.pt2") == []


def test_a_program_that_answers_with_nan_is_refused(model, tmp_path):
    classifier, statistics, card = classifier_file.load(model.folder)
    with torch.no_grad():
        next(classifier.parameters()).fill_(torch.nan)
    served.write(classifier, statistics, card, tmp_path / "model")
    with pytest.raises(UserError, match="Program and card do not belong together"):
        served._load_pyfunc(str(tmp_path / "model/data"))


@pytest.mark.parametrize("number", [1, 3])
def test_prepared_images_are_predicted_as_scikit_learn_predicts_them(loaded, model, number):
    images = np.random.default_rng(number).integers(0, 255, (number, 1, 16, 16), np.uint8)
    answer = loaded.predict((images / 255).astype(np.float32))
    np.testing.assert_allclose(probabilities(answer), model.says(images), atol=1e-5)
    lists = loaded.predict((images / 255).tolist())
    np.testing.assert_array_equal(probabilities(lists), probabilities(answer))


def test_files_are_read_and_prepared_as_by_predict(predict_command, loaded, model):
    contents = [png(seed, edge)[0] for seed, edge in ((1, 16), (2, 40), (3, 16))]
    for number, content in enumerate(contents):
        Path("ward").mkdir(exist_ok=True)
        Path(f"ward/{number}.png").write_bytes(content)
    code, said = predict_command("--data", "ward")
    assert code == 0, said
    answer = loaded.predict(pd.DataFrame({"image": [text(content) for content in contents]}))
    columns = ["prob_normal", "prob_sick", "confidence", "out_of_distribution"]
    expected = [[float(row[name]) for name in columns] for row in table()]
    np.testing.assert_allclose(answer[columns].to_numpy(float), expected, atol=1e-5)
    assert answer["prediction"].tolist() == [row["prediction"] for row in table()]
    as_records = loaded.predict([{"image": text(content)} for content in contents])
    pd.testing.assert_frame_equal(as_records, answer)


def test_what_cannot_be_used_is_a_row_without_a_prediction_between_the_others(loaded, model, tmp_path):
    good, pixels = png(1)
    pages = io.BytesIO()
    Image.fromarray(pixels[0]).save(pages, "tiff", save_all=True, append_images=[Image.fromarray(pixels[0])])
    secret = tmp_path / "secret.png"
    secret.write_bytes(good)
    bad = {
        str(secret): "not_base64",
        f"file://{secret}": "not_base64",
        "": "not_an_image",
        text(b"\x80\x04cos\nsystem\n(S'true'\ntR."): "not_an_image",  # a pickle
        text(good[:60]): "truncated",
        text(pages.getvalue()): "several_images",
        7: "not_base64",
    }
    answer = loaded.predict({"image": [*bad, text(good)]})
    assert answer["left_out"].tolist() == [*bad.values(), ""]
    assert answer.drop(columns="left_out").iloc[:-1].isna().all(axis=None)
    np.testing.assert_allclose(probabilities(answer.iloc[-1:]), model.says(pixels[None]), atol=1e-5)


@pytest.mark.parametrize(
    "request_data",
    [
        np.zeros((2, 3, 16, 16), np.float32),
        np.zeros((0, 1, 16, 16)),
        [["a"]],
        {"picture": "x"},
        "text",
        None,
        np.full((1, 1, 16, 16), 200.0),
    ],
)
def test_a_request_that_is_neither_is_refused_in_a_sentence(loaded, request_data):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=r"shape \[N, 1, 16, 16\]|from 0 to 1") as refused:
        loaded.predict(request_data)
    assert refused.value.get_http_status_code() == 400


def test_a_program_that_is_not_that_of_the_card_or_has_pickled_parts_is_refused(written, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(written / "data", copy)
    card = json.loads((copy / "classifier.json").read_text())
    card["probe"]["probabilities"] = card["probe"]["probabilities"][::-1]
    (copy / "classifier.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="do not belong together"):
        served._load_pyfunc(str(copy))
    with zipfile.ZipFile(copy / "model.pt2", "a") as archive:
        archive.writestr("model/data/constants/custom_obj_0", b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match="may hold code"):
        served._load_pyfunc(str(copy))


def test_a_classifier_of_another_version_of_the_preparation_is_refused(written, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(written / "data", copy)
    card = json.loads((copy / "classifier.json").read_text())
    card["contract"]["the preparation's version"] = "1"
    (copy / "classifier.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="the preparation's version is 2, but the classifier was trained with 1"):
        served._load_pyfunc(str(copy))
