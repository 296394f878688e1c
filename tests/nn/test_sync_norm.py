"""Batch normalisation over two processes against torch's over the whole batch in one."""

import copy

import processes
import pytest
import torch
from torch import Tensor, nn

from medssl.nn.sync_norm import SyncNorm, synchronise_norms

B, C, STEPS = 8, 3, 4
KINDS = {
    "1d": (nn.BatchNorm1d, (B, C), {}),
    "1d without scale and shift": (nn.BatchNorm1d, (B, C), {"affine": False}),
    "2d": (nn.BatchNorm2d, (B, C, 4, 5), {}),
    "2d without scale and shift": (nn.BatchNorm2d, (B, C, 4, 5), {"affine": False, "momentum": 0.3, "eps": 1e-2}),
}


def norm_of(kind: str) -> nn.Module:
    """A batch normalisation in float64 whose parameters and statistics are no ones and zeros."""
    make, _, options = KINDS[kind]
    norm, random = make(C, **options).double(), torch.Generator().manual_seed(0)
    for value in norm.state_dict().values():
        if value.is_floating_point():
            value.copy_(0.5 + torch.rand(C, generator=random, dtype=torch.float64))
    return norm


def steps_of(norm: nn.Module, kind: str, part: slice) -> dict:
    """Batches through a norm, of each of which the process sees a part; the last one in evaluation mode."""
    outputs, gradients = [], []
    for step in range(STEPS):
        random = torch.Generator().manual_seed(step)
        x, weight = (2 + 3 * torch.randn(KINDS[kind][1], generator=random, dtype=torch.float64)[part] for _ in range(2))
        x = x.clone().requires_grad_()
        y = norm.train(step < STEPS - 1)(x)
        (y.tanh() * weight).sum().backward()
        outputs.append(y.detach())
        gradients.append(x.grad)
    return {
        "outputs": outputs,
        "input gradients": gradients,
        "parameter gradients": {name: p.grad for name, p in norm.named_parameters()},
        "statistics": {name: b.clone() for name, b in norm.named_buffers()},
    }


def in_a_process(rank: int) -> dict:
    share = B // processes.WORLD
    part = slice(rank * share, (rank + 1) * share)
    return {kind: steps_of(synchronise_norms(norm_of(kind)), kind, part) for kind in KINDS}


@pytest.fixture(scope="module")
def ranks() -> list[dict]:
    return processes.returned(__file__, "in_a_process")


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_normalise_as_one_with_the_whole_batch(kind, ranks):
    one, two = steps_of(norm_of(kind), kind, slice(None)), [rank[kind] for rank in ranks]
    for part in ("outputs", "input gradients"):
        for step, expected in enumerate(one[part]):
            same(torch.cat([rank[part][step] for rank in two]), expected)
    for name, expected in one["parameter gradients"].items():
        torch.testing.assert_close(sum(rank["parameter gradients"][name] for rank in two), expected, rtol=0, atol=1e-12)
    for rank in two:
        assert rank["statistics"].keys() == one["statistics"].keys()
        for name, expected in one["statistics"].items():
            same(rank["statistics"][name], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_alone_normalises_as_torch_does(kind):
    one, found = (steps_of(norm, kind, slice(None)) for norm in (norm_of(kind), synchronise_norms(norm_of(kind))))
    for part in ("outputs", "input gradients"):
        for step, expected in enumerate(one[part]):
            same(found[part][step], expected)
    for part in ("parameter gradients", "statistics"):
        for name, expected in one[part].items():
            same(found[part][name], expected)


def test_in_bfloat16_statistics_stay_float32_and_the_output_has_the_inputs_type():
    theirs = nn.BatchNorm1d(C)
    ours = SyncNorm(copy.deepcopy(theirs))
    x = torch.randn(32, C, generator=torch.Generator().manual_seed(0)).bfloat16()
    found, expected = ours(x), theirs(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
    torch.testing.assert_close(ours.state_dict(), dict(theirs.state_dict()))


def test_a_whole_network_keeps_its_names_its_values_and_its_loss():
    from small import noise_batch, small_method  # here, for the processes need not import all that

    theirs, ours = (small_method("nnclr").double() for _ in range(2))
    before = ours.state_dict()
    after = synchronise_norms(ours).state_dict()
    assert list(after) == list(before)
    assert all(after[name].data_ptr() == value.data_ptr() for name, value in before.items() if value.numel()), "no copies"
    assert not [m for m in ours.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len([m for m in ours.modules() if isinstance(m, SyncNorm)]) > 10
    same(ours(noise_batch()).loss.detach(), theirs(noise_batch()).loss.detach())


def test_a_norm_in_evaluation_mode_stays_in_it():
    found = synchronise_norms(nn.Sequential(nn.Linear(2, C), nn.BatchNorm1d(C), nn.ReLU()).eval())
    assert not any(m.training for m in found.modules())


def test_an_unknown_kind_of_batch_normalisation_is_refused_by_its_name():
    from timm.layers.norm_act import BatchNormAct2d

    with pytest.raises(ValueError, match="BatchNormAct2d"):
        synchronise_norms(nn.Sequential(nn.Conv2d(1, C, 3), nn.Sequential(BatchNormAct2d(C))))
