"""From data to roles: what leaks is refused, dropped or allowed and stamped, and the test images decide nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medssl.config import Config, resolve
from medssl.data.split import find_leaks
from medssl.data.store import Store
from medssl.encoder.artefact import build_encoder
from medssl.errors import UserError
from medssl.runs.dataset import PreparedDataset, channel_statistics, prepare_dataset, report_dataset
from medssl.runs.model_cards import export_encoder
from medssl.runs.resolve_config import list_source

ROWS = ("train", "train", "train", "train", "val", "test", "test")


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Seven pictures with an official split: patient 3 is in train and test, picture 2 of train has the pixels of picture 6 of test."""
    pictures = np.random.default_rng(0).integers(0, 256, (7, 24, 24), np.uint8)
    pictures[2] = pictures[6]
    patients = ("0", "1", "2", "3", "4", "0003", "6")
    lines = ["path,patient,split,label"]
    for number, (picture, patient, split) in enumerate(zip(pictures, patients, ROWS, strict=True)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{patient},{split},{('sick', 'well')[number % 2]}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "list.csv"


def config_for(data: Path, leaks: str) -> Config:
    return resolve({"data": {"path": str(data), "source": "manifest", "size": 16, "leaks": leaks}})


def get(data: Path, leaks: str, reporter) -> PreparedDataset:
    config = config_for(data, leaks)
    return prepare_dataset(list_source(config.data), config, reporter())


@pytest.mark.fault("L1", "L2")
def test_an_official_split_that_leaks_is_refused_with_counts_and_the_way_out(leaking: Path, reporter) -> None:
    with pytest.raises(UserError, match=r"1 patients.*1 images have the same pixels.*data\.leaks=drop.*data\.leaks=allow"):
        get(leaking, "refuse", reporter)


@pytest.mark.fault("L1", "L2")
def test_what_leaks_is_dropped_from_training_and_the_test_stays_whole(leaking: Path, reporter) -> None:
    found = get(leaking, "drop", reporter)
    assert found.roles.tolist() == ["train", "train", "", "", "val", "test", "test"]
    assert found.pretraining.tolist() == [0, 1]
    lines = reporter()
    report_dataset(found, list_source(config_for(leaking, "drop").data), lines)
    assert any("1 patients are in more than one of train, val and test" in line for line in lines.warned)
    assert any("2 images of train and val are left out" in line for line in lines.said)


@pytest.mark.fault("L1", "L2")
def test_what_leaks_and_is_allowed_is_warned_of_and_stamped_on_the_card(leaking: Path, tmp_path: Path, reporter) -> None:
    found = get(leaking, "allow", reporter)
    assert found.pretraining.tolist() == [0, 1, 2, 3]
    lines = reporter()
    report_dataset(found, list_source(config_for(leaking, "allow").data), lines)
    assert len(lines.warned) >= 2
    config = config_for(leaking, "allow")
    encoder = build_encoder(config.backbone.model_dump(), 1, 16, torch.zeros(1), torch.ones(1), 0)
    export_encoder(tmp_path, config, found, encoder, {})
    card = json.loads((tmp_path / "card.json").read_text())
    assert (card["leaks"]["policy"], card["leaks"]["patients"], card["leaks"]["pixels"]) == ("allow", 1, 1)


@pytest.mark.parametrize(("name", "title", "uses_labels"), [("nnclr", "NNCLR", False), ("supervised", "Supervised", True)])
def test_the_card_says_the_methods_title_and_whether_it_used_labels(leaking, tmp_path, reporter, name, title, uses_labels) -> None:
    config = resolve({"data": {"path": str(leaking), "leaks": "allow"}, "method": name})
    encoder = build_encoder(config.backbone.model_dump(), 1, 16, torch.zeros(1), torch.ones(1), 0)
    export_encoder(tmp_path, config, get(leaking, "allow", reporter), encoder, {})
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["method"] == {"name": name, "title": title, "uses_labels": uses_labels}


@pytest.mark.fault("L1")
def test_without_the_split_column_the_same_pictures_are_split_without_a_leak(leaking: Path, reporter) -> None:
    table = pd.read_csv(leaking, dtype=str).drop(columns="split")
    table.to_csv(leaking, index=False)
    found = get(leaking, "refuse", reporter)
    assert set(found.roles) == {"train", "test"}
    assert found.roles[2] == found.roles[6] and found.roles[3] == found.roles[5]
    assert not found.leaks.certain


@pytest.mark.fault("L5")
def test_mean_and_spread_come_from_training_images_alone() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16), np.uint8)
    table = pd.DataFrame({name: [f"{name}{row}" for row in range(40)] for name in ("patient", "pixel_hash")})
    roles = np.array(["train", "val", "test", "train"] * 10)
    leaks = find_leaks(table, images, roles)
    changed = np.where(np.isin(roles, ["test", "val"])[:, None, None, None], 255, images).astype(np.uint8)
    stores = [Store(Path(), pixels, table, {}) for pixels in (images, changed)]  # pyright: ignore[reportArgumentType]
    mean, std = zip(
        *(channel_statistics(store, PreparedDataset(store, roles, roles == "val", "", leaks).pretraining) for store in stores),
        strict=True,
    )
    assert torch.equal(mean[0], mean[1]) and torch.equal(std[0], std[1])
    expected = images[roles == "train"].astype(np.float64) / 255
    assert mean[0].item() == pytest.approx(expected.mean(), abs=1e-6)
    assert std[0].item() == pytest.approx(expected.std(axis=(0, 2, 3))[0], abs=1e-5)
    everyone = replace(PreparedDataset(stores[1], roles, roles == "val", "", leaks), roles=np.full(40, "train"), holdout=np.zeros(40, bool))
    assert not torch.equal(channel_statistics(stores[1], everyone.pretraining)[0], mean[0])  # the test can fail
