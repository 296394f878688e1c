"""The encoder in parts: with `micro_batch` memory is that of a part, loss and gradients are those of the whole batch."""

import pytest
import torch
from small import batch_for, shallow_encoder, small_method
from torch import nn

from medssl.nn.encoder import Encoder


def plain_encoder() -> Encoder:
    """Without batch normalisation, which sees parts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.GELU(), nn.Conv2d(8, 16, 3), nn.AdaptiveMaxPool2d(2), nn.Flatten())
    backbone.num_features = 64  # pyright: ignore[reportArgumentType]
    return Encoder(backbone, torch.tensor([0.5]), torch.tensor([0.25]))


def gradients(name: str, micro_batch: int | None) -> dict[str, torch.Tensor]:
    method = small_method(name, plain_encoder()).double()
    for part in method.modules():
        if isinstance(part, Encoder):
            part.micro_batch = micro_batch
    step = method(batch_for(method, size=12))
    step.loss.backward()
    return {"loss": step.loss.detach(), **{key: p.grad for key, p in method.named_parameters() if p.grad is not None}}


@pytest.mark.parametrize("name", ["pnnclr", "nnclr", "simclr", "vicreg", "barlow", "moco"])
def test_in_parts_of_five_loss_and_gradients_are_those_of_the_whole_batch(name):
    whole, parts = gradients(name, None), gradients(name, 5)
    assert whole.keys() == parts.keys()
    assert max(float((whole[key] - parts[key]).abs().max()) for key in whole) < 1e-12


def test_each_part_is_normalised_and_counted_once_though_it_is_computed_twice():
    encoder, reference = shallow_encoder(), shallow_encoder()
    encoder.micro_batch = 4
    images = torch.rand(10, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([reference(part) for part in (images[:4], images[4:8], images[8:])])
    features = encoder(images)
    assert torch.equal(features, expected)
    features.square().sum().backward()
    expected.square().sum().backward()
    for (name, ours), theirs in zip(encoder.state_dict().items(), reference.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    for (name, ours), theirs in zip(encoder.named_parameters(), reference.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6), name  # pyright: ignore[reportArgumentType]


def test_in_evaluation_nothing_is_split():
    encoder, reference = shallow_encoder().eval(), shallow_encoder().eval()
    encoder.micro_batch = 4
    images = torch.rand(10, 1, 16, 16)
    assert torch.equal(encoder(images), reference(images))


def test_what_the_backward_pass_must_keep_is_that_of_a_part():
    def kept(micro_batch: int | None) -> int:
        encoder = shallow_encoder()
        encoder.micro_batch = micro_batch
        bytes_kept = 0

        def pack(x: torch.Tensor) -> torch.Tensor:
            nonlocal bytes_kept
            bytes_kept += x.nbytes
            return x

        images = torch.rand(64, 1, 16, 16)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            encoder(images)
        return bytes_kept

    assert kept(8) < kept(None) / 4
