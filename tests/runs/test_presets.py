"""The preset that is chosen for images of each modality, what is said of that, and what the presets hold."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medssl.commands.prepare import prepare
from medssl.config import merge, parse_overrides, resolve
from medssl.data.peek import Peek
from medssl.data.store import Store
from medssl.errors import UserError
from medssl.runs import presets
from medssl.runs.resolve_config import resolve_config

CPU = parse_overrides(["device=cpu"])


def write_dicoms(root: Path, modality: str, number: int, **elements: object) -> Path:
    """`number` images of 64 x 64 pixels of as many patients. A CT has a disk of 40 HU in air."""
    root.mkdir(exist_ok=True)
    rows, columns = np.mgrid[:64, :64] - 31.5
    disk = np.hypot(rows, columns) < 20
    for n in range(number):
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
        header.Modality, header.PatientID = modality, f"{modality}{n}"
        header.Rows = header.Columns = 64
        header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
        if modality == "CT":
            header.RescaleSlope, header.RescaleIntercept, header.WindowCenter, header.WindowWidth = 1, -1024, 500 * n, 900
        for name, value in elements.items():
            setattr(header, name, value)
        pixels = np.where(disk, 1064, 24) + np.random.default_rng(n).integers(0, 9, (64, 64))
        header.PixelData = pixels.astype("<u2").tobytes()
        header.save_as(root / f"{modality}{n}.dcm", enforce_file_format=True)
    return root


def write_niftis(root: Path, least: float, number: int = 2, size: int = 64) -> Path:
    """Volumes of 3 slices: a block of 60 in a background of `least`."""
    root.mkdir(exist_ok=True)
    for n in range(number):
        voxels = np.full((size, size, 3), least, np.int16)
        voxels[size // 4 : -size // 4, size // 4 : -size // 4] = 60 + np.random.default_rng(n).integers(0, 9, (size // 2, size // 2, 3))
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), root / f"v{least:g}_{n}.nii.gz")
    return root


@pytest.mark.parametrize(
    ("look", "device", "preset"),
    [
        (Peek(1, 224, 8), "cpu", "chest_xray_cpu"),
        (Peek(1, 1024, 16), "cuda", "chest_xray"),
        (Peek(1, 28, 8), "cuda", "medmnist"),
        (Peek(1, 64, 8), "cpu", "medmnist_cpu"),
        (Peek(3, 32, 8), "cpu", "natural_cpu"),
        (Peek(3, 512, 8), "cuda", "colour"),
        (Peek(1, 512, 16, {"CT": 9, "DX": 2}), "cpu", "ct_cpu"),
        (Peek(1, 512, 16, {"CT": 9, "DX": 8, "CR": 2}), "cuda", "chest_xray"),
        (Peek(1, 64, 16, {"MR": 9}), "cuda", "mr"),
        (Peek(1, 64, 16, {"CT without HU": 9}), "cpu", "mr_cpu"),
        (Peek(1, 128, 16, {"NM": 2, "PT": 2, "CT": 3}), "cpu", "mr_cpu"),
        (Peek(1, 64, 12, {"unknown": 9}), "cpu", "chest_xray_cpu"),
        (Peek(3, 480, 8, {"US": 9}), "cpu", "colour_cpu"),
    ],
)
def test_the_preset_follows_modality_channels_size_and_device(look, device, preset):
    assert presets.choose(look, device) == preset


@pytest.mark.parametrize(
    ("modalities", "device", "preset"),
    [
        ({"CT": 9, "MR": 2}, "cuda", "volume_ct"),
        ({"MR": 9}, "cpu", "volume_mr_cpu"),
        ({}, "cpu", "volume_mr_cpu"),
        ({"CT": 1}, "cpu", "volume_ct_cpu"),
    ],
)
def test_whole_volumes_have_presets_of_their_own(modalities, device, preset):
    for edge in (28, 512):
        assert presets.choose(Peek(1, edge, 8, modalities), device, volumes=True) == preset


def test_presets_of_whole_volumes_have_networks_and_views_of_volumes_and_one_number_as_the_size_is_a_cube():
    for name in ("volume_ct", "volume_ct_cpu", "volume_mr", "volume_mr_cpu"):
        values = presets.load(name)
        config = resolve(values)
        assert (config.data.volumes, config.backbone.name, config.views.recipe.name) == ("whole", "monai", name.removesuffix("_cpu"))
        assert resolve(merge(values, parse_overrides(["data.size=28"]))).data.size == (28, 28, 28)
        assert config.views.recipe.flip_axes == (() if "ct" in name else ("left_right",))
        assert config.data.window == ("soft_tissue" if "ct" in name else "header")


def test_a_cpu_preset_has_its_gpu_preset():
    assert presets.gpu_preset("chest_xray_cpu") == "chest_xray"
    assert presets.gpu_preset("chest_xray") == ""
    names = {file.stem for file in presets.folder().glob("*.yaml")}
    assert {presets.gpu_preset(name) for name in names} - {""} <= names


def test_radiographs_ct_and_mr_are_never_mirrored_and_only_ct_has_a_window_in_hu():
    for name in ("chest_xray", "medmnist", "ct", "mr"):
        for config in map(resolve, map(presets.load, (name, f"{name}_cpu"))):
            assert config.views.recipe.flip_p == 0, name
            assert config.data.window == ("soft_tissue" if name == "ct" else "header")
    assert resolve(presets.load("demo")).views.recipe.flip_p == 0.5


@pytest.mark.parametrize(
    ("modality", "elements", "preset", "window"),
    [
        ("CT", {}, "ct_cpu", "soft_tissue"),
        ("CT", {"RescaleSlope": None}, "mr_cpu", "header"),
        ("MR", {}, "mr_cpu", "header"),
        ("CR", {}, "chest_xray_cpu", "header"),
        ("DX", {}, "chest_xray_cpu", "header"),
    ],
)
def test_dicom_images_get_the_preset_of_the_modality_in_their_header(modality, elements, preset, window, tmp_path, reporter):
    said = reporter()
    config, _ = resolve_config(said, str(write_dicoms(tmp_path / "ward", modality, 2, **elements)), None, CPU)
    assert (config.preset, config.data.window, config.data.modality) == (preset, window, "all")
    assert any(text.startswith(f"preset    {preset} ({modality}") for text in said.said)
    windows = [text for text in said.said if text.startswith("window")]
    assert windows == (
        ["window    soft_tissue (centre 40 HU, width 400 HU), the same for all images; for another one: --set data.window=lung"]
        if window == "soft_tissue"
        else []
    )


@pytest.mark.parametrize(("least", "preset"), [(-1000, "ct_cpu"), (-1024, "ct_cpu"), (0, "mr_cpu"), (-4096, "mr_cpu")])
def test_small_volumes_of_nifti_files_get_the_preset_of_ct_or_mr_by_their_values(least, preset, tmp_path, reporter):
    config, _ = resolve_config(reporter(), str(write_niftis(tmp_path / "volumes", least)), None, CPU)
    assert config.preset == preset


def test_a_ct_of_nifti_files_is_prepared_with_the_window_of_the_preset(tmp_path, reporter):
    said = reporter()
    path = prepare(said, data=str(write_niftis(tmp_path / "volumes", -1000)), out=tmp_path / "store")
    assert path
    store = Store.open(path)
    assert store.images.shape == (6, 1, 96, 96)
    assert store.images[:, :, 0, 0].max() == 0, "air is black"
    assert abs(np.median(store.images[:, 0, 48, 48] / 65535) - (64 + 160) / 400) < 0.02
    assert "stored as 96 x 96 pixels, grey, window soft_tissue" in said.said
    again = reporter()
    config, _ = resolve_config(again, str(path), None, CPU)
    assert (config.preset, config.data.window) == ("ct_cpu", "soft_tissue"), "of the store, too"


def test_of_ct_and_radiographs_in_one_folder_the_ct_is_used_if_most_images_are_ct(tmp_path, reporter):
    root = write_dicoms(tmp_path / "ward", "CT", 3)
    write_dicoms(root, "CR", 2)
    said = reporter()
    config, source = resolve_config(said, str(root), None, CPU)
    assert (config.preset, config.data.modality, len(source.records)) == ("ct_cpu", "CT", 3)
    assert any("Several modalities: CT 3, CR 2. The preset is that of most images. Only the CT is used" in text for text in said.warned)
    for asked, number in (("all", 5), ("CR,CT", 5), ("CR", 2)):
        config, source = resolve_config(reporter(), str(root), None, parse_overrides(["device=cpu", f"data.modality={asked}"]))
        assert (config.data.modality, len(source.records)) == (asked, number), "what was given is not changed"
    config, source = resolve_config(reporter(), str(root), "chest_xray_cpu", CPU)
    assert (config.data.modality, len(source.records)) == ("all", 5), "the user's preset takes all"
    write_dicoms(root, "DX", 2)
    said = reporter()
    config, source = resolve_config(said, str(root), None, CPU)
    assert (config.preset, config.data.modality, len(source.records)) == ("chest_xray_cpu", "all", 7)
    assert any("CT 3, CR 2, DX 2. The preset is that of most images." in text for text in said.warned)
    said = reporter()
    config, source = resolve_config(said, str(root), None, parse_overrides(["device=cpu", "data.window=[lung,bone]"]))
    assert (config.preset, config.data.channels, len(source.records)) == ("ct_cpu", 2, 3)
    assert any("A window in HU is for CT. Only the CT is used" in text for text in said.warned)


def test_a_mixture_runs_to_the_store_with_the_other_images_counted(tmp_path, reporter):
    root = write_dicoms(tmp_path / "ward", "CT", 3)
    write_dicoms(root, "CR", 2)
    said = reporter()
    assert prepare(said, data=str(root), out=tmp_path / "store")
    text = "\n".join(said.said)
    assert "3 used of 5 found" in text
    assert "2 left out: other_modality" in text


def test_volumes_of_ct_and_mr_in_one_folder_are_a_warning(tmp_path, reporter):
    root = write_niftis(tmp_path / "volumes", -1000, number=3)
    write_niftis(root, 0, number=1)
    said = reporter()
    config, _ = resolve_config(said, str(root), None, CPU)
    assert config.preset == "ct_cpu"
    assert any("Keep CT and other images in folders of their own" in text for text in said.warned)


def test_the_ct_preset_is_refused_for_radiographs(tmp_path, reporter):
    with pytest.raises(UserError, match="not_hounsfield"):
        prepare(reporter(), data=str(write_dicoms(tmp_path / "ward", "CR", 2)), preset="ct_cpu", out=tmp_path / "store")
