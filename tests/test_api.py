"""The Python interface: its names and signatures, and that it gives the numbers of the commands."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from predicting import picture, table

import medssl
from medssl.api import LoadedClassifier, LoadedEncoder
from medssl.data.cache import cache_folder
from medssl.data.store import Store
from medssl.encoder import artefact
from medssl.errors import ReadError, UserError
from medssl.evaluate.models import extract

FILES = "str | pathlib.Path | collections.abc.Sequence[str | pathlib.Path]"  # of one image; of several where it has several sequences
SIGNATURES = {  # who changes one breaks other people's programs
    medssl.load_classifier: "(path: str | pathlib.Path) -> medssl.api.LoadedClassifier",
    medssl.load_encoder: "(path: str | pathlib.Path) -> medssl.api.LoadedEncoder",
    medssl.prepare: f"(path: {FILES}, card: collections.abc.Mapping[str, typing.Any], index: int = 0) -> torch.Tensor",
    medssl.read: "(path: str | pathlib.Path, index: int = 0, window: str = 'header') -> medssl.types.Decoded",
    LoadedEncoder.read: "(self, path: str | pathlib.Path, index: int = 0) -> medssl.types.Decoded",
    LoadedEncoder.prepare: f"(self, path: {FILES}, index: int = 0) -> torch.Tensor",
    LoadedClassifier.predict: f"(self, image: {FILES} | torch.Tensor, index: int = 0) -> dict[str, float]",
    LoadedClassifier.read: "(self, path: str | pathlib.Path, index: int = 0) -> medssl.types.Decoded",
    LoadedClassifier.prepare: f"(self, path: {FILES}, index: int = 0) -> torch.Tensor",
}


def test_the_names_and_their_signatures_are_those_that_programs_rely_on() -> None:
    assert medssl.__all__ == ["__version__", "load_classifier", "load_encoder", "prepare", "read"]
    assert {function: str(inspect.signature(function)) for function in SIGNATURES} == SIGNATURES
    assert set(medssl.__all__) <= set(dir(medssl))
    with pytest.raises(AttributeError, match="no attribute 'load_encoders'"):
        _ = medssl.load_encoders  # pyright: ignore


def test_the_import_of_the_package_brings_no_library() -> None:
    code = "import sys, medssl; print(sorted({'torch', 'numpy', 'pydantic', 'medssl.api', 'medssl.config'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_encoder_gives_the_features_that_the_commands_compute(encoder_run: Path, pictures: Path) -> None:
    encoder = medssl.load_encoder(encoder_run)
    assert isinstance(encoder, torch.nn.Module)
    assert not encoder.training
    assert encoder.card["size"] == 16
    files = sorted(pictures.rglob("*.png"))
    store = Store.open(cache_folder() / "stores" / encoder.card["data"]["fingerprint"])
    expected = extract(artefact.load(encoder_run)[0], store.inputs, np.arange(3), torch.device("cpu"))
    with torch.inference_mode():
        features = torch.cat([encoder(encoder.prepare(file)) for file in files[:3]])
        together = encoder(torch.cat([medssl.prepare(str(file), encoder.card) for file in files[:3]]))
    assert features.shape == (3, encoder.num_features)
    np.testing.assert_allclose(features.numpy(), expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(together.numpy(), expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(encoder(torch.from_numpy(np.array(store.images[:3]))).detach().numpy(), expected, atol=1e-6)
    assert medssl.load_encoder(str(encoder_run / "encoder.safetensors")).card == encoder.card


def test_the_classifier_gives_the_probabilities_that_predict_writes(predict_command: Any, model: Any) -> None:
    for n in range(3):
        picture(Path(f"ward/{n}.png"), n, edge=(16, 20, 40)[n])
    assert predict_command("--data", "ward")[0] == 0
    classifier = medssl.load_classifier(model.folder)
    assert classifier.classes == ("normal", "sick")
    for row in table():
        file = Path("ward") / row["file"]
        found = classifier.predict(file)
        assert list(found) == ["normal", "sick"]
        assert found == pytest.approx({name: float(row[f"prob_{name}"]) for name in found}, abs=1e-6)
        assert classifier.predict(classifier.prepare(file)) == classifier.predict(classifier.prepare(file)[0]) == found
    both = torch.cat([classifier.prepare(f"ward/{n}.png") for n in range(2)])
    assert classifier(both).shape == (2, 2)
    with pytest.raises(UserError, match="one image, not 2"):
        classifier.predict(both)


def test_the_temperature_of_the_classifier_counts(model: Any, tmp_path: Path) -> None:
    classifier = medssl.load_classifier(model.folder)
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    logits = classifier.classifier(image)[0].double()
    classifier.classifier.temperature = 3.0
    expected = (logits / 3).softmax(0).tolist()
    assert list(classifier.predict(image).values()) == pytest.approx(expected, abs=1e-6)


def test_a_dicom_file_is_read_with_its_window_and_its_frame(shared_data: Path) -> None:
    file = shared_data / "dicom/wg04/CT1_UNC"
    found = medssl.read(file)
    assert (found.pixels.dtype, found.pixels.ndim, found.modality) == (np.float32, 3, "CT")
    assert 0 <= found.pixels.min() < found.pixels.max() <= 1
    lung = medssl.read(file, window="lung")
    assert not np.array_equal(lung.pixels, found.pixels)


def test_the_page_of_a_picture_is_chosen_by_its_index(tmp_path: Path, encoder_run: Path) -> None:
    pages = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (16, 16), np.uint8)) for n in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    for n, page in enumerate(pages):
        expected = np.asarray(page, np.float32)[None] / 255
        np.testing.assert_array_equal(medssl.read(tmp_path / "a.tif", n).pixels, expected)
        np.testing.assert_array_equal(medssl.load_encoder(encoder_run).prepare(tmp_path / "a.tif", n)[0].numpy(), expected)


def test_what_is_wrong_is_said_in_plain_words(tmp_path: Path, encoder_run: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    for name in ("half.png", "whole.png"):
        picture(tmp_path / name)
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:90])
    encoder = medssl.load_encoder(encoder_run)
    with pytest.raises(UserError, match="No encoder at"):
        medssl.load_encoder(tmp_path)
    with pytest.raises(UserError, match="No classifier at"):
        medssl.load_classifier(encoder_run)
    with pytest.raises(UserError, match=r"gone\.png does not exist"):
        medssl.read(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"text\.png is no image"):
        encoder.prepare(tmp_path / "text.png")
    with pytest.raises(ReadError, match="truncated"):
        encoder.prepare(tmp_path / "half.png")
    with pytest.raises(UserError, match="no card"):
        medssl.prepare(tmp_path / "half.png", {"size": 16})
    with pytest.raises(UserError, match=r"\[N, 1, H, W\] are expected, not \[1, 3, 16, 16\]"):
        encoder(torch.rand(1, 3, 16, 16))
    old = {**encoder.card, "preparation": {**encoder.card["preparation"], "version": "0"}}
    with pytest.raises(UserError, match="the preparation's version is 2 in this version of medssl, but the encoder was trained with 0"):
        medssl.prepare(tmp_path / "whole.png", old)
