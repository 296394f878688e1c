"""pipelines/neighbour_rules.py and neighbour_agreement.py: other rules for the neighbours of pNNCLR, and how many neighbours are right."""

import pytest
import torch
import yaml
from small import batch_for, noise_batch, shallow_encoder

from medssl.config import parse_overrides
from medssl.methods import pnnclr
from medssl.nn import l2_normalize, tags_of
from medssl.runs import presets


@pytest.fixture
def agreement(script):
    return script("pipelines/neighbour_agreement.py")


@pytest.fixture
def rules(script):
    return script("pipelines/neighbour_rules.py")


def made(module, **settings):
    sizes = {"hidden": 16, "width": 8, "support_size": 20, "momentum": 0.0, "base": "nnclr", "delay": 0.0, "ramp": 0.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module.build(module.Config(**{**sizes, **settings}), shallow_encoder())


def test_every_variant_with_another_rule_is_a_configuration(rules, repository):
    found = 0
    for name in ("neighbour_rules", "longer"):
        study = yaml.safe_load((repository / f"pipelines/{name}.yaml").read_text("utf-8"))
        for given in (study, *study["data"].values()):
            for settings in given.get("variants", {}).values():
                if "method=neighbour_rules" in settings:
                    method = parse_overrides(settings[1:])["method"]
                    rules.Config(**method)
                    found += 1
    assert found >= 13


def test_rules_for_neighbours_are_compared_with_the_same_heads(repository):
    """Another method drops the preset's options of the method but the widths of its heads: the study names the others for all variants."""
    for data in yaml.safe_load((repository / "pipelines/neighbour_rules.yaml").read_text("utf-8"))["data"].values():
        of_preset, named = presets.load(data["preset"])["method"], parse_overrides(data["set"])["method"]
        assert {"delay", "ramp"} | ({"base"} & set(of_preset)) == set(named)
        assert named.get("base") == of_preset.get("base")


def test_other_rules_for_neighbours_meet_pnnclr_at_their_limit(rules):
    batch = noise_batch()
    for base in ("simclr", "nnclr"):
        assert torch.allclose(made(rules, base=base)(batch).loss, made(pnnclr, base=base)(batch).loss, rtol=1e-6)
    others = [made(rules, rule=rule)(batch).loss for rule in ("nearest", "mutual", "several", "agreement")]
    others += [made(rules, trusted=0.5)(batch).loss]
    assert len({loss.item() for loss in others}) == 5
    half_own, without = (made(rules, **each)(batch).loss for each in ({"own": 0.5}, {"delay": 1.0}))
    assert torch.allclose(half_own, (others[0] + without) / 2), "the mean of the loss with neighbours and without"
    near, asked = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert rules.is_mutual(near, asked).tolist() == [[True], [False]], "the first is closer to the neighbour of both"
    assert rules.are_similar(near, asked, 0.5).tolist() == [[True], [False]]
    assert rules.are_similar(near, asked, 1.0).tolist() == [[True], [True]]


@pytest.mark.parametrize("base", ["simclr", "nnclr"])
def test_before_the_first_neighbour_every_rule_trains_like_pnnclr_to_the_last_bit(base, rules):
    def gradient(module, **settings):
        method = made(module, base=base, delay=1.0, **settings)
        method(batch_for(method)).loss.backward()
        return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])

    of_pnnclr = gradient(pnnclr)
    for settings in ({"rule": "mutual"}, {"rule": "several"}, {"rule": "agreement"}, {"rule": "weak_view"}, {"trusted": 0.25}):
        assert torch.equal(gradient(rules, **settings), of_pnnclr), settings
    own = gradient(rules, own=0.5)
    assert 0 < (own - of_pnnclr).norm() < 1e-5 * of_pnnclr.norm(), "the study's row 'other rounding'"


