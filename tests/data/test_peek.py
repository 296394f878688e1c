from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from medssl.config import Data
from medssl.data.peek import Peek, peek
from medssl.data.workers import pool
from medssl.errors import UserError
from medssl.types import Record, Source


def colourful(root: Path, colours: int, greys: int) -> Source:
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    for number in range(colours + greys):
        Image.fromarray(pixels if number < colours else pixels[..., 0]).save(root / f"{number}.png")
    return Source("folder", root, tuple(Record(f"{number}.png", "raster") for number in range(colours + greys)))


def test_grey_images_have_one_channel_and_the_shorter_side_is_the_edge(shared_data: Path, tmp_path: Path) -> None:
    assert peek(colourful(tmp_path / "a", 1, 4), Data()) == Peek(channels=1, edge=30, bits=8)
    assert peek(colourful(tmp_path / "b", 4, 1), Data()) == Peek(channels=3, edge=30, bits=8)
    archive = Source("medmnist", shared_data / "medmnist", tuple(Record("breastmnist.npz#train_images", "npz", row) for row in range(546)))
    assert peek(archive, Data()) == Peek(channels=1, edge=28, bits=8)


def test_a_folder_of_volumes_with_nan_names_the_setting_that_takes_them(tmp_path: Path) -> None:
    volume = np.full((9, 9, 9), np.nan, np.float32)
    volume[3:6] = np.arange(243).reshape(3, 9, 9)
    Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "a.nii")
    source = Source("nifti", tmp_path, (Record("a.nii", "nifti"),), whole=True)
    with pytest.raises(UserError, match=r"1 x non_finite .* --set data\.non_finite=zero"):
        peek(source, Data(volumes="whole"))


def test_modalities_are_those_of_the_headers_or_of_what_was_read(
    tmp_path: Path, write_dicom: Callable[..., Path], scene: np.ndarray
) -> None:
    stored = (scene * 4095).astype(np.uint16)
    write_dicom(stored, 12, "ct.dcm", Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    write_dicom(stored, 12, "raw.dcm", Modality="CT")
    Image.fromarray((scene * 255).astype(np.uint8)).save(tmp_path / "a.png")

    def modalities(*files: str, **extra: str) -> object:
        records = (Record(name, "raster" if name.endswith("png") else "dicom", extra=extra) for name in files)
        return peek(Source("manifest", tmp_path, tuple(records)), Data()).modalities

    assert modalities("ct.dcm", "ct.dcm", "ct.dcm", modality="CT") == {"CT": 3}
    assert modalities("raw.dcm", "raw.dcm", modality="CT") == {"CT without HU": 2}
    assert modalities("ct.dcm", modality="PT") == {"PT": 1}, "the header decides, whatever was read"
    assert modalities("ct.dcm", "raw.dcm", "a.png", modality="CT") == {"CT": 1, "CT without HU": 1, "unknown": 1}
    assert modalities("a.png") == {}


def test_the_largest_depth_counts(make_source: Callable[..., Source]) -> None:
    assert peek(make_source(deep=(3,)), Data()).bits == 16


def test_what_cannot_be_read_is_passed_over(make_source: Callable[..., Source]) -> None:
    assert peek(make_source(broken=(0, 1, 2, 4)), Data(), count=2) == Peek(1, 20, 8)


def test_few_more_are_read_than_asked_for_and_they_are_spread(make_source: Callable[..., Source], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    source = make_source()
    many = Source("folder", source.root, tuple(Record("./" * number + "doe_0.png", "raster") for number in range(1000)))

    def counted(make, arguments, items, limits, **options):
        return pool.run_in_workers(make, arguments, (seen.append(item.locator.count("./")) or item for item in items), limits, **options)

    monkeypatch.setattr("medssl.data.peek.run_in_workers", counted)
    peek(many, Data(), count=16)
    assert len(seen) <= 40  # 16, and what a worker has before it
    assert min(seen) < 50
    assert max(seen) > 900


def test_nothing_readable_is_told_with_the_reasons(make_source: Callable[..., Source]) -> None:
    with pytest.raises(UserError, match=r"No image can be read \(5 x truncated\)\. Check what --data names"):
        peek(make_source(broken=(0, 1, 2, 3, 4)), Data())
