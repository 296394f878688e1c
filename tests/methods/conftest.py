"""A network and a batch small enough for a step in milliseconds."""

import pytest
import torch

from medssl import plugins
from medssl.encoder.artefact import build_encoder
from medssl.types import Batch


@pytest.fixture
def make_batch():
    """batch(step, size): two views of noise, the same for the same step."""

    def make(step: int = 0, size: int = 6) -> Batch:
        images = torch.rand(2, size, 1, 16, 16, generator=torch.Generator().manual_seed(step))
        return Batch((images[0], images[1]), torch.arange(size), step, seed=0)

    return make


@pytest.fixture
def make_method():
    """method(name, **options): with small heads, a support set of 40 rows, and the same weights each time."""

    def make(name: str, **options):
        backbone = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 8, 16, 16]}}
        encoder = build_encoder(backbone, 1, 16, torch.tensor([0.5]), torch.tensor([0.25]), seed=0)
        module = plugins.find("methods", name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return module.build(module.Config(**{"hidden": 32, "width": 16, "support_size": 40, **options}), encoder)

    return make
