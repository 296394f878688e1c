"""Examinations of several sequences, with the median spacing, from pretraining to prediction."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from whole_volumes import SHAPE, marked, write_dicom, write_nifti

import medssl
from medssl.commands.pretrain import pretrain
from medssl.config import parse_overrides
from medssl.data.cache import cache_folder
from medssl.data.store import Store
from medssl.encoder.export.public import public_card
from medssl.errors import UserError
from medssl.runs.resolve_config import resolve_data_config
from medssl.runs.run_dir import load_config

SETS = [
    *("data.volumes=whole", "data.sequences=[T1,FLAIR]", "data.spacing_mm=median", "data.size=16"),
    *("backbone.width=4", "method.hidden=16", "method.width=8", "train.steps=2", "train.batch_size=4", "train.workers=0"),
    *("monitor.knn_every_epochs=100", "tracking.mlflow=false"),
]


def write_examinations(folder: Path, numbers: range) -> Path:
    for number in numbers:
        name, spacing = f"sub-{number}", (3.0, 2.0, 1.5 + number % 3 / 10)
        first, second = np.random.default_rng(number).integers(1, 1000, (2, *SHAPE)).astype(np.int16)
        write_nifti(folder / name / f"{name}_T1w.nii", first, "PIR", spacing)
        write_nifti(folder / name / f"{name}_FLAIR.nii", second, "RAS", spacing)
    return folder


@pytest.fixture(scope="module")
def run(reporter, tmp_path_factory):
    """The folder of a pretraining, and what was said."""
    root, said = tmp_path_factory.mktemp("sequences"), reporter()
    data = write_examinations(root / "data", range(9))
    (data / "sub-4/sub-4_FLAIR.nii").unlink()
    return pretrain(said, data=str(data), preset="volume_mr_cpu", out=root / "run", sets=SETS), "\n".join(said.said)


@pytest.mark.slow
def test_the_run_says_its_examinations_and_keeps_the_numbers_of_the_median(run):
    folder, said = run
    assert "8 examinations with the channels T1, FLAIR" in said
    assert "1 incomplete examinations left out: 1 without FLAIR" in said
    assert re.search(r"training  2 steps, \d volumes; run folder", said)
    assert "3 x 2 x 1.6 mm (slices, rows, columns), the medians of 8 volumes" in said
    data = load_config(folder).data
    assert (data.spacing_mm, data.channels, data.sequences) == ((3.0, 2.0, 1.6), 2, ("T1", "FLAIR"))
    card = public_card(medssl.load_encoder(folder).card)
    assert card["config"]["data"]["sequences"] == ["T1", "FLAIR"] and card["config"]["data"]["volumes"] == "whole"


@pytest.mark.slow
def test_new_examinations_are_prepared_with_the_spacing_of_the_run_and_python_takes_a_file_for_each_sequence(run, reporter, tmp_path):
    folder = run[0]
    new = write_examinations(tmp_path / "new", range(20, 22))  # their own median is another one
    encoder = medssl.load_encoder(folder)
    files = [new / "sub-20/sub-20_T1w.nii", new / "sub-20/sub-20_FLAIR.nii"]
    prepared = encoder.prepare(files)
    assert prepared.shape == (1, 2, 16, 16, 16)
    with pytest.raises(UserError, match="takes a file for each of T1, FLAIR, in this order; 1 were named"):
        encoder.prepare(files[0])
    from medssl.commands.embed import embed

    embed(reporter(), data=str(new), encoder=str(folder), out=tmp_path / "f.parquet")
    stores = [Store.open(path) for path in (cache_folder() / "stores").iterdir() if path.is_dir()]
    (store,) = [each for each in stores if len(each.table) == 2 and each.card["channels"] == 2]
    assert store.card["settings"]["spacing_mm"] == [3.0, 2.0, 1.6]
    found = torch.from_numpy(store.images[0].astype(np.float32) / 65535)
    assert torch.equal(found, prepared[0])


def test_the_median_of_dicom_and_nifti_is_that_of_the_canonical_axes(reporter, tmp_path):
    sets = parse_overrides(["data.volumes=whole", "data.spacing_mm=median"])
    for number, (code, spacing) in enumerate((("PIR", (5.0, 1.0, 2.0)), ("LSA", (4.0, 3.0, 2.5)), ("RAS", (1.0, 2.0, 9.0)))):
        write_nifti(tmp_path / "n" / f"{number}.nii", marked(), code, spacing)
        write_dicom(tmp_path / "d" / str(number), marked(), code, spacing, shuffle=number, SeriesInstanceUID=f"1.{number}")
    write_nifti(tmp_path / "n" / "thin.nii", marked()[:3], "RAS", (50.0, 9.0, 9.0))  # left out, and so it does not count
    write_dicom(tmp_path / "d" / "thin", marked()[:3], "RAS", (50.0, 9.0, 9.0), shuffle=9, SeriesInstanceUID="1.9")
    for kind in "nd":
        assert resolve_data_config(reporter(), str(tmp_path / kind), "volume_mr_cpu", sets)[0].spacing_mm == (4.0, 2.0, 2.5)


def test_a_median_that_cannot_be_is_refused(reporter, tmp_path):
    np.savez(tmp_path / "a.npz", train_images=np.random.default_rng(0).integers(0, 9, (3, 9, 8, 8), np.uint8))
    sets = ["data.volumes=whole", "data.spacing_mm=median"]
    with pytest.raises(UserError, match=r"no volume of .* states the size of its voxels"):
        resolve_data_config(reporter(), str(tmp_path / "a.npz"), "volume_mr_cpu", parse_overrides(sets))
    with pytest.raises(UserError, match=r"median is the spacing of whole volumes; write a number of mm, or add data\.volumes=whole"):
        resolve_data_config(reporter(), str(tmp_path / "a.npz"), "mr_cpu", parse_overrides(sets[1:]))
