"""ONNX, torch.export, MONAI and its bundles, which take seconds each: their features, and their traps."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import SECRETS, TINY, agree, make_encoder, type_in
from PIL import Image

from medssl.encoder.export import FORMATS, Options, export, monai
from medssl.encoder.export.private_text import find_private_text
from medssl.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of torch's exporters and of MONAI
SOURCE = re.compile(rb"\w{4,}\.py\b")  # names of Python's files; the three bytes of ".py" alone occur in weights by chance
FULL = {"name": "timm", "model": "resnet18", "stem": "own"}


def test_an_onnx_file_has_no_notes_of_the_machine_and_takes_any_number_of_images(tiny, tmp_path):
    import onnx

    done = export(tiny[0], tiny[1], "onnx", out := tmp_path / "chest.onnx", Options())
    for number in (1, 7):
        images = torch.rand(number, 1, 16, 16)
        assert agree(type_in(done.usage, images.numpy())["features"], tiny[0], images, 1e-4)
    model = onnx.load(out)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [20]
    assert [entry.key for entry in model.metadata_props] == ["card"]
    graph = model.graph
    assert not [part for part in (*graph.node, *graph.input, *graph.output, *graph.initializer) if part.metadata_props or part.doc_string]
    assert [axis.dim_param or axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim] == ["batch", 1, 16, 16]
    content = out.read_bytes()
    assert not [secret for secret in (*SECRETS, "stack_trace", str(Path.cwd())) if secret.encode() in content]
    assert not SOURCE.search(content)
    assert json.loads(model.metadata_props[0].value)["mean"] == tiny[1]["mean"]


def test_an_onnx_file_with_the_preparation_resizes_as_medssl_does(tiny, tmp_path):
    done = export(tiny[0], tiny[1], "onnx", tmp_path / "chest.onnx", Options(with_preparation=True))
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 50, 50), dtype=np.uint8)
    shrunk = [Image.fromarray(image[0].astype(np.float32) / 255).resize((16, 16), Image.Resampling.BILINEAR) for image in images]
    assert agree(
        type_in(done.usage, images)["features"], tiny[0], torch.from_numpy(np.stack([np.asarray(each)[None] for each in shrunk])), 1e-4
    )


def test_a_program_of_torch_export_has_no_notes_of_the_machine_and_takes_one_image(tiny, tmp_path):
    done = export(tiny[0], tiny[1], "torch-export", out := tmp_path / "chest.pt2", Options())
    for number in (1, 7):
        images = torch.rand(number, 1, 16, 16)
        assert agree(type_in(done.usage, images)["features"], tiny[0], images)
    with zipfile.ZipFile(out) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist())
    assert not [secret for secret in (*SECRETS, "stack_trace", str(Path.cwd())) if secret.encode() in text]
    assert not SOURCE.search(text)
    torch.export.save(torch.export.export(tiny[0], (torch.zeros(2, 1, 16, 16),)), tmp_path / "careless.pt2")
    assert find_private_text(tmp_path / "careless.pt2"), "torch writes paths, unless they are removed"


@pytest.mark.parametrize(
    ("name", "network"),
    [
        *((name, {"model": "resnet10", "width": 4}) for name in ("torch-export", "onnx", "medssl")),
        *((name, {"model": "vit", "width": 12, "patch": 4}) for name in ("torch-export", "onnx")),
        ("torch-export", {"model": "swin", "width": 12}),  # onnx, which is made from such a program, takes a minute
    ],
)
def test_an_encoder_of_volumes_has_its_features_as_a_program_by_the_lines_that_are_said(name, network, tmp_path):
    size = (8, 16, 12)
    encoder, card = make_encoder(tmp_path, {"name": "monai", **network}, 2, size)
    done = export(encoder, card, name, tmp_path / f"ct{FORMATS[name].SUFFIX}", Options())
    assert "[N, 2, 8, 16, 12]" in done.usage
    images = torch.rand(3, 2, *size)
    features = type_in(done.usage, images.numpy() if name == "onnx" else images)["features"]
    assert agree(features, encoder, images, FORMATS[name].TOLERANCE)


def test_the_preparation_of_volumes_and_formats_of_images_are_refused(tmp_path):
    encoder, card = make_encoder(tmp_path, {"name": "monai", "model": "resnet10", "width": 4}, 1, (8, 8, 8))
    with pytest.raises(UserError, match="--with-preparation is for images"):
        export(encoder, card, "onnx", tmp_path / "ct.onnx", Options(with_preparation=True))
    for name in ("timm", "torchvision", "monai", "bundle"):
        with pytest.raises(UserError, match=f"The format {name} cannot hold this encoder.*These formats can: onnx, torch-export"):
            export(encoder, card, name, tmp_path / f"ct{FORMATS[name].SUFFIX}", Options())


def test_a_monai_network_that_loads_strictly_and_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    encoder, card = make_encoder(tmp_path, FULL, 1, 32)
    done = export(encoder, card, "monai", tmp_path / "chest.safetensors", Options())
    images = torch.rand(2, 1, 32, 32)
    assert "conv1_t_stride=2" in done.usage
    assert agree(type_in(done.usage, images)["features"], encoder, images)
    network = type_in(done.usage.replace("conv1_t_stride=2", "conv1_t_stride=1"), images)
    assert not agree(network["features"], encoder, images, share=0.02), "MONAI's default"
    arguments = monai.arguments
    monkeypatch.setattr(monai, "arguments", lambda *given: {**arguments(*given), "conv1_t_stride": 1})
    with pytest.raises(UserError, match="The encoder in the format monai gives other features"):
        export(encoder, card, "monai", tmp_path / "other.safetensors", Options())
    assert not (tmp_path / "other.safetensors").exists()


def test_a_bundle_runs_in_monai_and_writes_the_features_of_a_folder(tiny, tmp_path):
    from monai.bundle.scripts import run, verify_net_in_out

    done = export(tiny[0], tiny[1], "bundle", out := tmp_path / "bundle", Options())
    images = torch.rand(3, 1, 16, 16)
    assert agree(type_in(done.usage, images)["features"], tiny[0], images)
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    config, meta = out / "configs/inference.json", out / "configs/metadata.json"
    places = {"bundle_root": str(out), "dataset_dir": str(tmp_path / "images"), "output_file": str(tmp_path / "features.pt")}
    run(config_file=str(config), meta_file=str(meta), **places)
    features = torch.load(tmp_path / "features.pt", weights_only=True)
    assert features.keys() == {"a.png"}
    assert agree(features["a.png"][None], tiny[0], torch.from_numpy(pixels)[None, None], 1e-5)
    verify_net_in_out("network_def", str(meta), str(config), device="cpu")
    shutil.rmtree(out / "models")
    with pytest.raises(Exception, match=r"model\.pt"):
        type_in(done.usage, images)


def test_a_preparation_that_a_bundle_cannot_do_is_refused(tmp_path):
    data = {"size": 16, "spacing_mm": 0.5, "transforms": []}
    encoder, card = make_encoder(tmp_path, TINY, config={"data": data})
    with pytest.raises(UserError, match=r"prepared with data\.spacing_mm, which a bundle's readers do not apply"):
        export(encoder, card, "bundle", tmp_path / "bundle", Options())
