"""In which numbers a training computes. Without a GPU: its compute capability is pretended."""

import time

import pytest
import torch

from medssl.errors import UserError
from medssl.train import precision
from medssl.train.precision import bfloat16_is_faster, choose_precision
from medssl.types import LocalViews
from medssl.views.multi_crop import smallest_view

CPU = torch.device("cpu")


@pytest.fixture
def instructions(monkeypatch):
    """Sets whether the CPU has AMX and AVX512_BF16, and how many milliseconds a convolution takes in float32 and in bfloat16."""

    def set_to(amx, avx512_bf16, float32=0, bfloat16=0):
        milliseconds = {torch.float32: float32, torch.bfloat16: bfloat16}
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
        monkeypatch.setattr(precision.functional, "conv2d", lambda maps, *_, **__: time.sleep(milliseconds[maps.dtype] / 1000))
        bfloat16_is_faster.cache_clear()

    yield set_to
    bfloat16_is_faster.cache_clear()


@pytest.mark.parametrize(("amx", "avx512_bf16"), [(True, True), (True, False), (False, True), (False, False)])
def test_bfloat16_is_chosen_on_a_cpu_that_has_instructions_for_it_and_is_faster(amx, avx512_bf16, instructions):
    instructions(amx, avx512_bf16, float32=4, bfloat16=1)
    assert choose_precision("auto", CPU) == (torch.bfloat16 if amx or avx512_bf16 else None)


@pytest.mark.parametrize("bfloat16", [8, 4])
def test_a_cpu_that_is_not_faster_in_bfloat16_computes_in_float32_unless_the_user_asks(bfloat16, instructions):
    instructions(False, True, float32=4, bfloat16=bfloat16)
    assert choose_precision("auto", CPU) is None
    assert choose_precision("bf16", CPU) == torch.bfloat16


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), None), ((7, 0), None)])
def test_bfloat16_is_chosen_on_gpus_from_ampere_on_and_refused_on_older_ones(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    cuda = torch.device("cuda")
    assert choose_precision("auto", cuda) == expected
    if expected is None:
        with pytest.raises(UserError, match=rf"compute capability is {capability[0]}\.{capability[1]}.*train\.precision=auto"):
            choose_precision("bf16", cuda)
    else:
        assert choose_precision("bf16", cuda) == expected


def test_whole_volumes_are_float32_on_a_cpu_and_their_gradients_are_right(monkeypatch):
    """In bfloat16 oneDNN leaves parts of the gradient of a convolution in three axes unwritten where the volume has two slices."""
    monkeypatch.setattr(precision, "bfloat16_is_faster", lambda: True)
    with pytest.raises(UserError, match=r"on CPUs convolutions of volumes, .* wrong gradients in bfloat16"):
        choose_precision("bf16", CPU, view=(32, 32, 32))
    assert choose_precision("bf16", CPU) == torch.bfloat16
    generator = torch.Generator().manual_seed(0)
    volumes, weight = torch.randn(4, 8, 2, 6, 6, generator=generator), torch.randn(8, 8, 3, 3, 3, generator=generator)

    def gradient(dtype):
        own = weight.to(dtype, copy=True).requires_grad_()
        return torch.autograd.grad(torch.nn.functional.conv3d(volumes.to(dtype), own, padding=1).square().sum(), own)[0]

    chosen = choose_precision("auto", CPU, view=(32, 32, 32))
    with torch.autocast("cpu", chosen, enabled=chosen is not None):
        found = gradient(torch.float32)
    assert torch.allclose(found.double(), gradient(torch.float64), rtol=1e-4, atol=1e-2)


def test_images_of_at_most_16_pixels_are_float32_on_a_cpu(monkeypatch):
    """There the last level of a ResNet has one pixel, and oneDNN leaves the outer parts of a kernel's gradient unwritten."""
    monkeypatch.setattr(precision, "bfloat16_is_faster", lambda: True)
    assert choose_precision("auto", CPU, view=16) is None
    assert choose_precision("auto", CPU, view=24) == torch.bfloat16
    local = LocalViews(4, 0.43, (0.05, 0.4), (0.4, 1))
    assert (smallest_view(28, None), smallest_view(28, local), smallest_view(64, local)) == (28, 16, 24)
    assert smallest_view((32, 32, 32), local) == (32, 32, 32)


def test_fp32_is_float32_everywhere():
    assert choose_precision("fp32", torch.device("cuda")) is None
    assert choose_precision("fp32", CPU) is None
