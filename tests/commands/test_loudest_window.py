"""Where the window lies that spoke loudest: on CT of noise, half of which has a bright sphere near a corner."""

import json
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from predicting import table
from whole_volumes import write_nifti

import medssl
from medssl.api import LoadedClassifier
from medssl.commands.finetune import finetune
from medssl.commands.predict import predict
from medssl.commands.pretrain import pretrain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VOLUMES, SHAPE, PATCH, RADIUS, AIR = 32, (32, 40, 24), 16, 4, 3
SPACING = (3.0, 2.0, 1.5)
CORNERS = list(product(*((4, edge - 5) for edge in SHAPE)))  # the middle of a sphere: slice, row, column; one window has it
SETTINGS = ["data.volumes=patches", f"data.size={PATCH}", f"data.spacing_mm={list(SPACING)}", "backbone.width=8", "method.hidden=32"]
SETTINGS += ["method.width=16", "method.support_size=10", "train.steps=1", "train.batch_size=8", "train.workers=0", "tracking.mlflow=false"]
FINETUNING = ["finetune.draws=1", "finetune.bootstraps=100", "tracking.mlflow=false"]


def sphere_of(volume: int) -> tuple[int, ...] | None:
    """Where the sphere of an odd volume is."""
    return CORNERS[volume * 5 // 4 % 8] if volume % 2 else None


def write_volume(file: Path, volume: int) -> None:
    """CT of noise, perhaps with a bright sphere, in a border of air that is cut off."""
    voxels = np.random.default_rng(volume).integers(0, 9, SHAPE).astype(np.int16)
    if middle := sphere_of(volume):
        voxels[sum((grid - at) ** 2 for grid, at in zip(np.ogrid[tuple(map(slice, SHAPE))], middle, strict=True)) < RADIUS**2] = 200
    write_nifti(file, np.pad(voxels, [(0, AIR), (AIR, 0), (AIR, 0)], constant_values=-1000), spacing=SPACING)


@pytest.fixture(scope="module")
def runs(reporter, tmp_path_factory):
    """The folder of a pretraining of one step, and new volumes."""
    root = tmp_path_factory.mktemp("runs")
    rows = ["image,patient_id,label,split"]
    for volume in range(VOLUMES):
        write_volume(root / "data" / f"v{volume:02}.nii.gz", volume)
        rows.append(
            f"v{volume:02}.nii.gz,{volume},{('healthy', 'sick')[volume % 2]},{('train', 'test')[volume % 4 == 3 or volume % 8 == 0]}"
        )
    (root / "data" / "labels.csv").write_text("\n".join(rows) + "\n")
    for volume in range(40, 48):
        write_volume(root / "new" / f"n{volume}.nii.gz", volume)
    encoder = pretrain(reporter(), data=str(root / "data"), preset="volume_ct_cpu", out=root / "a", sets=SETTINGS)
    return SimpleNamespace(root=root, encoder=encoder, new=root / "new")


def check_places(rows: list[dict[str, str]]) -> None:
    """The window that spoke loudest is the one with the sphere, and the place in the patient is that of its middle."""
    assert [row["prediction"] for row in rows] == ["healthy", "sick"] * 4
    for volume, row in enumerate(rows, start=40):
        centre = np.array([int(row[f"loudest_{axis}"]) for axis in ("slice", "row", "column")])
        slices, down, across = centre * SPACING
        found_mm = [float(row[f"loudest_{axis}_mm"]) for axis in "xyz"]
        assert found_mm == pytest.approx(
            [AIR * 1.5 - 40 + across, AIR * 2 - 50 + down, -60 + slices], abs=0.06
        )  # as write_nifti places the volume
        if middle := sphere_of(volume):
            assert centre.tolist() == [8 if at < 8 else edge - 8 for at, edge in zip(middle, SHAPE, strict=True)], row["file"]


@pytest.mark.parametrize("pooling", ["mean_max", "attention"])
def test_the_window_with_the_sphere_speaks_loudest_and_its_place_is_in_the_table(runs, pooling, reporter, tmp_path):
    sets = [*FINETUNING, f"finetune.pooling={pooling}"] if pooling == "attention" else FINETUNING
    folder = finetune(reporter(), labels="all", encoder=str(runs.encoder), out=tmp_path / "b", sets=sets)
    card = json.loads((folder / "classifier.json").read_text())
    assert card["pooling"] == pooling and card["training"]["test"]["auroc"]["mean"] == 1
    predict(reporter(), data=str(runs.new), model=str(folder), out=tmp_path / "p.csv")
    check_places(table(str(tmp_path / "p.csv")))
    if pooling == "attention":
        check_shares(medssl.load_classifier(folder), runs.new)


def check_shares(classifier: LoadedClassifier, new: Path) -> None:
    """The window with the sphere has the largest share of the sum."""
    for volume in range(41, 48, 2):
        windows = classifier.prepare(new / f"n{volume}.nii.gz")
        with torch.no_grad():
            scores = classifier.classifier.attention.scores(classifier.classifier.encoder(windows).double())
        assert scores.argmax() == windows.flatten(1).amax(1).argmax()
