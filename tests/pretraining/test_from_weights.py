"""A pretraining that starts from weights: what follows them, what the run keeps of them, and what a fine-tuning compares."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from medssl.commands import pretrain as pretraining
from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.config import Config, merge, resolve
from medssl.data.sources.folder import Config as Folder
from medssl.encoder import artefact
from medssl.errors import Interrupted, UserError
from medssl.finetuning.initialisations import load_start
from medssl.pretraining.from_weights import check_same_weights, follow_weights
from medssl.pretraining.trainer import build_training
from medssl.runs.dataset import prepare_dataset
from medssl.runs.resolve_config import list_source, settings_of_result
from medssl.runs.run_dir import load_config
from medssl.runs.start import continued, with_weights
from medssl.train.launch import Launch
from medssl.train.processes import Team

MODEL = "test_resnet"
SMALL = {"data": {"size": 32, "channels": 1}, "backbone": {"name": "timm", "model": "resnet18", "stem": "small"}}


def write_weights(file: Path, seed: int = 0, model: str = MODEL) -> Path:
    torch.manual_seed(seed)
    network = timm.create_model(model, num_classes=5)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
    return file


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / f"{MODEL}.mine.safetensors")


def followed(reporter: Any, file: Path, **sections: Any) -> tuple[Config, str]:
    """The configuration after `--init file`, with settings beside it, and what was said."""
    given = merge({"backbone": {"init": str(file)}}, sections)
    said = reporter()
    return follow_weights(said, resolve(merge(SMALL, given)), given), "\n".join(said.said)


def test_the_backbone_and_the_learning_rate_follow_the_weights_and_that_is_said(weights, reporter):
    config, said = followed(reporter, weights)
    assert (config.backbone.model, config.backbone.stem, config.backbone.arguments) == (MODEL, "own", {})
    assert (config.train.lr, config.train.encoder_rate) == (1e-3, 0.1)
    assert len(config.backbone.init_sha256) == 64
    assert f"backbone  follows the weights: model {MODEL} (was resnet18), stem own (was small)" in said
    assert "the encoder learns at 0.1 of train.lr" in said
    assert "conv1.0.weight: 3 to 1 channels, summed" in said


def test_settings_of_the_user_win_or_are_refused_beside_the_weights(weights, reporter):
    config, said = followed(reporter, weights, train={"encoder_rate": 0.5})
    assert config.train.encoder_rate == 0.5 and "learns at" not in said
    with pytest.raises(UserError, match=rf"{MODEL}\.mine\.safetensors: .* of {MODEL}, and backbone\.model is resnet34"):
        followed(reporter, weights, backbone={"model": "resnet34"})
    with pytest.raises(UserError, match=r"other weights .*\(backbone\.init_sha256\)"):
        followed(reporter, weights, backbone={"init_sha256": "0" * 64})


def test_the_weights_of_a_preset_have_the_rates_of_the_preset(weights, reporter):
    config = resolve(merge(SMALL, {"backbone": {"init": str(weights)}}))
    assert follow_weights(reporter(), config, {}).train == config.train
    without = resolve(SMALL)
    assert follow_weights(reporter(), without, {}) is without


def test_a_resumed_run_may_find_the_same_weights_elsewhere_but_no_others(weights, reporter, tmp_path):
    config, _ = followed(reporter, weights)
    moved = config.model_copy(update={"backbone": config.backbone.model_copy(update={"init": str(tmp_path / "gone.safetensors")})})
    assert settings_of_result(config) == settings_of_result(moved), "the place is free, the digest is not"
    check_same_weights(moved, {})
    with pytest.raises(UserError, match="No encoder at"):
        check_same_weights(moved, {"backbone": {"init": str(tmp_path / "gone.safetensors")}})
    other = write_weights(tmp_path / "gone.safetensors", seed=1)
    with pytest.raises(UserError, match=rf"{other} has other weights than those that the run started from"):
        check_same_weights(moved, {})
    shutil.copy(weights, other)
    check_same_weights(moved, {})


def test_an_encoder_has_seen_what_the_weights_of_its_start_had_seen():
    card = {"method": {"name": "pnnclr", "uses_labels": False}, "pretraining": {"patients": ["a", "b"], "pixels": ["1"]}}
    start = {
        "method": {"name": "supervised", "uses_labels": True},
        "pretraining": {"patients": ["b", "c"], "pixels": ["1", "2", "3"]},
        "start": {"file": "earlier"},
    }
    found = continued(card, start)
    assert found["pretraining"] == {"patients": ["a", "b", "c"], "pixels": ["1", "2", "3"]}
    assert found["method"]["uses_labels"]
    assert found["start"] == {"file": "earlier", "seen_before": {"patients": 1, "pixels": 2}}
    assert continued(card, None) == card


def test_a_network_without_a_name_is_the_configured_one_and_keeps_its_arguments(tmp_path):
    network = timm.create_model("resnet18", num_classes=0, channels=[8, 8, 16, 16])
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    narrow = merge(SMALL, {"backbone": {"arguments": {"channels": [8, 8, 16, 16]}, "stem": "own"}})
    config, loaded, sentence = with_weights(resolve(narrow), tmp_path / "mine.pth", {})
    assert config == resolve(narrow) and not sentence
    assert loaded.facts["adapted"] == ["conv1.weight: 3 to 1 channels, summed"]
    with pytest.raises(UserError, match=r"does not say its network: name the network with --set backbone\.model"):
        with_weights(resolve(SMALL), tmp_path / "mine.pth", {})


@pytest.fixture(scope="module")
def started(pictures, small, weights, reporter, tmp_path_factory) -> tuple[Path, Any]:
    """The folder of a pretraining from weights, and what was said; the file that was named is gone."""
    file = tmp_path_factory.mktemp("gone") / weights.name
    shutil.copy(weights, file)
    sets = [item for item in small if not item.startswith("backbone.")] + ["train.steps=4", "tracking.mlflow=false"]
    said = reporter()
    folder = pretrain(said, data=str(pictures), init=file, out=tmp_path_factory.mktemp("runs") / "continued", sets=sets)
    file.unlink()
    return folder, said


@pytest.mark.slow
def test_the_run_keeps_its_start_and_the_card_says_which_weights_it_was(started, weights):
    folder, said = started
    card = json.loads((folder / "card.json").read_text())
    assert card["start"]["file"] == weights.name
    assert card["start"]["sha256"] == load_config(folder).backbone.init_sha256
    assert card["backbone"]["model"] == MODEL and "init" not in card["backbone"]
    assert "/" not in json.dumps(card["start"]).replace("timm's", ""), "no path"
    assert str(weights.parent) not in (folder / "card.json").read_text() + (folder / "report.html").read_text()
    assert f"starting from the weights of {weights.name}" in (folder / "report.html").read_text()
    start, its = artefact.load(folder / "start")
    given = timm.create_model(MODEL, num_classes=0, in_chans=1)
    from safetensors.torch import load_file
    from timm.models import adapt_input_conv

    tensors = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("fc.")}
    tensors["conv1.0.weight"] = adapt_input_conv(1, tensors["conv1.0.weight"])
    given.load_state_dict(tensors, strict=True)
    image = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(start(image), given.eval()((image - 0.5) / 0.5), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(start(image), artefact.load(folder)[0](image)), "the pretraining has changed the weights"
    assert its["start"]["file"] == weights.name
    assert any(line.startswith(f"weights   {weights.name}: names of timm or torchvision") for line in said.said)


@pytest.mark.slow
def test_a_fine_tuning_compares_the_encoder_with_its_start(started, reporter, tmp_path):
    folder, _ = started
    finetune(reporter(), encoder=str(folder), labels="50pct", out=tmp_path / "tuned", sets=["tracking.mlflow=false", "finetune.draws=1"])
    found = json.loads((tmp_path / "tuned" / "results.json").read_text())
    assert [row["versus"] for row in found["paired"]] == ["random", "start", "pixels"]
    assert found["encoder"]["start"]["file"] == f"{MODEL}.mine.safetensors"
    scores = {row["init"]: row["brier"]["mean"] for row in found["summary"]}
    assert len(set(scores.values())) == 4, "each has features of its own"
    page = (tmp_path / "tuned" / "report.html").read_text()
    assert "What pretraining added to the weights that it started from: the AUROC is" in page
    assert "weights before pretraining" in page
    shutil.copytree(folder, tmp_path / "copied", ignore=shutil.ignore_patterns("start"))
    warned: list[str] = []
    assert load_start(tmp_path / "copied", json.loads((folder / "card.json").read_text()), warned.append) is None
    assert "the encoder is not compared with its start. Copy the whole run folder." in warned[0]


@pytest.mark.slow
def test_a_fine_tuning_of_foreign_weights_says_that_medssl_has_not_trained_them(weights, pictures, reporter, tmp_path):
    sets = ["tracking.mlflow=false", "data.size=16", "finetune.draws=1", "finetune.bootstraps=100"]
    said = reporter()
    out = tmp_path / "tuned"
    finetune(said, encoder=str(weights), data=str(pictures), labels="50pct", out=out, sets=sets)
    found = json.loads((out / "results.json").read_text())
    assert [row["init"] for row in found["summary"]] == ["pretrained", "random", "pixels"]
    assert found["encoder"]["method"] == {"name": "", "title": f"weights of {weights.name}"}
    assert found["encoder"]["pretraining"] == {"patients": 0, "pixels": 0}
    page = (out / "report.html").read_text()
    assert f"An encoder ({MODEL}) has the weights of {weights.name}, which medssl has not trained." in page
    assert any("0 of" in line and "were seen in pretraining" in line for line in said.said)
    card = json.loads((out / "classifier.json").read_text())
    assert card["backbone"]["model"] == MODEL and card["encoder"]["method"]["title"] == f"weights of {weights.name}"
    with pytest.raises(UserError, match=r"does not name its images\. Name the data with --data"):
        finetune(reporter(), encoder=str(weights), labels="50pct", out=tmp_path / "none")


@pytest.mark.slow
def test_an_encoder_of_medssl_goes_on_with_other_images_and_knows_whom_it_has_seen(pretrained, pictures, small, reporter, tmp_path):
    earlier, _ = pretrained
    sets = [item for item in small if not item.startswith("backbone.")] + ["train.steps=2", "tracking.mlflow=false", "data.split_seed=5"]
    said = reporter()
    folder = pretrain(said, data=str(pictures), init=earlier, out=tmp_path / "again", sets=sets)
    old, new = (json.loads((run / "card.json").read_text()) for run in (earlier, folder))
    assert set(old["pretraining"]["patients"]["hashes"]) < set(new["pretraining"]["patients"]["hashes"]), "those of both"
    assert new["start"]["seen_before"]["patients"] > 0
    start, _ = artefact.load(folder / "start")
    ours, _ = artefact.load(earlier)
    image = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(start(image), ours(image), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_stopped_run_goes_on_without_the_file_to_the_same_weights_and_refuses_another_file(
    started, weights, pictures, small, reporter, tmp_path, monkeypatch
):
    file = tmp_path / weights.name
    shutil.copy(weights, file)
    sets = [item for item in small if not item.startswith("backbone.")] + ["train.steps=4", "tracking.mlflow=false"]

    class StopsAfterTwo(pretraining.StepCallback):
        def __call__(self, step, *arguments):
            stop = super().__call__(step, *arguments)
            return stop or step + 1 >= 2

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(pretraining, "StepCallback", StopsAfterTwo)
        pretrain(reporter(), data=str(pictures), init=file, out=tmp_path / "run", sets=sets)
    other = write_weights(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(UserError, match="has other weights than those that the run started from"):
        pretrain(reporter(), resume=tmp_path / "run", init=other)
    file.unlink()
    pretrain(reporter(), resume=tmp_path / "run")
    ours, theirs = (artefact.load(run)[0].state_dict() for run in (tmp_path / "run", started[0]))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_the_target_network_is_a_copy_of_the_start_and_the_support_set_knows_no_image(weights, pictures, reporter, tmp_path):
    given = {"backbone": {"init": str(weights)}}
    sections = {
        "data": {"path": str(pictures), "source": Folder().model_dump()},
        "method": {"name": "pnnclr", "momentum": 0.9, "support_size": 8},
    }
    settings = merge(merge(SMALL, sections), {"train": {"steps": 2, "batch_size": 4}, "device": "cpu"})
    config = follow_weights(reporter(), resolve(merge(settings, given)), given)
    dataset = prepare_dataset(list_source(config.data), config, reporter())
    method = build_training(tmp_path, config, dataset, Team(Launch())).method
    before = copy.deepcopy(method.encoder.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in method.target_encoder.state_dict().items())
    assert (method.support.tags == -1).all()
    start = with_weights(config, weights, {})[1].encoder.state_dict()
    assert all(torch.equal(start[name], before[name]) for name in start)
