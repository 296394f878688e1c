"""Volumes that are stored in full for patches: their preparation, their store, and the settings."""

import json
from pathlib import Path

import numpy as np
import pytest
from patch_stores import SPACING, prepared
from PIL import Image
from pydantic import ValidationError
from whole_volumes import write_nifti

from medssl.config import Data
from medssl.data import prepare as prepare_module
from medssl.data.audit import audit_lines, contact_sheet
from medssl.data.sources import folder as pictures
from medssl.data.store import Store, StoredVolumes, Windows, writer
from medssl.data.volume_preparation import VolumePreparation
from medssl.data.volume_records import as_volumes
from medssl.data.volumes import Volumes, find_volumes
from medssl.errors import UserError
from medssl.types import Decoded, VolumeFacts

SHAPES = {"a": (20, 31, 26), "b": (24, 18, 40), "small": (9, 40, 20)}


def voxels(name: str, dtype: type = np.int16) -> np.ndarray:
    """Noise in a border of zeros on one side, which is cut off."""
    volume = np.random.default_rng(sorted(SHAPES).index(name)).integers(50, 200, SHAPES[name]).astype(dtype)
    return np.pad(volume, ((0, 0), (0, 6), (0, 0)))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepared(tmp_path_factory.mktemp("store"), {name: voxels(name) for name in SHAPES})


def test_volumes_keep_their_shapes_and_get_zeros_only_where_they_are_smaller_than_a_patch(store: Store) -> None:
    assert store.card["format"] == "medssl-store-4" and isinstance(store.images, StoredVolumes)
    assert store.card["shape"] == [3, 1, 16, 16, 16] and store.card["settings"]["volumes"] == "patches"
    assert [store.images[row].shape for row in range(3)] == [(1, *SHAPES["a"]), (1, *SHAPES["b"]), (1, 16, 40, 20)]
    for row, name in enumerate(SHAPES):
        volume = voxels(name)[:, :-6]
        low, high = np.percentile(volume, (0.5, 99.5))
        expected = np.clip((volume - low) / (high - low), 0, 1)
        found = store.images[row][0, 3:12] if name == "small" else store.images[row][0]
        np.testing.assert_allclose(found / 65535, expected, atol=1e-4)
    assert not store.images[2][0, :3].any() and not store.images[2][0, 12:].any()
    assert store.table["depth"].tolist() == [20, 24, 9]


def test_voxels_get_the_spacing_as_those_of_whole_volumes_do(tmp_path: Path) -> None:
    target = [3.0, 1.5, 1.5]
    shape = [round(edge * old / new) for edge, old, new in zip(SHAPES["b"], SPACING, target, strict=True)]
    ours = prepared(tmp_path / "1", {"b": voxels("b")}, spacing_mm=target, size=8)
    whole = prepared(tmp_path / "2", {"b": voxels("b")}, spacing_mm=target, size=shape, volumes="whole")
    assert ours.images[0].shape == (1, *shape)
    np.testing.assert_array_equal(ours.images[0], whole.images[0])
    own = prepared(tmp_path / "1", {"b": voxels("b")}, spacing_mm="none", size=8)
    assert own.images[0].shape == (1, *SHAPES["b"]) and own.path != ours.path


def test_volumes_of_8_bits_before_one_of_16_are_widened(tmp_path: Path) -> None:
    store = prepared(tmp_path, {"a": voxels("a", np.uint8), "b": voxels("b", np.uint8), "small": voxels("small")})
    eight = prepared(tmp_path / "8", {"a": voxels("a", np.uint8), "b": voxels("b", np.uint8)})
    assert (store.images.dtype, eight.images.dtype) == (np.uint16, np.uint8)
    for row in range(2):
        np.testing.assert_array_equal(store.images[row], eight.images[row].astype(np.uint16) * 257)
        store.images.check(row)


def test_a_volume_with_more_voxels_than_the_limit_is_left_out(tmp_path: Path) -> None:
    volumes = {name: voxels(name) for name in SHAPES}
    store = prepared(tmp_path, volumes, limits={"max_voxels": 20 * 31 * 26}, max_bad_fraction=0.5)
    assert store.card["counts"]["skipped"] == {"too_big": 1} and len(store.table) == 2


@pytest.mark.parametrize("code", ["RAS", "LPS", "SAR"])
def test_the_table_says_where_each_prepared_voxel_lies_in_the_patient(tmp_path: Path, code: str) -> None:
    volume = np.zeros((20, 31, 26), np.int16)  # a bright cube in a border of zeros, and noise on two sides, which the foreground keeps
    volume[4:, 3:, 5:] = np.random.default_rng(0).integers(50, 60, (16, 28, 21))
    volume[10:14, 8:14, 12:18] = 900
    middle = np.array([11.5, 10.5, 14.5]) * SPACING  # of the cube: slice, row, column
    expected = np.array([-40 + middle[2], -50 + middle[1], -60 + middle[0]])  # as write_nifti places the volume
    for target, size in ((SPACING, 16), ([3.0, 1.5, 0.8], 8), ("none", [24, 40, 16])):
        folder = tmp_path / str(size)
        write_nifti(folder / "data" / "a.nii.gz", volume, code, SPACING)
        store = prepared(folder, {}, spacing_mm=target, size=size)
        found = np.argwhere(store.images[0][0] > 0.6 * 65535).mean(axis=0)
        np.testing.assert_allclose(np.reshape(store.table["to_lps"][0], (3, 4)) @ [*found, 1], expected, atol=0.35)


