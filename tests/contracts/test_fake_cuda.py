"""On a pretended GPU (`fake_cuda.py`): whole steps of every method have all tensors on the device, and make the host wait for nothing."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import CUDA, pretended_gpu
from launches_page import MOST_LAUNCHES, MOST_VIEWS, launches, launches_of_views
from pretended_step import PretendedStep, encoder_of
from small import CLASSES, noise_batch, shallow_encoder, small_method
from torch import nn

from medssl import plugins
from medssl.commands import predict
from medssl.config import Finetune
from medssl.evaluate.models import Classifier, FeaturesWithThumbnail, Statistics
from medssl.evaluate.models.features import extract
from medssl.evaluate.models.full_finetune import FullTraining, fit_full
from medssl.methods import uses_labels
from medssl.nn import SupportSet, vote
from medssl.nn.sync_norm import SyncNorm
from medssl.report.gradcam import grad_cam
from medssl.train import optimisers

METHODS = plugins.names("methods")
AT_THE_END = "cudaEventSynchronize"  # for the newest of the device's work
READS = "aten::_local_scalar_dense"
VIT = ("vit_tiny_patch16_224", {"patch_size": 8, "depth": 1, "embed_dim": 32, "num_heads": 2})
CONVNEXT = ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]})
OPTIONS = [
    ("nnclr", {"clusters": 3, "neighbours": "other_patients", "cancel": 2, "mask_same_patient": True}),
    ("nnclr", {"neighbours": "same_patient"}),
    ("pnnclr", {"top_k": 4, "terms": 4, "stop_gradient": True, "momentum": 0.0}),
    ("moco", {"version": "v3"}),
    ("moco", {"symmetric": True, "mask_same_patient": True}),
]


def test_a_step_makes_the_host_wait_for_nothing_nor_does_the_next_one_that_reads_its_flag():
    gpu = PretendedStep(small_method("pnnclr", shallow_encoder()), steps=2, views=False).run()
    assert gpu.waits == []
    assert {"forward", "backward", "optimiser", "after the update"} <= set(gpu.launches)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "dtype"), [("chest_xray", torch.uint16), ("natural", torch.uint8)])
def test_many_crops_of_every_recipe_and_type_wait_for_nothing(recipe, dtype):
    assert PretendedStep(small_method("dino", shallow_encoder()), recipe=recipe, dtype=dtype).run().waits == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "optimiser"), [*((name, "adamw") for name in METHODS), *((name, of) for name in ("pnnclr", "moco") for of in ("sgd", "lars"))]
)
def test_every_method_waits_for_nothing_with_every_optimiser(name, optimiser):
    assert PretendedStep(small_method(name, shallow_encoder()), optimiser, views=name == "dino").run().waits == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_options_of_a_method_wait_for_nothing(name, options):
    assert PretendedStep(small_method(name, shallow_encoder(), **options), views=False).run().waits == []


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [VIT, CONVNEXT], ids=["vit", "convnext"])
def test_other_networks_and_parts_of_batches_wait_for_nothing(backbone):
    method = small_method("pnnclr", encoder_of(*backbone, channels=3, size=32))
    method.encoder.micro_batch = 4
    assert PretendedStep(method, channels=3, size=32, precision=None, views=False).run().waits == []


@pytest.mark.slow
def test_a_step_launches_no_more_kernels_than_the_page_allows():
    assert sum(launches("pnnclr").values()) <= MOST_LAUNCHES


@pytest.mark.parametrize("recipe", MOST_VIEWS)
def test_two_views_launch_few_kernels(recipe):
    assert launches_of_views(recipe) <= MOST_VIEWS[recipe]


def test_an_index_of_the_host_for_a_table_of_the_device_is_caught(monkeypatch):
    monkeypatch.setattr(SupportSet, "_oldest", lambda self, number: torch.arange(number) % len(self.rows))
    with pytest.raises(AssertionError, match="of the host beside one of the device"):
        PretendedStep(small_method("nnclr", shallow_encoder()), views=False).run()


PLANTED: list[tuple[str, Callable[[SupportSet, int], torch.Tensor]]] = [
    (READS, lambda Q, number: (Q.pushed.item() + torch.arange(number, device=Q.rows.device)) % len(Q.rows)),
    ("aten::_to_copy to cpu", lambda Q, number: (Q.tags[:, 0].cpu() * 0).to(CUDA)[:number]),
    ("aten::_to_copy to cuda", lambda _, number: torch.arange(number).to(CUDA)),
]


@pytest.mark.parametrize(("wait", "planted"), PLANTED)
def test_a_wait_that_is_planted_is_caught(wait, planted, monkeypatch):
    monkeypatch.setattr(SupportSet, "_oldest", planted)
    assert wait in PretendedStep(small_method("nnclr", shallow_encoder()), views=False).run().waits


@pytest.mark.parametrize("optimiser", ["adamw", pytest.param("sgd", marks=pytest.mark.slow), pytest.param("lars", marks=pytest.mark.slow)])
def test_a_checkpoint_of_a_cpu_goes_on_on_a_gpu_and_back(optimiser):
    """The state is that of one applied step; the fused step of SGD is the GPU's alone."""
    on_cpu = small_method("nnclr", shallow_encoder())
    made = optimisers.make(optimiser, on_cpu, 1e-3, 0.05)
    on_cpu(noise_batch()).loss.backward()
    made.step()
    step = PretendedStep(small_method("nnclr", shallow_encoder()), optimiser, views=False, start=(on_cpu.state_dict(), made.state_dict()))
    assert step.run().waits == []
    assert step.state is not None
    with pretended_gpu():
        optimisers.restore(made, step.state[1])
        on_cpu.load_state_dict(step.state[0])
        assert {value.device.type for of in made.state.values() for key, value in of.items() if key != "step"} == {"cpu"}
        assert [group.get("fused") for group in made.param_groups] == [True if optimiser == "adamw" else None] * 2
        assert {value.device.type for value in on_cpu.state_dict().values()} == {"cpu"}


