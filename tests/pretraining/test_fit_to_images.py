"""All defaults run on few and on many images, with every preset; what was given and cannot be is refused before anything is written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.config import Config, parse_overrides
from medssl.errors import UserError
from medssl.evaluate.schema import RESULTS
from medssl.pretraining.fit_to_images import describe_fitted_length, fit_to_images
from medssl.pretraining.trainer import build_training
from medssl.runs.dataset import prepare_dataset
from medssl.runs.presets import folder as presets_folder
from medssl.runs.resolve_config import resolve_config
from medssl.runs.run_dir import is_finished, load_config
from medssl.train import memory
from medssl.train.launch import Launch
from medssl.train.processes import Team
from medssl.types import counted

# What is not tested here, made small: the network, the edge of the images, the length of the training
TINY = [
    *("backbone.model=resnet18", "backbone.stem=small", "backbone.arguments={channels: [8, 8, 16, 16]}"),
    *("method.hidden=16", "method.width=8", "data.size=16", "train.steps=1", "tracking.mlflow=false", "train.workers=0"),
]
PRESETS = sorted(file.stem for file in presets_folder().glob("*.yaml") if not file.stem.startswith("volume_"))
# The fewest and the most images for every preset; between them a preset of each batch size (64, 128 and 256). Phantoms are radiographs,
# which no window in HU fits; few of them, as all those of the preset "demo" are trained on below.
STARTS = [
    *((preset, number) for preset in PRESETS for number in (2, 1800)),
    *((preset, number) for preset in ("chest_xray_cpu", "medmnist_cpu", "chest_xray") for number in (30, 150, 800)),
    *((preset, "phantom") for preset in PRESETS if preset not in ("ct", "ct_cpu")),
]


def write_pictures(root: Path, number: int, classes: int = 1) -> Path:
    """`number` grey pictures of 20 pixels; with several classes, in as many folders."""
    rng = np.random.default_rng(number)
    for n in range(number):
        place = root / (f"class{n % classes}" if classes > 1 else "")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(place / f"{n}.png", compress_level=0)
    return root


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """folder_of(number): a folder of so many pictures, made once."""
    root = tmp_path_factory.mktemp("pictures")
    return lambda number: path if (path := root / str(number)).is_dir() else write_pictures(path, number)


def train(reporter, data: object, out: Path, *sets: str, preset: str | None = None, **more):
    """The run folder, its configuration, and what was said as one text."""
    lines = reporter()
    folder = pretrain(lines, data=str(data), out=out, preset=preset, sets=[*TINY, *sets], **more)
    assert is_finished(folder)
    return folder, load_config(folder), "\n".join(lines.said)


def check_fitted(config: Config, images: int, said: str) -> None:
    assert 2 <= config.train.batch_size <= images
    assert config.method.support_size == max(1, images // 2)
    assert f"Support set of {max(1, images // 2)} embeddings: half of the {images} training {counted(config.data.size)}." in said
    assert ("Batch size" in said) == (config.train.batch_size == images)


def check_start(reporter, data: object, folder: Path, preset: str) -> None:
    """The way of `pretrain` up to its first step."""
    sets = parse_overrides([*TINY, "data.source.patients=24"] if data == "phantom" else TINY)
    config, source = resolve_config(reporter(), str(data), preset, sets)
    fitted = fit_to_images(config, prepare_dataset(source, config, reporter()), sets)
    assert (config.backbone.model, config.backbone.arguments) == ("resnet18", {"channels": [8, 8, 16, 16]}), "the small network"
    job = build_training(folder, fitted.config, fitted.dataset, Team(Launch()))
    images = len(fitted.dataset.pretraining)
    check_fitted(job.config, images, "\n".join([*fitted.sentences, *describe_fitted_length(fitted.config, job.config, images)]))
    assert job.feed.steps_per_epoch == images // job.config.train.batch_size


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "data"), STARTS)
def test_all_defaults_start_on_few_and_on_many_images_with_every_preset(preset, data, folder_of, tmp_path, reporter):
    check_start(reporter, folder_of(data) if isinstance(data, int) else data, tmp_path, preset)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "preset"), [(2, "chest_xray"), (30, "medmnist"), (150, "colour_cpu"), ("phantom", "demo")])
def test_all_defaults_train_on_few_images_and_on_phantoms(data, preset, folder_of, tmp_path, reporter):
    _, config, said = train(reporter, folder_of(data) if isinstance(data, int) else data, tmp_path / "run", preset=preset)
    check_fitted(config, int(said.split(" images; run folder")[0].split()[-1]), said)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["volume_mr", "volume_mr_cpu"])
def test_all_defaults_train_on_few_volumes(preset, tmp_path, reporter):
    lines = reporter()
    small = ["data.source={name: phantom_volumes, patients: 12, size: 16}", "data.size=16", "backbone.model=resnet10", "backbone.width=4"]
    sets = [*small, *(each for each in TINY if not each.startswith(("backbone", "data.size")))]
    folder = pretrain(lines, data="phantom_volumes", out=tmp_path / "run", preset=preset, sets=sets)
    config, said = load_config(folder), "\n".join(lines.said)
    assert is_finished(folder)
    assert config.data.shape == (1, 16, 16, 16)
    check_fitted(config, int(said.split("; run folder")[0].split()[-2]), said)


def test_thirty_pictures_run_without_any_setting_but_the_shortening_and_each_fitted_value_is_said(folder_of, tmp_path, reporter):
    _, config, said = train(reporter, folder_of(30), tmp_path / "run")
    assert config.preset.startswith("medmnist")
    assert (config.train.batch_size, config.method.support_size) == (18, 9)
    assert "Batch size 18: there are 18 training images." in said
    assert "No image has a label yet: 12 of 30 patients are kept from the training" in said
    assert config.data.holdout_fraction == 0.25, "a resumed run and a fine-tuning read it in config.yaml"
    assert "split     train 24 images, test 6 images (split by image)" in said


@pytest.mark.slow
def test_the_set_of_breastmnist_runs_by_its_own_split(tmp_path, reporter):
    rng = np.random.default_rng(0)
    parts = {"train": 546, "val": 78, "test": 156}
    arrays: dict[str, Any] = {f"{part}_images": rng.integers(0, 255, (number, 28, 28), dtype=np.uint8) for part, number in parts.items()}
    arrays |= {f"{part}_labels": rng.integers(0, 2, (number, 1), dtype=np.uint8) for part, number in parts.items()}
    np.savez(tmp_path / "breast.npz", **arrays)
    _, config, said = train(reporter, tmp_path / "breast.npz", tmp_path / "run")
    assert config.method.support_size == 273
    assert config.train.batch_size in (128, 256), "the preset's"
    assert "split     train 546 images, val 78 images, test 156 images" in said


def test_two_images_have_neither_test_part_nor_hold_out_and_a_resumed_run_keeps_that(folder_of, tmp_path, reporter):
    folder, config, said = train(reporter, folder_of(2), tmp_path / "run", "train.save_every_steps=1")
    assert (config.data.test_fraction, config.data.holdout_fraction, config.train.batch_size) == (0, 0, 2)
    assert "No test part: 2 patients are too few." in said
    assert "No hold-out: 2 patients are too few. The training is watched without kNN and linear probe." in said
    assert config.monitor.on_collapse == "warn"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert "rankme" in rows[-1]
    assert "knn" not in rows[-1]
    for name in ("card.json", "encoder.safetensors"):
        (folder / name).unlink()
    assert pretrain(reporter(), resume=folder) == folder
    assert load_config(folder) == config


@pytest.mark.parametrize(
    ("number", "sets", "roles", "sentence"),
    [
        (3, [], {"train": 2, "test": 1}, "No hold-out: 3 patients are too few."),
        (3, ["data.holdout_fraction=0.4"], {"train": 3}, "No test part: 3 patients are too few."),
        (30, ["data.test_fraction=0"], {"train": 30}, "No test part: data.test_fraction is 0."),
        (30, ["data.holdout_fraction=0"], {"train": 24, "test": 6}, "No hold-out: data.holdout_fraction is 0."),
    ],
)
def test_a_share_that_is_not_given_yields_to_the_training(number, sets, roles, sentence, folder_of, reporter):
    config, source = resolve_config(reporter(), str(folder_of(number)), "medmnist_cpu", parse_overrides([*TINY, *sets]))
    fitted = fit_to_images(config, prepare_dataset(source, config, reporter()), parse_overrides(sets))
    assert dict(zip(*np.unique(fitted.dataset.roles, return_counts=True), strict=True)) == roles
    assert any(text.startswith(sentence) for text in fitted.sentences)


@pytest.mark.parametrize(("classes", "sets", "held_out"), [(1, [], 6), (1, ["data.holdout_fraction=0.1"], 2), (2, [], 2)])
def test_more_patients_are_held_out_where_labels_may_come_later_and_nobody_said_how_many(classes, sets, held_out, tmp_path, reporter):
    data = write_pictures(tmp_path / "data", 30, classes)
    config, source = resolve_config(reporter(), str(data), "medmnist_cpu", parse_overrides([*TINY, *sets]))
    fitted = fit_to_images(config, prepare_dataset(source, config, reporter()), parse_overrides(sets))
    assert int(fitted.dataset.holdout.sum()) == held_out
    assert any("No image has a label yet" in text for text in fitted.sentences) == (held_out == 6)


def test_values_of_a_preset_of_ones_own_are_fitted_as_those_of_any_preset(folder_of, tmp_path, reporter):
    own = (presets_folder() / "medmnist_cpu.yaml").read_text().replace("support_size: auto", "support_size: 4096\n  top_k: 30")
    (tmp_path / "own.yaml").write_text(own)
    _, config, _ = train(reporter, folder_of(30), tmp_path / "run", preset=str(tmp_path / "own.yaml"))
    assert (config.train.batch_size, config.method.support_size, config.method.top_k) == (18, 9, 9)


IMPOSSIBLE = {
    "data.test_fraction=0.99": "Of 30 images 1 is left to train on, and two are needed: 29 are for the test (data.test_fraction=0.99",
    "train.batch_size=50": "A batch of 50 cannot be filled from 22 training images.",
    "method.support_size=40": "The support set of 40 embeddings is larger than the 22 training images",
    "method.top_k=41": "method.top_k=41 is more than the 40 embeddings",
}


def test_all_given_values_that_cannot_be_are_refused_at_once_and_nothing_is_written(folder_of, tmp_path, reporter, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        pretrain(reporter(), data=str(folder_of(30)), sets=[*TINY, *IMPOSSIBLE])
    for sentence in IMPOSSIBLE.values():
        assert sentence in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_refused_start_leaves_an_earlier_run_as_it_was(folder_of, tmp_path, reporter):
    folder, *_ = train(reporter, folder_of(30), tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError):
        train(reporter, folder_of(30), folder, "train.batch_size=50", overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_refused_while_the_network_is_built_leaves_no_folder_either(folder_of, tmp_path, reporter):
    sets = ["backbone.model=vit_tiny_patch16_224", "backbone.stem=own", "backbone.arguments={depth: 1}", "method.prototypes=16"]
    with pytest.raises(UserError, match="takes no crops"):
        pretrain(reporter(), data=str(folder_of(30)), out=tmp_path / "run", method="dino", sets=[*sets, "tracking.mlflow=false"])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_largest_batch_of_fewer_than_eight_images_is_all_of_them(folder_of, tmp_path, reporter):
    _, config, _ = train(reporter, folder_of(5), tmp_path / "run", "train.batch_size=auto")
    assert config.train.batch_size == 3


@pytest.mark.parametrize(
    ("processes", "sets", "batch", "refused"),
    [
        (5, [], 15, ""),
        (1, [], 18, ""),
        (3, ["train.batch_size=7"], None, "A batch of 7 cannot be shared evenly by 3 processes. Use --set train.batch_size=9."),
        (30, [], None, "30 processes cannot share 18 training images."),
        (2, ["train.batch_size=auto"], None, "train.batch_size=auto works with one process."),
        (2, ["train.minutes=1"], None, "train.minutes works with one process."),
    ],
)
def test_a_batch_is_shared_evenly_by_the_processes(processes, sets, batch, refused, folder_of, reporter):
    settled = [item for item in sets if not item.endswith("auto")]
    config, source = resolve_config(reporter(), str(folder_of(30)), "medmnist_cpu", parse_overrides([*TINY, *settled]))
    dataset = prepare_dataset(source, config, reporter())
    given = parse_overrides(sets)
    if refused:
        with pytest.raises(UserError) as caught:
            fit_to_images(config, dataset, given, processes)
        assert refused in str(caught.value)
    else:
        assert fit_to_images(config, dataset, given, processes).config.train.batch_size == batch


def test_a_training_where_all_images_are_for_the_test_is_refused_in_words(folder_of, reporter):
    config, source = resolve_config(reporter(), str(folder_of(30)), "medmnist_cpu", parse_overrides(TINY))
    dataset = prepare_dataset(source, config, reporter())
    nobody = replace(dataset, roles=np.full(30, "test"), holdout=np.zeros(30, bool))
    with pytest.raises(UserError, match="None of the 30 images is left"):
        fit_to_images(config, nobody, {"data": {"test_fraction": 0.2, "holdout_fraction": 0.1}})


@pytest.mark.parametrize("number", [9, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 4, 30))])
def test_fine_tuning_with_all_defaults_then_gives_results_or_one_message(number, tmp_path, reporter):
    data = write_pictures(tmp_path / "data", number, classes=2)
    folder, *_ = train(reporter, data, tmp_path / "run")
    out = tmp_path / "tuned"
    try:
        finetune(reporter(), encoder=str(folder), out=out, sets=["tracking.mlflow=false", "finetune.bootstraps=100"])
    except UserError as error:
        assert number < 20, error
        assert len(str(error).splitlines()) == 1
        assert not out.exists()
    else:
        assert (out / RESULTS).is_file()


@pytest.mark.slow
def test_a_batch_that_is_larger_than_the_memory_goes_through_the_network_in_parts(folder_of, tmp_path, reporter, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda _: 2**20)
    _, config, said = train(reporter, folder_of(30), tmp_path / "run", "train.precision=fp32")
    parts = config.train.micro_batch
    assert parts is not None
    assert 2 <= parts < 2 * 18
    assert f"train.micro_batch {parts}: that many images pass through the network at once, for all 36 views" in said
    _, config, _ = train(reporter, folder_of(30), tmp_path / "given", "train.batch_size=18")
    assert config.train.micro_batch is None, "a batch that was given is left as it is, and memory that is short is explained"