def test_a_weak_view_is_looked_up_and_pushed_and_leaves_the_statistics_of_the_other_views(rules):
    weak, two_views = made(rules, rule="weak_view"), made(rules)
    batch = batch_for(weak)
    step = weak(batch)
    two_views(batch)
    expected = {name: buffer for name, buffer in two_views.encoder.named_buffers() if "running" in name}
    found = dict(weak.encoder.named_buffers())
    assert expected
    assert all(torch.equal(found[name], buffer) for name, buffer in expected.items())
    rows = l2_normalize(weak.projector(weak.encoder(batch.views[2])))
    assert torch.allclose(step.push.values, rows, atol=1e-6)
    assert torch.equal(step.lookup.index, weak.support.nearest(rows, tags_of(batch), 1)[:, 0])


def test_neighbours_are_counted_as_a_loop_over_all_pairs_counts_them(agreement):
    random = torch.Generator().manual_seed(0)
    names = ("first", "second", "whole", "features")
    of = {name: l2_normalize(torch.randn(40, 3, generator=random)) for name in names}
    of["label"] = torch.randint(3, (40,), generator=random)
    rows, asked = range(20), range(20, 40)

    def cosine(asking: str, i: int, name: str, j: int) -> float:
        return float(of[asking][i].double() @ of[name][j].double())

    def nearest(asking: str, name: str, i: int) -> int:
        return max(rows, key=lambda j: cosine(asking, i, name, j))

    def right(found: dict[int, int]) -> tuple[float, float]:
        return len(found) / 20, sum(bool(of["label"][i] == of["label"][j]) for i, j in found.items()) / len(found)

    def most_similar(asking: str, name: str, count: int) -> dict[int, int]:
        found = {i: nearest(asking, name, i) for i in asked}
        return dict(sorted(found.items(), key=lambda pair: -cosine(asking, pair[0], name, pair[1]))[:count])

    found = {i: nearest("second", "first", i) for i in asked}
    mean = {i: max(rows, key=lambda j: cosine("first", i, "first", j) + cosine("second", i, "first", j)) for i in asked}
    expected = {
        "at random": (1, sum(bool(of["label"][i] == of["label"][j]) for i in asked for j in rows) / 400),
        "nearest row (pnnclr)": right(found),
        "nearest by the encoder's features": right({i: nearest("features", "features", i) for i in asked}),
        "nearest to the mean of both views": right(mean),
        "whole images, among whole images": right({i: nearest("whole", "whole", i) for i in asked}),
        "nearest, where no other image is closer to the neighbour": right(
            {i: j for i, j in found.items() if i == max(asked, key=lambda k: cosine("second", k, "first", j))}
        ),
        "nearest, where both views have the same": right({i: j for i, j in found.items() if nearest("first", "first", i) == j}),
        "nearest, where closer than the other view": right(
            {i: j for i, j in found.items() if cosine("second", i, "first", j) > cosine("first", i, "second", i)}
        ),
        "nearest, the more similar half": right(most_similar("second", "first", 10)),
        "nearest, the most similar quarter": right(most_similar("second", "first", 5)),
        "whole images, the most similar quarter": right(most_similar("whole", "whole", 5)),
    }
    counted = agreement.agreements(of)
    assert counted.keys() == expected.keys()
    for rule, numbers in expected.items():
        assert counted[rule] == pytest.approx(numbers, abs=1e-6), rule


@pytest.mark.slow
def test_the_images_of_a_finished_run_are_projected_once_and_the_run_stays_as_it_is(agreement, pretrained):
    folder = pretrained[0]
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    of = agreement.projected(folder)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    n = len(of["label"])
    assert n % 8 == 0
    assert n > 8
    assert set(of["label"].tolist()) == {0, 1}
    for name in ("first", "second", "whole", "features"):
        assert torch.allclose(of[name].norm(dim=1), torch.ones(n), atol=1e-5)
        assert len(of[name].unique(dim=0)) == n, "no image twice"