def test_features_wait_only_for_those_of_the_batch_at_the_end():
    images = np.zeros((20, 1, 16, 16), np.uint16)
    with pretended_gpu() as gpu:
        network = shallow_encoder().to(CUDA)
        gpu.waits.clear()
        assert extract(network, images, np.arange(20), CUDA, batch_size=10).shape == (20, 64)
    assert gpu.waits == [AT_THE_END]


def test_a_prediction_waits_once_for_each_part_of_the_images(monkeypatch, reporter):
    images = np.zeros((20, 1, 16, 16), np.uint8)
    store: Any = SimpleNamespace(images=images, inputs=images, table=range(20))
    classifier = Classifier(shallow_encoder(), 2)
    width = 64 + len(FeaturesWithThumbnail()(torch.zeros(1, 1, 16, 16))[0])
    statistics = Statistics(np.zeros(width), np.eye(width), np.zeros(1001))
    monkeypatch.setattr(predict, "_BATCH_SIZE", 10)
    with pretended_gpu() as gpu:
        classifier.encoder.to(CUDA)
        gpu.waits.clear()
        found = predict._predict(reporter(), classifier, statistics, store, None, CUDA)
    assert found.prob.shape == (20, 2) and found.far.shape == (20,)
    assert gpu.waits == [AT_THE_END] * 2


def test_grad_cam_waits_only_for_its_pictures_at_the_end():
    with pretended_gpu() as gpu:
        classifier = Classifier(shallow_encoder(), 3).to(CUDA)
        gpu.waits.clear()
        maps = grad_cam(classifier, np.zeros((2, 1, 32, 32), np.float32), [0, 2])
    assert maps is not None and maps.shape == (2, 32, 32)
    assert gpu.waits == [AT_THE_END] and gpu.launches["backward"] > 4


def test_a_normalisation_over_all_devices_waits_for_nothing():
    with pretended_gpu() as gpu:
        norm = SyncNorm(nn.BatchNorm2d(8)).to(CUDA)
        gpu.waits.clear()
        norm(torch.rand(4, 8, 6, 6, device=CUDA, requires_grad=True)).sum().backward()
    assert gpu.waits == [] and gpu.launches["forward"] == 0 < gpu.launches["backward"]


def test_the_vote_of_neighbours_waits_for_nothing():
    with pretended_gpu() as gpu:
        vote(torch.rand(40, 8, device=CUDA), torch.rand(40, CLASSES, device=CUDA), torch.rand(9, 8, device=CUDA), k=5)
    assert gpu.waits == []


def test_a_step_of_fine_tuning_waits_for_nothing():
    images, y = np.zeros((40, 1, 16, 16), np.uint8), np.arange(40) % 2
    settings = Finetune.model_validate({"steps": 2, "batch_size": 8, "early_stopping": False})
    patients = np.array([f"p{i}" for i in range(40)])
    with pretended_gpu() as gpu:
        training = FullTraining(images, y, patients, 2, settings, lambda image, _: image, CUDA, precision=torch.bfloat16)
        encoder, first = shallow_encoder().to(CUDA), list[int]()
        assert fit_full(encoder, np.arange(40), training, on_step=lambda: first.append(len(gpu.waits))).step == 2
    assert gpu.waits[first[0] :] == []


def test_labels_are_on_the_device_where_a_method_uses_them():
    assert [name for name in METHODS if uses_labels(name)] == ["supervised"]
    method = small_method("supervised", shallow_encoder())
    with pretended_gpu():
        method = method.to(CUDA)
        batch = noise_batch().to(CUDA)
        assert batch.labels is not None
        with pytest.raises(AssertionError, match="host"):
            method(replace(batch, labels=torch.zeros(6, dtype=torch.int64)))
