"""The artefact: what is saved is what is loaded, and anything else is an error."""

import hashlib
import json

import pytest
import tf32
import torch
from safetensors.torch import load_file, save_file

from medssl.encoder import artefact
from medssl.errors import UserError

BACKBONE = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 8, 16, 16]}}


@pytest.fixture
def saved(tmp_path):
    encoder = artefact.build_encoder(BACKBONE, 1, 16, torch.tensor([0.4]), torch.tensor([0.2]), seed=3)
    encoder(torch.rand(8, 1, 16, 16))  # running statistics that are not the initial ones
    artefact.save(encoder, tmp_path, backbone=BACKBONE, channels=1, size=16, card={"intended_use": "a test"})
    return tmp_path, encoder


def test_a_loaded_encoder_gives_the_same_features(saved):
    folder, encoder = saved
    for path in (folder, folder / artefact.WEIGHTS):
        loaded, card = artefact.load(path)
        x = torch.rand(4, 1, 16, 16)
        assert torch.equal(loaded(x), encoder.eval()(x))
        assert card["intended_use"] == "a test"
        assert not loaded.training


def test_the_probe_of_an_encoder_on_a_gpu_of_tf32_is_that_of_the_cpu(saved, tmp_path):
    """Else an encoder that was exported on a GPU might be refused on a CPU."""
    _, encoder = saved
    expected = artefact.probe_output(encoder, 1, 16)
    tf32.on_gpu(encoder.train())
    image = artefact.probe_image(1, 16)
    with torch.no_grad():
        rounded = encoder.eval()(image)[0]
    assert 1e-5 < float((rounded - expected).abs().max() / expected.abs().max()) < 1e-2
    assert torch.equal(artefact.probe_output(encoder.train(), 1, 16), expected)
    assert encoder.training
    assert tf32.is_on_gpu(encoder), "the training goes on where it was"
    artefact.save(encoder, tmp_path, backbone=BACKBONE, channels=1, size=16, card={"intended_use": "a test"})
    assert torch.equal(artefact.probe_output(artefact.load(tmp_path)[0], 1, 16), expected)


def test_images_of_uint8_and_of_the_unit_range_are_the_same_to_the_encoder(saved):
    _, encoder = saved
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    assert torch.equal(encoder.eval()(images), encoder(images.float() / 255))


def test_the_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = (artefact.build_encoder(BACKBONE, 1, 16, torch.zeros(1), torch.ones(1), seed=s) for s in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    weights = [next(e.parameters()) for e in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def _change_card(folder, **changes):
    card = json.loads((folder / artefact.CARD).read_text())
    (folder / artefact.CARD).write_text(json.dumps({**card, **changes}))


def _resave(folder, change):
    import hashlib

    weights = load_file(folder / artefact.WEIGHTS)
    change(weights)
    save_file(weights, folder / artefact.WEIGHTS)
    _change_card(folder, weights_sha256=hashlib.sha256((folder / artefact.WEIGHTS).read_bytes()).hexdigest())


def test_one_flipped_bit_is_noticed(saved):
    folder, _ = saved
    content = bytearray((folder / artefact.WEIGHTS).read_bytes())
    content[-5] ^= 1
    (folder / artefact.WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match="SHA-256"):
        artefact.load(folder)


def test_a_missing_tensor_or_another_architecture_is_no_silent_random_network(saved):
    folder, _ = saved
    _resave(folder, lambda weights: weights.pop("backbone.conv1.weight"))
    with pytest.raises(UserError, match="Missing key"):
        artefact.load(folder)


def test_another_architecture_is_refused(saved):
    folder, _ = saved
    _change_card(folder, backbone={**BACKBONE, "arguments": {"channels": [8, 8, 16, 32]}})
    with pytest.raises(UserError, match="size mismatch"):
        artefact.load(folder)


def test_other_weights_than_the_card_was_written_for_fail_the_probe(saved):
    folder, _ = saved
    _resave(folder, lambda weights: weights["backbone.conv1.weight"].mul_(1.5))
    with pytest.raises(UserError, match="probe image"):
        artefact.load(folder)


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 64])
def test_a_file_that_is_no_encoder_is_named(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="No encoder at"):
        artefact.load(path)


