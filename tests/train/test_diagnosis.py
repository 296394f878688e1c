"""From measurements to causes, and what is measured of networks that were damaged on purpose."""

import copy
from dataclasses import fields, replace

import pytest
import torch
from small import noise_batch, small_method

from medssl.train.diagnosis import CollapseMetrics, CollapseMonitor, diagnose
from medssl.types import Step

HEALTHY = CollapseMetrics(
    embedding_std=0.9, embedding_rank=20, feature_std=0.5, pixel_std=0.2, relative_update=0.05, gradient=3.0, lr=0.002
)


def cause(**metrics: float) -> str | None:
    found = diagnose(replace(HEALTHY, **metrics), 0.1)
    return found.name if found else None


def test_a_healthy_run_has_no_cause_and_neither_has_one_that_could_not_be_measured():
    assert diagnose(HEALTHY, 0.1) is None
    assert diagnose(CollapseMetrics(**{field.name: float("nan") for field in fields(CollapseMetrics)}), 0.1) is None


@pytest.mark.parametrize(
    ("metrics", "name", "measured", "remedy"),
    [
        ({"pixel_std": 0.001}, "constant input", "0.0010", "views.png"),
        ({"relative_update": 0.5}, "learning rate", "50%", "divide train.lr"),
        ({"feature_std": 1e-5, "gradient": 0.0}, "constant encoder", "no gradient", "another seed"),
        ({"feature_std": 1e-5}, "constant encoder", "1e-05", "another seed"),
        ({"embedding_std": 0.05}, "projector", "0.050", "momentum"),
        ({"embedding_rank": 1.3}, "dimensions", "1.3 directions", "train.batch_size"),
    ],
)
def test_each_cause_is_named_with_what_was_measured_and_what_to_change(metrics, name, measured, remedy):
    found = diagnose(replace(HEALTHY, **metrics), 0.1)
    assert found is not None
    assert found.name == name
    assert measured in found.text
    assert remedy in found.text


def test_of_several_causes_the_first_in_the_data_flow_is_named():
    everything = {"embedding_std": 0.0, "embedding_rank": 1.0, "feature_std": 0.0, "relative_update": 2.0, "pixel_std": 0.0}
    order = []
    for metric in ("pixel_std", "relative_update", "feature_std", "embedding_std", "embedding_rank"):
        order.append(cause(**everything))
        del everything[metric]
    assert order == ["constant input", "learning rate", "constant encoder", "projector", "dimensions"]


def test_the_user_sets_the_bound_of_the_embeddings_standard_deviation():
    assert diagnose(replace(HEALTHY, embedding_std=0.05), 0.01) is None


def measure(change, views: torch.Tensor | None = None) -> CollapseMetrics:
    """The metrics of one step of a small NNCLR that `change` has damaged before."""
    method, batch = small_method("nnclr"), noise_batch(size=12)
    with torch.no_grad():
        change(method)
    examine = CollapseMonitor(method.encoder, batch.views[0] if views is None else views)
    step = method(batch)
    step.loss.backward()
    return examine(step, 0.1)


def test_a_network_at_its_start_is_healthy():
    assert diagnose(measure(lambda method: None), 0.1) is None


def test_an_encoder_of_zeros_is_a_constant_encoder_without_gradient():
    metrics = measure(lambda method: [p.zero_() for p in method.encoder.parameters()])
    assert (metrics.feature_std, metrics.gradient) == (0, 0)
    found = diagnose(metrics, 0.1)
    assert found is not None
    assert found.name == "constant encoder"


def test_a_bias_alone_makes_a_constant_encoder_too():
    def blind(method):
        method.encoder.backbone.bn1.weight.zero_()
        method.encoder.backbone.bn1.bias.fill_(1.0)

    metrics = measure(blind)
    assert metrics.feature_std < 1e-6, "the features are not zero, but the same"


def test_views_that_are_all_alike_are_a_constant_input_in_8_bits_and_in_float():
    for views in (torch.full((12, 1, 16, 16), 90, dtype=torch.uint8), torch.full((12, 1, 16, 16), 0.4)):
        assert measure(lambda method: None, views).pixel_std == 0
    one_apart = torch.tensor([90, 92] * 6, dtype=torch.uint8).reshape(12, 1, 1, 1).expand(-1, 1, 16, 16)
    assert measure(lambda method: None, one_apart).pixel_std == pytest.approx(1 / 255)


def test_relative_update_is_the_change_of_the_weights_divided_by_their_length_and_decays():
    method, batch = small_method("nnclr"), noise_batch()
    examine, step = CollapseMonitor(method.encoder, batch.views[0]), method(batch)
    assert examine(step, 0.1).relative_update == 0
    with torch.no_grad():
        for weight in method.encoder.parameters():
            weight *= 1.25
    assert examine(step, 0.1).relative_update == pytest.approx(0.2, rel=1e-5)
    assert examine(step, 0.1).relative_update == pytest.approx(0.18, rel=1e-5)


def test_the_rank_is_not_measured_with_few_rows_or_dimensions_nor_where_it_may_be_one():
    encoder, views = small_method("nnclr").encoder, noise_batch().views[0]
    line = torch.nn.functional.normalize(torch.linspace(-1, 1, 12)[:, None] * torch.ones(16), dim=1)
    step = Step(torch.zeros(()), embeddings=(line, line))
    assert CollapseMonitor(encoder, views)(step, 0.1).embedding_rank == pytest.approx(1, abs=0.01)
    few = replace(step, embeddings=(line[:8], line[:8]))
    narrow = replace(step, embeddings=(line[:, :7], line[:, :7]))
    for examine, of in ((CollapseMonitor(encoder, views), few), (CollapseMonitor(encoder, views), narrow)):
        assert torch.tensor(examine(of, 0.1).embedding_rank).isnan()
    assert torch.tensor(CollapseMonitor(encoder, views, check_rank=False)(step, 0.1).embedding_rank).isnan()


def test_a_measurement_changes_nothing():
    method, batch = small_method("pnnclr").train(), noise_batch()
    before, random = copy.deepcopy(method.state_dict()), torch.get_rng_state()
    examine = CollapseMonitor(method.encoder, batch.views[0])
    examine(Step(torch.zeros(())), 0.1)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    assert all(part.training for part in method.encoder.modules())
    assert torch.equal(random, torch.get_rng_state())
