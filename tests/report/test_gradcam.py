"""Grad-CAM of networks that were built so that it is known which part of the image counts."""

import numpy as np
import pytest
import torch
from torch import nn

from medssl.report.gradcam import Case, grad_cam, last_feature_map, overlay, select_cases


class LooksAtOneQuadrant(nn.Module):
    """Class 1 is how bright the upper left quarter is, class 0 how bright the lower right one: one channel for each, and no other way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, stride=2, padding=1, bias=False)
        self.act = nn.ReLU(inplace=True)
        with torch.no_grad():
            self.conv.weight.fill_(1 / 9)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.act(self.conv(images.contiguous(memory_format=torch.channels_last)))
        half = maps.shape[-1] // 2
        return torch.stack([maps[:, 0, half:, half:].mean((1, 2)), maps[:, 1, :half, :half].mean((1, 2))], 1)


def lit(quadrants: list[tuple[int, int]]) -> np.ndarray:
    image = np.zeros((1, 32, 32), np.float32)
    for row, column in quadrants:
        image[0, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 1
    return image


def test_the_map_is_high_where_the_channel_of_the_class_is_active() -> None:
    """The gradient says how much a channel counts, the activation where it is: a lit quarter that does not count still is the channel's."""
    network = LooksAtOneQuadrant()
    maps = grad_cam(network, np.stack([lit([(0, 0)]), lit([(1, 1)])]), [1, 0])
    assert maps is not None and maps.shape == (2, 32, 32)
    assert maps.max() == 1 and maps.min() >= 0
    inside = [maps[0][:14, :14], maps[1][18:, 18:]]
    outside = [maps[0][18:, 18:], maps[1][:14, :14]]
    assert min(m.mean() for m in inside) > 0.9 and max(m.mean() for m in outside) < 0.05


def test_the_map_of_an_image_in_which_nothing_speaks_for_the_class_is_zero_and_finite() -> None:
    maps = grad_cam(LooksAtOneQuadrant(), lit([])[None], [1])
    assert maps is not None and (maps == 0).all()


def test_the_network_is_left_as_it_was() -> None:
    network = LooksAtOneQuadrant().train().requires_grad_(False)
    grad_cam(network, lit([(0, 0)])[None], [1])
    assert network.training and network.act.inplace and not network.conv._forward_hooks
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    ("model", "expected"),
    [("resnet10t", "layer4"), ("convnext_atto", "stages"), ("vit_tiny_patch16_224", None), ("swin_tiny_patch4_window7_224", None)],
)
def test_the_last_feature_map_is_found_and_a_transformer_has_none(model: str, expected: str | None) -> None:
    import timm

    small = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)} if model.startswith("swin") else {}
    network = timm.create_model(model, num_classes=2, **small).eval()
    assert last_feature_map(network, torch.zeros(1, 3, 224, 224)) == expected
    if expected is None:
        assert grad_cam(network, np.zeros((1, 3, 224, 224), np.float32), [0]) is None


def test_the_most_confident_correct_and_wrong_case_of_each_class_are_selected() -> None:
    y = np.array([0, 0, 0, 1, 1, -1])
    p = np.array([0.2, 0.1, 0.7, 0.9, 0.4, 1.0])  # of class 1
    found = select_cases("multiclass", y, np.stack([1 - p, p], 1), 8)
    assert [(c.index, c.truth, c.predicted, c.correct) for c in found] == [
        (1, 0, 0, True),
        (2, 0, 1, False),
        (3, 1, 1, True),
        (4, 1, 0, False),
    ]
    assert found[0].probability == pytest.approx(0.9)
    assert len(select_cases("multiclass", y, np.stack([1 - p, p], 1), 3)) == 3
    all_correct = select_cases("multiclass", np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), 8)
    assert [c.correct for c in all_correct] == [True, True]


def test_of_several_labels_a_predicted_label_is_correct_where_the_image_has_it() -> None:
    y = np.array([[1, 0], [0, 1], [-1, 0]])
    found = select_cases("multilabel", y, np.array([[0.9, 0.8], [0.6, 0.4], [1.0, 0.1]]), 8)
    assert found == [Case(0, 0, 0, 0.9), Case(1, -1, 0, 0.6), Case(0, -1, 1, 0.8)]
    assert [case.correct for case in found] == [True, False, False]


def test_an_overlay_is_the_picture_where_the_map_is_zero() -> None:
    picture = np.full((4, 4, 3), 100, np.uint8)
    strength = np.zeros((4, 4))
    strength[0, 0] = 1
    over = overlay(picture, strength)
    assert (over[1:] == 100).all()
    assert over[0, 0].tolist() == [round(100 * 0.35 + 0.65 * c) for c in (253.27893, 231.070035, 36.703680)]  # viridis' yellow


class LooksAtTheUpperHalf(nn.Module):
    """Class 1 is how bright the upper slices of a volume are, class 0 how bright the lower ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, stride=2, padding=1, bias=False)
        with torch.no_grad():
            self.conv.weight.fill_(1 / 27)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        maps = self.conv(volumes).relu()
        half = maps.shape[2] // 2
        return torch.stack([maps[:, 0, :half].mean((1, 2, 3)), maps[:, 1, half:].mean((1, 2, 3))], 1)


def test_the_map_of_a_volume_is_a_volume_and_high_where_the_class_is() -> None:
    volumes = np.zeros((2, 1, 16, 12, 20), np.float32)
    volumes[0, :, 8:], volumes[1, :, :8] = 1, 1
    network = LooksAtTheUpperHalf()
    assert last_feature_map(network, torch.from_numpy(volumes[:1])) == "conv"
    maps = grad_cam(network, volumes, [1, 0])
    assert maps is not None and maps.shape == (2, 16, 12, 20)
    assert maps.max() == 1 and maps.min() >= 0
    assert min(maps[0, 10:].mean(), maps[1, :6].mean()) > 0.8 and max(maps[0, :6].max(), maps[1, 10:].max()) < 0.2
