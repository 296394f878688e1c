"""`medssl neighbours` from the command line: the most similar images by scikit-learn's cosine, one of each patient, not the query's own."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from predicting import exported_encoder, picture
from sklearn.metrics.pairwise import cosine_similarity
from small_runs import assert_refused

from medssl.data.cache import cache_folder
from medssl.data.store import Store
from medssl.encoder import artefact
from medssl.evaluate.models import extract

Command = Callable[..., tuple[int, str]]
_ROW = re.compile(r"^ +(\d+)  +(-?\d\.\d{3})  ([0-9a-f]{12})  ([0-9a-f]{12})(?:  (.*))?$", re.MULTILINE)


def expected(encoder_run: Path, query: int, k: int) -> list[tuple[str, str, str]]:
    """(cosine, patient, key) of the most similar images of the pretraining's images, by scikit-learn and a loop."""
    encoder, card = artefact.load(encoder_run)
    store = Store.open(cache_folder() / "stores" / card["data"]["fingerprint"])
    features = extract(encoder, store.inputs, np.arange(len(store.images)), next(encoder.parameters()).device).astype(np.float64)
    cosine = cosine_similarity(features[[query]], features)[0]
    found: dict[str, tuple[str, str, str]] = {}
    for row in np.argsort(-cosine):
        patient, key = (str(store.table[name].iat[row]) for name in ("patient", "key"))
        if row != query and patient not in found:
            found[patient] = (f"{cosine[row]:.3f}", patient[:12], key[:12])
    return list(found.values())[:k]


