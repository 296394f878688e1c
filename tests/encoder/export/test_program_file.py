"""A network as a program of torch.export: any number of images, no paths, and no parts that could hold code."""

import zipfile

import pytest
import torch
from small import BACKBONE
from torch import nn

from medssl.encoder.artefact import build_encoder
from medssl.encoder.export.program_file import find_paths, load_program, save_program
from medssl.errors import UserError


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(BACKBONE, 2, 16, torch.tensor([0.3, 0.5]), torch.tensor([0.2, 0.1]), seed=0).eval()


@pytest.fixture(scope="module")
def file(encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    save_program(encoder, 2, 16, path)
    return path


@pytest.fixture(scope="module")
def program(file):
    return load_program(file)


def test_the_program_gives_the_features_of_the_encoder_for_any_number_of_images(encoder, program):
    for number in (1, 2, 3, 5):
        images = torch.rand(number, 2, 16, 16, generator=torch.Generator().manual_seed(number))
        torch.testing.assert_close(program(images), encoder(images).detach(), atol=1e-6, rtol=1e-5)
    assert not any(tensor.requires_grad for tensor in program.parameters())


def test_the_program_contains_mean_and_standard_deviation(encoder, program):
    images = torch.rand(2, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    standard = (images - torch.tensor([0.3, 0.5])[:, None, None]) / torch.tensor([0.2, 0.1])[:, None, None]
    expected = encoder.backbone(standard.contiguous(memory_format=torch.channels_last)).detach()
    torch.testing.assert_close(program(images), expected, atol=1e-6, rtol=1e-5)


def test_the_network_stays_as_it_was(encoder, file):
    assert not encoder.training
    assert all(tensor.requires_grad for tensor in encoder.parameters())


def test_no_path_is_in_the_file(file, tmp_path, encoder):
    assert find_paths(file) == []
    plain = torch.export.export(encoder, (torch.zeros(2, 2, 16, 16),), strict=False)
    with pytest.warns(UserWarning, match="No complete tensor"):
        torch.export.save(plain, str(tmp_path / "plain.pt2"))
    assert any(path.endswith("nn/encoder.py") for path in find_paths(tmp_path / "plain.pt2")), "torch writes them"


@pytest.mark.parametrize("name", ["model/data/constants/custom_obj_0", "model/data/weights/weight_0"])
def test_a_file_with_a_pickle_is_refused_before_torch_reads_it(file, tmp_path, name):
    ran = tmp_path / "ran"
    pickle = f"cos\nsystem\n(S'touch {ran}'\ntR.".encode()
    config = b'{"config": {"backbone.conv1.weight": {"path_name": "weight_0", "is_param": true, "use_pickle": true, "tensor_meta": null}}}'
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(tmp_path / "model.pt2", "w") as changed:
        for part in archive.namelist():
            if part != name and not (name.endswith("weight_0") and part.endswith("weights_config.json")):
                changed.writestr(part, archive.read(part))
        changed.writestr(name, pickle)
        changed.writestr("model/data/weights/model_weights_config.json", config) if name.endswith("weight_0") else None
    with pytest.raises(UserError, match="may hold code"):
        load_program(tmp_path / "model.pt2")
    assert not ran.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_is_no_program_is_refused(tmp_path, content):
    (tmp_path / "model.pt2").write_bytes(content)
    with pytest.raises(UserError, match="no program"):
        load_program(tmp_path / "model.pt2")


def test_a_program_that_holds_a_path_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="/home/someone"):
        save_program(Named(), 1, 16, tmp_path / "model.pt2")


class Named(nn.Module):
    """A network with a part that has the name of a path."""

    def __init__(self):
        super().__init__()
        self.register_buffer("/home/someone", torch.ones(1))

    def forward(self, images):
        return images.mean(dim=(2, 3)) * getattr(self, "/home/someone")