@pytest.mark.slow
def test_where_a_transform_may_have_moved_voxels_nothing_is_said_of_their_place() -> None:
    settings = {"volumes": "patches", "size": [16, 16, 16], "spacing_mm": list(SPACING)}
    decoded = Decoded(np.ones((1, 20, 20, 20), np.float32), 8, SPACING, volume=VolumeFacts("RAS", to_lps=np.eye(4)))
    for transforms, known in (([], True), ([{"name": "monai.transforms.Flip", "spatial_axis": 0}], False)):
        facts = VolumePreparation(Data.model_validate({**settings, "transforms": transforms})).facts(decoded, (20, 20, 20))
        assert facts is not None and (facts.to_lps is not None) == known


@pytest.mark.parametrize("spacing", [list(SPACING), [1.0, 2.0, 0.5], "none"])
def test_the_space_is_that_of_the_prepared_volumes_as_headers_say_and_told_before_the_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spacing: object
) -> None:
    volumes = {name: np.random.default_rng(0).integers(50, 200, shape).astype(np.int16) for name, shape in SHAPES.items()}
    voxels = prepared(tmp_path / "enough", volumes, spacing_mm=spacing).images.size
    decoded, plain = [], prepare_module.write_chunk
    monkeypatch.setattr(prepare_module, "write_chunk", lambda *chunk: decoded.append(plain(*chunk)))

    def with_free(space: float) -> Store:
        decoded.clear()
        monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": space}))
        return prepared(tmp_path / str(space), volumes, spacing_mm=spacing)

    with pytest.raises(UserError, match=r"The prepared volumes need 0\.\d GB and 0\.\d GB are free .* data\.spacing_mm"):
        with_free(2 * voxels - 10)  # of one byte, in chunks and in the store; the mean is rounded
    assert len(decoded) == 0
    with pytest.raises(UserError, match="larger voxels"):
        with_free(10 * voxels // 3 - 20)  # of two bytes, once the first volume has shown it: two more in chunks, three in the store
    assert len(decoded) == 1
    assert len(with_free(10 * voxels // 3 + 20).table) == 3


def test_a_changed_volume_alone_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medssl.data import prepare as module

    first, decoded, plain = prepared(tmp_path, {name: voxels(name) for name in SHAPES}), [], module._decode
    monkeypatch.setattr(module, "_decode", lambda plan, records: plain(plan, decoded.extend(records := list(records)) or records))
    second = prepared(tmp_path, {"b": voxels("b")[::-1]})
    assert [record.locator for record in decoded] == ["b.nii.gz"]
    np.testing.assert_array_equal(second.images[0], first.images[0])
    np.testing.assert_array_equal(second.images[1], first.images[1][:, ::-1])
    np.testing.assert_array_equal(np.stack(second.table["to_lps"].tolist()), np.stack(first.table["to_lps"].tolist()))


def test_windows_take_the_place_of_slices(store: Store) -> None:
    volumes, sentence = find_volumes(store, [])
    assert isinstance(volumes, Volumes) and isinstance(store.inputs, Windows)
    assert len(volumes) == 3 and volumes.sizes.tolist() == [2 * 3 * 3, 2 * 2 * 4, 1 * 4 * 2]
    assert "3 volumes are described in 42 windows" in sentence
    assert volumes.table["key"].tolist() == volumes.keys.tolist() == store.table["key"].tolist()
    roles = np.array(["train", "", "test"])
    assert volumes.roles(roles, store.table).tolist() == roles.tolist()
    rows, starts = volumes.slices(np.array([2, 0]))
    assert rows.tolist() == [*range(34, 42), *range(18)] and starts.tolist() == [0, 8]
    np.testing.assert_array_equal(store.inputs[33], store.images[1][:, 8:, 2:, 24:])


def test_the_audit_says_how_many_windows_there_are_and_which_volumes_are_small(store: Store) -> None:
    lines = dict(reversed(list(audit_lines(json.loads((store.path / "audit.json").read_text())))))
    assert lines["volumes"].startswith("3 used of 3 found")
    assert lines["patches"] == "42 windows of 16 x 16 x 16 voxels, up to 18 of a volume"
    assert "1 volumes are no larger than a patch" in str(list(audit_lines(json.loads((store.path / "audit.json").read_text()))))


def test_the_contact_sheet_shows_volumes_of_any_shape(store: Store) -> None:
    assert contact_sheet(store).size == (3 * 192, 192 + 14)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"volumes": "patches"}, "patches need the edge of a voxel in mm"),
        ({"volumes": "patches", "spacing_mm": 0}, "greater than 0"),
        ({"volumes": "patches", "spacing_mm": 1, "size": 4}, "greater than or equal to 8"),
        ({"volumes": "slices", "size": [16, 16, 16]}, "data.volumes=whole"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Data.model_validate(settings)


def test_the_word_none_is_a_spacing_of_patches_alone() -> None:
    assert Data(spacing_mm="none").spacing_mm is None and Data.model_validate({"volumes": "whole", "spacing_mm": "none"}).spacing_mm is None
    assert Data.model_validate({"volumes": "patches", "spacing_mm": "none"}).spacing_mm == "none"
    assert Data.model_validate({"volumes": "patches", "spacing_mm": 2}).spacing_mm == (2, 2, 2)


def test_images_are_no_volumes(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    data = Data.model_validate({"volumes": "patches", "spacing_mm": "none"})
    with pytest.raises(UserError, match=r"no volume for data.volumes=patches"):
        as_volumes(pictures.build(pictures.Config(), str(tmp_path)), data)