@pytest.fixture(scope="module")
def query(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the first picture, in a folder without a table."""
    return Path(shutil.copy(min(pictures.rglob("*.png")), tmp_path_factory.mktemp("query") / "picture.png"))


@pytest.mark.parametrize("where", ["in a file", "in a folder"])
def test_the_most_similar_images_are_those_of_scikit_learn(
    command: Command, encoder_run: Path, pictures: Path, query: Path, where: str
) -> None:
    if where == "in a file":
        assert command("embed", "--encoder", encoder_run, "--data", pictures, "--out", "f.parquet")[0] == 0
    searched = {"in a file": ("--in", "f.parquet"), "in a folder": ("--data", pictures)}[where]
    code, said = command("neighbours", "--encoder", encoder_run, "--query", query, "-k", 5, *searched)
    assert code == 0, said
    rows = _ROW.findall(said)
    assert [(cosine, patient, key) for _, cosine, patient, key, _ in rows] == expected(encoder_run, 0, 5)
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    assert {row[4].split()[0] for row in rows} <= {"normal", "sick"}
    assert "60 images of 30 patients" in said
    with Image.open("neighbours.png") as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 1000
    assert query.name not in said


def test_each_patient_is_shown_once_and_that_of_the_query_is_marked_by_its_other_image(
    command: Command, encoder_run: Path, query: Path
) -> None:
    code, said = command("neighbours", "--encoder", encoder_run, "--query", query, "-k", 50)
    assert code == 0, said
    rows = _ROW.findall(said)
    store = Store.open(cache_folder() / "stores" / artefact.load(encoder_run)[1]["data"]["fingerprint"])
    assert [(cosine, patient, key) for _, cosine, patient, key, _ in rows] == expected(encoder_run, 0, 30)
    assert len(rows) == len({row[2] for row in rows}) == 30
    key, patient = store.table[["key", "patient"]].iloc[0]
    (marked,) = [row for row in rows if "the query's patient" in row[4]]
    assert patient.startswith(marked[2])
    assert not any(key.startswith(row[3]) for row in rows)


@pytest.mark.slow
def test_volumes_are_compared_as_a_whole_and_of_images_the_middle_or_a_named_one(command: Command, encoder_run: Path) -> None:
    Path("brain").mkdir()
    for n in range(3):
        voxels = np.random.default_rng(n).integers(0, 99, (16, 16, 3), np.int16)
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(f"brain/{n}.nii.gz")  # pyright: ignore
    options = ("--encoder", encoder_run, "--set", "data.source.slices=all")
    assert command("embed", *options, "--data", "brain", "--out", "f.parquet", "--pool", "volume")[0] == 0
    query = ("neighbours", *options, "--query", "brain/1.nii.gz", "--overwrite")
    code, said = command(*query, "--in", "f.parquet")
    assert code == 0, said
    assert "all 3 images of its file; searched are 3 volumes" in said
    assert len(_ROW.findall(said)) == 2
    for index, row in (((), 1), (("--index", 0), 0)):
        code, said = command(*query, "--data", "brain", *index)
        assert code == 0, said
        assert f"image {row} of 3 in its file" in said
        assert len(_ROW.findall(said)) == 2
    code, said = command(*query, "--data", "brain", "--index", 3)
    assert code == 2
    assert "--index 3: brain/1.nii.gz has 3 images that can be used. Use a number from 0 to 2." in said


def test_features_of_another_encoder_are_refused(command: Command, encoder_run: Path, pictures: Path, query: Path, reporter: Any) -> None:
    exported_encoder(Path("other"), pictures, reporter(), seed=1)
    assert command("embed", "--encoder", "other", "--data", pictures, "--out", "f.parquet")[0] == 0
    code, said = command("neighbours", "--encoder", encoder_run, "--query", query, "--in", "f.parquet")
    assert code == 2
    digests = [artefact.load(Path(run))[1]["weights_sha256"][:12] for run in ("other", encoder_run)]
    for part in ("f.parquet has the features of another encoder", *digests, "--encoder"):
        assert part in said
    assert not Path("neighbours.png").exists()


def test_features_whose_images_are_not_in_the_cache_ask_for_the_images(
    command: Command, encoder_run: Path, pictures: Path, query: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("embed", "--encoder", encoder_run, "--data", pictures, "--out", "f.parquet")[0] == 0
    call = ("neighbours", "--encoder", encoder_run, "--query", query, "--in", "f.parquet")
    code, said = command(*call, "--data", query)
    assert code == 2
    assert "features of images that are not in" in said
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    code, said = command(*call)
    assert code == 2
    assert "Name the images, too: --data PATH" in said


REFUSED = {
    "no query": (("--query", "gone.png"), ("--query gone.png is no file",)),
    "a folder as the query": (("--query", "ward"), ("--query ward is no file",)),
    "text as the query": (("--query", "text.txt"), ("text.txt is neither an image",)),
    "a broken query": (("--query", "half.png"), ("half.png", "1 x truncated")),
    "no other image": (("--data", "ward/0.png"), ("no image but those of the query's own file",)),
    "no encoder": (("--encoder", "ward"), ("No encoder at ward",)),
    "text as features": (("--in", "text.txt"), ("text.txt is no file of features", "medssl embed")),
    "no features": (("--in", "gone.parquet"), ("gone.parquet is no file of features",)),
    "another suffix": (("--out", "n.jpg"), ("--out n.jpg", ".png")),
    "a picture that exists": (("--out", "ward/0.png"), ("ward/0.png exists", "--overwrite")),
    "no neighbours": (("-k", "0"), ("-k",)),
    "a setting of another command": (("--data", "ward", "--set", "train.lr=1"), ("neighbours takes settings of the data only",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_a_remedy(command: Command, encoder_run: Path, case: str) -> None:
    picture(Path("ward/0.png"))
    Path("half.png").write_bytes(Path("ward/0.png").read_bytes()[:90])
    Path("text.txt").write_text("text")
    arguments, parts = REFUSED[case]
    defaults = {"--encoder": encoder_run, "--query": "ward/0.png"}
    assert_refused(command, "neighbours", defaults, arguments, parts)
    assert not Path("neighbours.png").exists()
