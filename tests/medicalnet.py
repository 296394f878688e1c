"""Weights in the layout of MedicalNet, made by MONAI's own network."""

from pathlib import Path

import torch
from monai.networks.nets.resnet import ResNet, resnet10


def save_medicalnet(file: Path) -> ResNet:
    """Writes a narrow ResNet-10 with the names of MedicalNet's tensors; returns the network."""
    network = resnet10(
        spatial_dims=3,
        n_input_channels=1,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
        feed_forward=False,
        widen_factor=0.125,
    )
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in network.state_dict().items()}}, file)
    return network.eval()
