"""pNNCLR in short trainings, which have no target network: its settings, its parts, and SimCLR, which it is before neighbours are used."""

import pytest
import torch
from pydantic import ValidationError
from small import noise_batch, shallow_encoder, small_method, train

from medssl import methods
from medssl.methods import pnnclr


@pytest.mark.parametrize(
    ("images", "steps", "support", "momentum"),
    [(2, 10, 1, 0), (545, 2000, 272, 0), (545, 79_999, 272, 0), (10_000, 80_000, 5000, 0.99975), (10**6, 10**6, 16_384, 0.99998)],
)
def test_auto_follows_the_number_of_images_and_of_steps(images, steps, support, momentum):
    config = methods.fit_to(pnnclr.Config(), images, steps)
    assert config.support_size == support
    assert config.momentum == pytest.approx(momentum)
    assert config.base == ("nnclr" if momentum else "simclr")
    given = pnnclr.Config(support_size=7, momentum=0.5, base="nnclr")
    assert methods.fit_to(given, images, steps) == given


def test_simclrs_heads_never_have_a_target_network():
    assert methods.fit_to(pnnclr.Config(base="simclr"), 10**6, 10**6).momentum == 0
    with pytest.raises(ValidationError, match=r"method\.momentum above 0\) needs method\.base=nnclr"):
        pnnclr.Config(base="simclr", momentum=0.5)


def test_without_momentum_there_is_no_second_network_and_no_predictor():
    def parts(**options) -> set[str]:
        return {name.partition(".")[0] for name in small_method("pnnclr", **options).state_dict()} - {"encoder", "support", "progress"}

    assert parts(momentum=0.0) == {"projector"}
    assert parts(momentum=0.0, base="nnclr") == {"projector", "predictor"}
    assert parts(momentum=0.9) == {"projector", "predictor", "target_encoder", "target_projector"}


@pytest.mark.parametrize("masked", [False, True])
def test_without_a_target_network_and_before_neighbours_are_used_it_is_simclr(agrees, masked):
    options = {"width": 12, "hidden": 20, "mask_same_patient": masked}
    ours = small_method("pnnclr", shallow_encoder(), momentum=0.0, delay=1.0, **options).double()
    theirs = small_method("simclr", shallow_encoder(), **options).double()
    theirs.load_state_dict({key: value for key, value in ours.state_dict().items() if key.startswith(("encoder", "projector"))})
    found, expected = (torch.tensor(train(m, 4, progress=0.0), dtype=torch.float64) for m in (ours, theirs))
    agrees(found, expected)


def test_without_a_target_network_the_projections_of_both_views_learn():
    def of_the_projector(stop: bool) -> torch.Tensor:
        m = small_method("pnnclr", momentum=0.0, delay=1.0, stop_gradient=stop)
        m(noise_batch()).loss.backward()
        return next(m.projector.parameters()).grad

    assert not torch.allclose(of_the_projector(False), of_the_projector(True))
