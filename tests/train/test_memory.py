"""The memory that a training keeps of an image, counted by hand."""

import torch
from torch import nn

from medssl.nn import Encoder
from medssl.train.memory import activation_bytes


class Flat(nn.Sequential):
    """A linear layer keeps its input, the activation after it its output."""

    num_features = 8


def encoder(*layers: nn.Module) -> Encoder:
    return Encoder(Flat(*layers), torch.tensor([0.5]), torch.tensor([0.25]))


def test_what_is_kept_of_an_image_is_the_inputs_of_its_layers_and_not_the_weights():
    network = encoder(nn.Flatten(), nn.Linear(16 * 16, 8), nn.ReLU())
    assert activation_bytes(network, 1, 16) == 4 * (16 * 16 + 8)
    assert next(network.parameters()).device.type == "cpu"


def test_volumes_have_three_edges():
    network = Encoder(Flat(nn.Flatten(), nn.Linear(4 * 6 * 8, 8), nn.ReLU()), torch.tensor([0.5]), torch.tensor([0.25]), axes=3)
    assert activation_bytes(network, 1, (4, 6, 8)) == 4 * (4 * 6 * 8 + 8)


def test_of_a_network_that_looks_at_its_values_nothing_is_said():
    class Looks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float(x.max())

    assert activation_bytes(encoder(Looks()), 1, 16) == 0
