"""Features: the rows asked for, in their order, in float32, leaving the network as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from medssl.errors import UserError
from medssl.evaluate.models.features import Pixels, extract

CPU = torch.device("cpu")


class Mean(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.float32 and not self.training
        return images.mean(dim=(2, 3))


def test_features_are_computed_in_float32_and_not_in_tf32() -> None:
    class Looks(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert not torch.backends.cudnn.allow_tf32
            return images.mean(dim=(2, 3))

    assert torch.backends.cudnn.allow_tf32, "torch's default"
    extract(Looks(), np.zeros((2, 1, 4, 4), np.uint8), np.arange(2), CPU)
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_rows_come_in_their_order_as_shares_of_the_full_range(dtype: type, full: int) -> None:
    images = (np.arange(5) * full // 4).astype(dtype).reshape(5, 1, 1, 1).repeat(4, 2).repeat(4, 3)
    features = extract(Mean(), images, np.array([4, 0, 2]), CPU, batch_size=2)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, [[1.0], [0.0], [0.5]], atol=1 / full)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_stored_value_becomes_the_float_that_it_always_became(dtype: type) -> None:
    """Divided in float32, so that features of earlier versions, in caches and in cards, are those of today, to the bit."""
    full = int(np.iinfo(dtype).max)
    images = np.arange(full + 1, dtype=dtype).reshape(-1, 1, 16, 16)
    features = extract(nn.Flatten(), images, np.arange(len(images)), CPU, batch_size=100)
    assert np.array_equal(features.ravel(), np.arange(full + 1, dtype=np.float32) / np.float32(full))


def test_batch_size_and_other_rows_do_not_change_a_row_and_batch_norm_is_left_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network[1].eval()
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8), dtype=np.uint8)
    whole = extract(network, images, np.arange(7), CPU)
    np.testing.assert_allclose(whole[[3]], extract(network, images, np.array([3]), CPU, batch_size=1), atol=1e-6)
    assert network.training and network[0].training and not network[1].training
    assert network[1].state_dict()["num_batches_tracked"].item() == 0


def test_bf16_autocast_around_it_does_not_reach_the_features() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    expected = network(torch.from_numpy(images).float() / 255).detach().numpy()
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_allclose(extract(network, images, np.arange(2), CPU), expected, rtol=1e-5)


def test_raw_pixels_are_block_means_of_28_by_28() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 56, 56), dtype=np.uint8)
    blocks = image.reshape(28, 2, 28, 2).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(extract(Pixels(), image, np.array([0]), CPU)[0], blocks.ravel(), atol=1e-6)


def test_features_that_are_not_finite_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1) / 0

    with pytest.raises(UserError, match="not finite"):
        extract(Broken(), np.zeros((1, 1, 2, 2), np.uint8), np.array([0]), CPU)
