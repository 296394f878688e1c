"""--data names one image file: prepared whatever it holds, and trained on where it holds several images."""

from pathlib import Path

import numpy as np
from dicoms import shipped
from PIL import Image

from medssl.commands.prepare import prepare
from medssl.commands.pretrain import pretrain
from medssl.data.store import Store


def test_one_picture_is_prepared(reporter, tmp_path):
    Image.fromarray(np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[:, None], 20, 1)).save(tmp_path / "one.png")
    prepare(reporter(), data=str(tmp_path / "one.png"), preset="medmnist_cpu", out=tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store.images.shape == (1, 1, 28, 28)
    assert np.corrcoef(np.asarray(store.images[0, 0]).mean(axis=1), np.arange(28))[0, 1] > 0.999, "brighter from row to row"


def test_a_dicom_file_of_many_frames_is_trained_on(reporter, small, tmp_path):
    file = shipped("examples_ybr_color.dcm")
    sets = [*small, "data.channels=3", "method.support_size=20", "train.steps=2", "tracking.mlflow=false"]
    said = reporter()
    folder = pretrain(said, data=str(file), preset="medmnist_cpu", out=tmp_path / "run", sets=sets)
    assert Path(folder / "encoder.safetensors").is_file()
    assert any(line.startswith("training  2 steps, 30 images") for line in said.said)
