"""`medssl embed` from the command line: the features are those of finetune and predict, and a stopped run goes on."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from predicting import picture, table
from small_runs import assert_refused

from medssl.commands import embed as embed_module
from medssl.data.cache import cache_folder
from medssl.data.store import Store
from medssl.embedding import Part, open_features
from medssl.encoder import artefact
from medssl.evaluate.models import classifier_file, extract

CPU = torch.device("cpu")
Command = Callable[..., tuple[int, str]]


def features_of(file: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The columns but the features, and the features."""
    read = pd.read_parquet(file)
    return read, np.stack(read.pop("features").to_list())


def wards(count: int) -> np.ndarray:
    return np.stack([picture(Path(f"ward/{n:02}.png"), n) for n in range(count)])


def test_the_features_are_those_that_finetune_computes_of_the_same_images(command: Command, encoder_run: Path, pictures: Path) -> None:
    code, said = command("embed", "--encoder", encoder_run, "--data", pictures, "--out", "f.parquet")
    assert code == 0, said
    found, features = features_of("f.parquet")
    encoder, card = artefact.load(encoder_run)
    store = Store.open(cache_folder() / "stores" / card["data"]["fingerprint"])
    np.testing.assert_allclose(features, extract(encoder, store.inputs, np.arange(60), CPU), atol=1e-6)
    assert list(found) == ["key", "patient", "label:label"]
    for name in found:
        assert found[name].tolist() == store.table[name].tolist()
    facts = open_features(Path("f.parquet")).facts
    assert facts["encoder"]["weights_sha256"] == card["weights_sha256"]
    assert (facts["encoder"]["size"], facts["encoder"]["channels"], facts["pool"]) == (16, 1, "none")
    for kind in ("patients", "pixels"):
        assert card["pretraining"][kind]["hashes"][0] not in json.dumps(facts)
    assert str(pictures) not in json.dumps(facts)
    assert "images/s" in said
    assert "embedded  60 images" in said
    assert Path("f.parquet").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in Path().iterdir()] == ["f.parquet"]


def test_the_features_give_the_probabilities_that_predict_writes(command: Command, model: Any, encoder_run: Path, pictures: Path) -> None:
    """The classifier of `model` stands on the encoder of `encoder_run`: both have random weights of seed 0."""
    assert command("embed", "--encoder", encoder_run, "--data", pictures, "--out", "f.parquet")[0] == 0
    assert command("predict", "--model", model.folder, "--data", pictures)[0] == 0
    classifier, _, _ = classifier_file.load(model.folder)
    prob = classifier.probabilities(torch.from_numpy(features_of("f.parquet")[1])).numpy()
    np.testing.assert_allclose([float(row["prob_sick"]) for row in table()], prob[:, 1], atol=1e-6)


def test_what_cannot_be_read_is_left_out_and_counted_and_the_keys_name_the_files_for_the_operator(
    command: Command, encoder_run: Path
) -> None:
    wards(3)
    Path("ward/01.png").write_bytes(Path("ward/01.png").read_bytes()[:90])
    Path("ward/text.png").write_text("text")
    code, said = command("embed", "--encoder", encoder_run, "--data", "ward", "--out", "f.npy", "--dtype", "float16")
    assert code == 0, said
    features = np.load("f.npy")
    assert (len(features), features.dtype) == (2, np.float16)
    assert "2 could not be used and have no features (1 x truncated, 1 x not_an_image)" in said.replace("\n", " ")
    rows = table("f.csv")
    (private,) = [line.split()[1] for line in said.splitlines() if line.startswith("keys ")]
    assert [(row["file"], row["index"], row["key"]) for row in table(private)] == [
        (f"{n:02}.png", "0", row["key"]) for n, row in zip((0, 2), rows, strict=True)
    ]
    assert "00.png" not in said


def test_the_slices_of_a_volume_become_their_mean(command: Command, encoder_run: Path) -> None:
    Path("brain").mkdir()
    for name, slices in (("a", 3), ("b", 4)):
        voxels = np.random.default_rng(slices).integers(0, 99, (16, 16, slices), np.int16)
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(f"brain/{name}.nii.gz")  # pyright: ignore
    options = ("embed", "--encoder", encoder_run, "--data", "brain", "--set", "data.source.slices=all")
    assert command(*options, "--out", "each.parquet")[0] == 0
    code, said = command(*options, "--out", "pooled.parquet", "--pool", "volume")
    assert code == 0, said
    (each, of_slices), (pooled, of_volumes) = features_of("each.parquet"), features_of("pooled.parquet")
    assert (len(each), pooled["images"].tolist()) == (7, [3, 4])
    np.testing.assert_allclose(of_volumes, [of_slices[:3].mean(0), of_slices[3:].mean(0)], atol=1e-6)
    assert pooled["patient"].tolist() == each["patient"].iloc[[0, 3]].tolist()
    assert "7 images in 2 volumes" in said


