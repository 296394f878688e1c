"""What a user can get wrong: one message with the thing, the reason and the remedy, exit code 2, and no traceback."""

import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from medssl.__main__ import main


@pytest.fixture
def medssl(monkeypatch, capsys, tmp_path):
    """medssl(arguments...) -> (exit code, what it printed), run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medssl", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call


def picture(path, size=24):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 255, (size, size), dtype=np.uint8)).save(path)


CASES = {
    "a pretraining without data": (["pretrain"], ["--data chestxray/", "--data phantom"]),
    "a preparation without data": (["prepare"], ["--data chestxray/", "--data phantom"]),
    "a pretraining on one picture": (
        ["pretrain", "--data", "good/00.png"],
        ["good/00.png has a single image", "Name several"],
    ),
    "no such folder": (["pretrain", "--data", "nowhere"], ["nowhere"]),
    "no image in the folder": (["pretrain", "--data", "empty"], ["empty"]),
    "only text named .png": (["pretrain", "--data", "text"], ["not_an_image"]),
    "a row outside the root": (["pretrain", "--data", "outside/list.csv"], ["row 2", "outside"]),
    "an unknown method": (["pretrain", "--data", "good", "--method", "pnclr"], ["pnclr", "'pnnclr'"]),
    "an unknown key": (["pretrain", "--data", "good", "--set", "method.temprature=0.2"], ["temprature", "'temperature'"]),
    "an unknown section": (["pretrain", "--data", "good", "--set", "trian.lr=0.2"], ["trian", "'train'"]),
    "a setting without a value": (["pretrain", "--data", "good", "--set", "train.lr"], ["--set", "train.lr=0.001"]),
    "a batch of one": (["pretrain", "--data", "good", "--set", "train.batch_size=1"], ["train.batch_size", "2"]),
    "a batch larger than the data": (["pretrain", "--data", "good", "--set", "train.batch_size=500"], ["500", "batch size"]),
    "a support set larger than the data": (
        ["pretrain", "--data", "good", "--set", "train.batch_size=4", "--set", "method.support_size=15"],
        ["support set of 15", "12 training images", "--set method.support_size=6"],
    ),
    "crops that a transformer of one size refuses": (
        [
            *("pretrain", "--data", "good", "--method", "dino", "--set", "train.batch_size=4", "--set", "method.prototypes=16"),
            *("--set", "backbone.model=vit_tiny_patch16_224", "--set", "backbone.arguments={depth: 1}"),
        ],
        ["no crops of 16 pixels", "dynamic_img_size", "method.local_crops=0"],
    ),
    "labels in other words": (["finetune", "--labels", "10percent"], ["10percent", "10pct"]),
    "a fine-tuning without an encoder": (["finetune", "--labels", "10pct"], ["medssl pretrain"]),
    "an encoder file that is none": (["finetune", "--encoder", "text/a.png"], ["No encoder at"]),
    "resuming where nothing is": (["pretrain", "--resume", "good"], ["Nothing to resume"]),
    "CUDA without a device": (["pretrain", "--data", "good", "--device", "cuda"], ["--device cpu"]),
    "an output folder that exists": (["pretrain", "--data", "good", "--out", "good"], ["good", "--overwrite"]),
    "overwriting what is no run": (["pretrain", "--data", "good", "--out", "good", "--overwrite"], ["no run folder"]),
    "an unknown preset": (["pretrain", "--data", "good", "--preset", "chest"], ["'chest'"]),
    "too many broken pictures": (["pretrain", "--data", "broken"], ["max_bad_fraction", "3 x truncated", "-skipped.csv"]),
    "an unknown network": (["pretrain", "--data", "good", "--set", "backbone.model=resnet_18"], ["'resnet18'"]),
    "a seed that is too large": (
        ["pretrain", "--data", "good", "--set", "seed=18446744073709551616"],
        ["seed: Input should be less than or equal to 4294967295"],
    ),
    "a seed below zero": (["pretrain", "--data", "good", "--set", "seed=-1"], ["seed: Input should be greater than or equal to 0"]),
    "links that leave the folder": (
        ["prepare", "--data", "linked"],
        ["2 links lead out of the data folder", "outside_root 2", "--set data.follow_links=true"],
    ),
    "a few links that leave the folder": (["prepare", "--data", "mixed"], ["2 x outside_root", "--set data.follow_links=true"]),
    "a medmnist set that does not exist": (["pretrain", "--data", "medmnist:pneumonia"], ["pneumoniamnist"]),
}


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("this is text")
    for number in range(20):
        picture(tmp_path / "good" / f"{number:02}.png")
        picture(tmp_path / "broken" / f"{number:02}.png")
    for number in range(3):
        whole = (tmp_path / "broken" / f"{number:02}.png").read_bytes()
        (tmp_path / "broken" / f"b{number:02}.png").write_bytes(whole[: len(whole) // 2])
    for folder in ("linked", "mixed"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            (tmp_path / folder / f"link{number}.png").symlink_to(tmp_path / "good" / f"{number:02}.png")
    picture(tmp_path / "mixed/own.png")
    picture(tmp_path / "secret.png")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "list.csv").write_text("path,label\n../secret.png,1\n")


@pytest.mark.fault("C6")
@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("case", CASES)
def test_exit_code_two_and_a_message_with_the_remedy(case, medssl):
    if "CUDA" in case:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device here")
    arguments, expected = CASES[case]
    code, printed = medssl(*arguments)
    assert code == 2, printed
    assert "Traceback" not in printed
    assert printed.count("error: ") == 1, printed
    for text in expected:
        assert text in printed, printed


def test_one_broken_picture_among_many_is_skipped_counted_and_named(medssl, tmp_path, small, monkeypatch):
    for number in range(150):
        picture(tmp_path / "many" / f"{number:03}.png")
    whole = (tmp_path / "many" / "007.png").read_bytes()
    (tmp_path / "many" / "007.png").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    sets = [part for item in [*small, "tracking.mlflow=false", "train.steps=2"] for part in ("--set", item)]
    monkeypatch.setattr(sys, "argv", ["medssl", "pretrain", "--data", "many", "--out", "run", *sets])
    try:
        main()
    except SystemExit as ended:
        assert not ended.code
    listed = next((tmp_path / "cache" / "private").glob("*-skipped.csv")).read_text()
    assert "007.png" in listed
    assert "truncated" in listed
    assert listed.count("\n") == 2


@pytest.mark.fault("S16")
@pytest.mark.parametrize("name", ["images.zip", "images.tar.gz"])
def test_an_archive_is_not_unpacked_and_said_to_be_none_of_what_is_taken(medssl, tmp_path, name):
    picture(tmp_path / "good" / "a.png")
    with tarfile.open(tmp_path / name, "w:gz") if "tar" in name else zipfile.ZipFile(tmp_path / name, "w") as archive:
        (archive.add if isinstance(archive, tarfile.TarFile) else archive.write)(tmp_path / "good" / "a.png", "../escaped.png")
    code, printed = medssl("prepare", "--data", name)
    assert code == 2 and name in printed and "Traceback" not in printed
    assert not list(tmp_path.parent.glob("escaped.png"))
