"""The parts of a store's features: they hold whole groups, and neither their size nor the batch changes a feature."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from medssl.embedding import image_groups, make_parts, volume_groups, volume_keys

CPU = torch.device("cpu")


def store(count: int, series: list[str] | None = None) -> Any:
    """Random images, each with a key of its own."""
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), np.uint8)
    table = pd.DataFrame({"key": [f"k{n}" for n in range(count)], "series": series or [""] * count})
    table["pixel_hash"] = [f"p{n}" for n in range(count)]
    return SimpleNamespace(images=images, inputs=images, table=table)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def test_an_image_has_the_same_features_in_parts_and_batches_of_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    found, told = [], []
    for images, batch in ((1024, 256), (1, 1), (4, 3)):
        monkeypatch.setattr("medssl.embedding.parts._BATCH", batch)
        parts = make_parts(store(11), np.arange(11), "digest", CPU, images)
        found.append(np.concatenate([part.compute(network(), store(11), CPU, told.append) for part in parts]))
    assert sum(told) == 3 * 11
    assert found[0].dtype == np.float32
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)
    with torch.no_grad():
        expected = network()(torch.from_numpy(store(11).images).float() / 255).numpy()
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_a_volume_has_the_mean_of_its_slices_wherever_they_stand_and_is_in_one_part() -> None:
    volumes = store(7, ["a", "", "b", "a", "a", "", "b"])
    groups = volume_groups(volumes.table)
    assert volume_keys(volumes.table).tolist() == ["a", "k1", "b", "a", "a", "k5", "b"]
    parts = make_parts(volumes, groups, "digest", CPU, images=4)
    assert [part.rows.tolist() for part in parts] == [[0, 3, 4, 1], [2, 6, 5]]
    with torch.no_grad():
        each = network()(torch.from_numpy(volumes.images).float() / 255).numpy()
    expected = [each[[0, 3, 4]].mean(0), each[1], each[[2, 6]].mean(0), each[5]]
    pooled = np.concatenate([part.compute(network(), volumes, CPU, lambda _: None) for part in parts])
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


@pytest.mark.parametrize("change", ["the encoder", "an image", "the volumes", "the device"])
def test_a_part_has_another_name_where_its_features_would_be_others(change: str) -> None:
    here, groups, digest, device = store(4), image_groups(store(4)), "digest", CPU
    (before,) = make_parts(here, groups, digest, device)
    if change == "the encoder":
        digest = "other"
    elif change == "an image":
        here.table.loc[2, "pixel_hash"] = "other"
    elif change == "the volumes":
        groups = np.array([0, 0, 1, 2])
    else:
        device = torch.device("cuda")
    (after,) = make_parts(here, groups, digest, device)
    assert before.name != after.name
    assert make_parts(store(4), np.arange(4), "digest", CPU)[0].name == before.name


def test_a_damaged_part_does_not_count_as_saved(tmp_path: Path) -> None:
    (part,) = make_parts(store(4), np.arange(4), "digest", CPU)
    assert not part.is_saved(tmp_path)
    features = np.random.default_rng(0).random((4, 3), np.float32)
    part.save(tmp_path, features)
    assert part.is_saved(tmp_path)
    np.testing.assert_array_equal(part.load(tmp_path), features)
    file = tmp_path / part.name
    file.write_bytes(file.read_bytes()[:-5])
    assert not part.is_saved(tmp_path)
