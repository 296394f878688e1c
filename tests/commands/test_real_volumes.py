"""Real volumes, of the DICOM and NIfTI files that other programs have written, from pretraining to prediction."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from medssl.commands.embed import embed
from medssl.commands.finetune import finetune
from medssl.commands.predict import predict
from medssl.commands.pretrain import pretrain
from medssl.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KINDS = {  # of each file below shared/data/nifti: one volume, or two
    "anatomy": (
        *("avg152T1_LR_nifti.nii.gz", "ms_patient19/T1_brain_MNI.nii.gz"),
        *("nibabel/anatomical.nii", "nibabel/someones_anatomy.nii.gz"),
    ),
    "function": ("dcm_qa/ax_asc_35sl_6.nii", "dcm_qa/cor_asc_35sl_16.nii", "nibabel/example4d.nii.gz", "nibabel/someones_epi.nii.gz"),
}
SETS = [
    *("data.volumes=whole", "data.size=16", "data.test_fraction=0.4", "data.holdout_fraction=0", "backbone.width=4", "method.hidden=16"),
    *("method.width=8", "train.steps=2", "train.workers=0", "tracking.mlflow=false"),
]


@pytest.fixture(scope="module")
def runs(shared_data: Path, reporter, tmp_path_factory) -> tuple[Path, Path]:
    """The folders of a pretraining and a fine-tuning on the NIfTI files, each file a patient of its own."""
    root = tmp_path_factory.mktemp("real")
    lines = ["path,patient,label"]
    for kind, files in KINDS.items():
        for file in files:
            shutil.copy(shared_data / "nifti" / file, root)
            lines.append(f"{Path(file).name},{Path(file).name},{kind}")
    (root / "table.csv").write_text("\n".join(lines))
    encoder = pretrain(reporter(), data=str(root / "table.csv"), preset="volume_mr_cpu", out=root / "encoder", sets=SETS)
    sets = ["tracking.mlflow=false", "finetune.bootstraps=100"]
    return encoder, finetune(reporter(), labels="all", encoder=str(encoder), out=root / "classifier", sets=sets)


def test_volumes_are_counted_in_the_results(runs) -> None:
    results = json.loads((runs[1] / "results.json").read_text())
    assert results["task"]["counted"] == "whole volumes"
    assert results["task"]["test"]["n_patients"] >= 2


def test_a_series_of_dicom_files_is_predicted_and_embedded_as_one_volume(runs, shared_data: Path, reporter, tmp_path: Path) -> None:
    encoder, classifier = runs
    predict(reporter(), data=str(shared_data / "dicom/mr-series"), model=str(classifier), out=tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as table:
        (row,) = csv.DictReader(table)
    assert row["prediction"] in KINDS and row["left_out"] == ""
    said = reporter()
    embed(said, data=str(shared_data / "dicom/mr-series"), encoder=str(encoder), out=tmp_path / "f.parquet")
    assert any("embedded  1 volumes" in line for line in said.said)


def test_what_is_too_little_for_a_pretraining_says_why(shared_data: Path, reporter, tmp_path: Path) -> None:
    for name, expected in (
        ("dicom/mr-series", r"has a single volume, .*leave data\.volumes=whole out: each slice is an image then"),
        ("nifti/ms_patient19", "has a single volume"),
        ("dicom/ct-3slice", r"few_slices \(3 x 512 x 512 voxels, data\.min_slices is 8\)"),
        ("dicom/mosaic-cor", "mosaic .*convert the series to NIfTI"),
    ):
        with pytest.raises(UserError, match=expected):
            pretrain(reporter(), data=str(shared_data / name), out=tmp_path / "run", sets=SETS[:1])