@pytest.mark.parametrize("end", ["Ctrl-C", "a fault of the disk"])
def test_a_stopped_run_goes_on_after_its_last_part_and_gives_the_same_file(
    command: Command, encoder_run: Path, pictures: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    options = ("embed", "--encoder", encoder_run, "--data", pictures)
    assert command(*options, "--out", "whole.parquet")[0] == 0
    make, compute, computed = embed_module.make_parts, Part.compute, []

    def stopping(self: Part, *arguments: Any) -> np.ndarray:
        if len(computed) == 2:
            raise KeyboardInterrupt if end == "Ctrl-C" else OSError(5, "Input/output error")
        computed.append(self.name)
        return compute(self, *arguments)

    monkeypatch.setattr(embed_module, "make_parts", lambda *arguments: make(*arguments, images=20))
    monkeypatch.setattr(Part, "compute", stopping)
    if end == "Ctrl-C":
        code, said = command(*options, "--out", "f.parquet")
        assert code == 128 + signal.SIGINT
        assert f"Continue with: medssl embed --data {pictures} --encoder {encoder_run} --out f.parquet" in said
    else:
        with pytest.raises(OSError, match="Input/output"):
            embed_module.embed(reporter(), data=str(pictures), encoder=str(encoder_run), out=Path("f.parquet"))
    assert not Path("f.parquet").exists()
    monkeypatch.setattr(Part, "compute", lambda self, *arguments: computed.append(self.name) or compute(self, *arguments))
    code, said = command(*options, "--out", "f.parquet")
    assert code == 0, said
    assert len(computed) == len(set(computed)) == 3
    assert "40 of 60 were embedded before" in said
    (table_of_parts, features), (whole_table, whole) = features_of("f.parquet"), features_of("whole.parquet")
    pd.testing.assert_frame_equal(table_of_parts, whole_table)
    np.testing.assert_allclose(features, whole, atol=1e-6)
    assert not Path("f.parquet.parts").exists()


REFUSED = {
    "no encoder": (("--encoder", "ward"), ("No encoder at ward", "pretraining run")),
    "a picture as the encoder": (("--encoder", "ward/00.png"), ("No encoder at ward/00.png",)),
    "no such data": (("--data", "nowhere"), ("nowhere", "does not exist")),
    "an empty folder": (("--data", "empty"), ("no image below empty",)),
    "another size": (("--set", "data.size=32"), ("data.size is 32", "the encoder was trained with 16", "Leave it")),
    "a setting of another command": (("--set", "train.lr=1"), ("embed takes settings of the data only",)),
    "another pooling": (("--pool", "patient"), ("--pool patient", "none or volume")),
    "another type": (("--dtype", "int8"), ("--dtype int8", "float32 or float16")),
    "another suffix": (("--out", "f.csv"), ("--out f.csv", ".parquet or .npy")),
    "a file that exists": (("--out", "there.parquet"), ("there.parquet exists", "--overwrite")),
    "keys that exist": (("--out", "there.npy"), ("there.csv exists", "--overwrite")),
    "a file in no folder": (("--out", "gone/f.parquet"), ("no folder for gone/f.parquet",)),
    "a file among the images": (("--out", "ward/f.parquet"), ("ward/f.parquet is inside the data folder",)),
    "no such device": (("--device", "gpu"), ("gpu", "cuda")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_a_remedy(command: Command, encoder_run: Path, case: str) -> None:
    wards(1)
    Path("empty").mkdir()
    for name in ("there.parquet", "there.csv"):
        Path(name).write_text("mine")
    arguments, parts = REFUSED[case]
    defaults = {"--encoder": encoder_run, "--data": "ward"}
    assert_refused(command, "embed", defaults, arguments, parts)
    assert Path("there.parquet").read_text() == Path("there.csv").read_text() == "mine"


def test_without_a_name_the_newest_finished_pretraining_is_taken_and_a_file_is_replaced_if_asked(
    command: Command, encoder_run: Path, pictures: Path
) -> None:
    code, said = command("embed", "--data", pictures)
    assert code == 2
    assert "no finished pretraining in runs/" in said
    Path("runs").mkdir()
    Path("runs/a").symlink_to(encoder_run)
    Path("features.parquet").write_text("old")
    code, said = command("embed", "--data", pictures, "--overwrite")
    assert code == 0, said
    assert "runs/a" in said
    assert len(features_of("features.parquet")[0]) == 60