def rewrite(folder, tensors=None, **entries):
    """Other tensors or entries in an encoder's folder, under a right digest."""
    card = json.loads((folder / artefact.CARD).read_text())
    if tensors is not None:
        save_file(tensors, folder / artefact.WEIGHTS)
        card["weights_sha256"] = hashlib.sha256((folder / artefact.WEIGHTS).read_bytes()).hexdigest()
    (folder / artefact.CARD).write_text(json.dumps(card | entries))


@pytest.mark.fault("S19")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_and_probes_that_are_not_finite_are_refused(saved, bad):
    folder, _ = saved
    output = json.loads((folder / artefact.CARD).read_text())["probe_output"]
    for probe in ([bad] * len(output), [bad, *output[1:]]):
        rewrite(folder, probe_output=probe)
        with pytest.raises(UserError, match="the probe image gives other features"):
            artefact.load(folder)
    tensors = load_file(folder / artefact.WEIGHTS)
    name = next(name for name in tensors if name.endswith("conv1.weight"))
    tensors[name][0, 0, 0, 0] = bad
    rewrite(folder, tensors, probe_output=[bad] * len(output))
    with pytest.raises(UserError, match=f"1 tensors hold numbers that are not finite, as '{name}'"):
        artefact.load(folder)


@pytest.mark.fault("C8")
@pytest.mark.parametrize(("name", "value"), [("size", 0), ("size", 200_000), ("size", "x"), ("channels", 0), ("channels", 10**6)])
def test_a_card_with_an_impossible_size_is_one_message_before_anything_is_built(saved, name, value):
    folder, _ = saved
    card = json.loads((folder / artefact.CARD).read_text())
    (folder / artefact.CARD).write_text(json.dumps({**card, name: value}))
    with pytest.raises(UserError, match=f"card.json is damaged: {name} is no number from 1 to"):
        artefact.load(folder)


VOLUMES = {"name": "monai", "model": "resnet10", "width": 4}


def test_an_encoder_of_volumes_is_loaded_as_it_was_saved(tmp_path):
    size, mean, std = (8, 12, 16), torch.tensor([0.4, 0.3]), torch.tensor([0.2, 0.1])
    encoder = artefact.build_encoder(VOLUMES, 2, size, mean, std, seed=3)
    images = torch.rand(3, 2, *size, generator=torch.Generator().manual_seed(0))
    encoder(images)  # running statistics that are not the initial ones
    artefact.save(encoder, tmp_path, backbone=VOLUMES, channels=2, size=size, card={})
    loaded, card = artefact.load(tmp_path)
    assert card["size"] == size
    assert json.loads((tmp_path / artefact.CARD).read_text())["size"] == [8, 12, 16]
    assert "[N, 2, 8, 12, 16]" in (tmp_path / "MODEL_CARD.md").read_text()
    assert loaded.memory_format == torch.channels_last_3d
    with torch.no_grad():
        assert torch.equal(loaded(images), encoder.eval()(images))
        standard = (images - mean.view(2, 1, 1, 1)) / std.view(2, 1, 1, 1)
        torch.testing.assert_close(loaded(images), loaded.backbone(standard), rtol=0, atol=1e-5)


def test_the_probe_volume_is_in_the_unit_range_and_has_another_value_along_each_axis():
    probe = artefact.probe_image(2, (8, 12, 16))
    assert probe.shape == (1, 2, 8, 12, 16)
    assert probe.min() >= 0 and probe.max() <= 1
    assert all(probe.std(axis).mean() > 0.1 for axis in (2, 3, 4))


@pytest.mark.parametrize("size", [[8, 8], [8, 8, 0], [8, 8, 5000], [8, 8, "x"], [8, 8, 8, 8]])
def test_a_card_with_an_impossible_size_of_volumes_is_one_message(saved, size):
    folder, _ = saved
    _change_card(folder, size=size)
    with pytest.raises(UserError, match=r"card.json is damaged: size is no (number|three numbers) from 1 to"):
        artefact.load(folder)
