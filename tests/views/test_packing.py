"""Tensors that go to a GPU in one copy come out as they were."""

import torch
from fake_cuda import CUDA, pretended_gpu

from medssl.views.packing import pack, to_device, unpack

TENSORS = [
    torch.arange(-3, 3).reshape(2, 3).T,
    torch.empty(0, 4, dtype=torch.int64),
    torch.linspace(-1, 1, 7),
    torch.eye(3).expand(2, 3, 3),
    torch.tensor([[float("inf")]]),
]


def test_what_is_unpacked_has_the_numbers_types_and_shapes_of_what_was_packed() -> None:
    packed = pack(TENSORS)
    assert packed.numel() == sum(x.numel() * x.element_size() for x in TENSORS)
    for found, given in zip(unpack(packed, TENSORS), TENSORS, strict=True):
        assert found.dtype == given.dtype and torch.equal(found, given)


def test_a_gpu_gets_them_in_one_copy_for_which_nobody_waits() -> None:
    with pretended_gpu() as gpu:
        found = to_device([torch.zeros(x.shape, dtype=x.dtype) for x in TENSORS], CUDA)
        assert [(x.shape, x.dtype, x.device) for x in found] == [(x.shape, x.dtype, CUDA) for x in TENSORS]
    assert gpu.waits == [] and sum(gpu.launches.values()) == 1
