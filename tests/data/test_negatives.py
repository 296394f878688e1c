"""Images that are stored as negatives of the others: found among phantoms, told with what tells them from the others, and nowhere else."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from volume_stores import write_store

from medssl.config import Data, Transform
from medssl.data.audit import audit_lines, contact_sheet, looks_of
from medssl.data.negatives import Negatives, describe_negatives, find_negatives, negative_lines
from medssl.data.phantom import radiograph
from medssl.data.preparation import Preparation
from medssl.data.prepare import prepare
from medssl.data.sources import manifest
from medssl.data.store import Store, private_list
from medssl.types import Decoded

FAULTS = {
    "mirrored images are negatives": ("data/negatives.py", "* agreement[opposite])", "* agreement[opposite] + 9)"),
    "only black margins are cut": ("data/negatives.py", "np.ptp(levels, axis=others)", "np.max(levels, axis=others)"),
}
NUMBER, SIZE = 60, 48
RANDOM = np.random.default_rng(0)
YY, XX = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]


@pytest.fixture(scope="module")
def radiographs() -> np.ndarray:
    """uint8 [60, 48, 48]"""
    return np.stack([np.rint(radiograph((1, n), 0, SIZE, n % 3 == 0) * 255) for n in range(NUMBER)]).astype(np.uint8)


def store_of(images: np.ndarray) -> Store:
    """A store of images [N, H, W] or [N, C, H, W]."""
    images = images if images.ndim == 4 else images[:, None]
    return Store(Path(), images, pd.DataFrame({"bits": [8] * len(images)}), {"versions": {"readers": {}}})  # pyright: ignore[reportArgumentType]


def negatives_of(images: np.ndarray) -> list[int]:
    return find_negatives(store_of(images)).rows.tolist()


def inverted(images: np.ndarray, rows: list[int]) -> np.ndarray:
    mixed = images.copy()
    mixed[rows] = np.iinfo(images.dtype).max - mixed[rows]
    return mixed


@pytest.mark.parametrize("rows", [[], [7], [3, 20, 59], list(range(0, NUMBER, 5)), list(range(25))])
def test_exactly_the_inverted_radiographs_are_found(radiographs, rows):
    assert negatives_of(inverted(radiographs, rows)) == rows


def test_of_two_halves_one_is_said_to_be_the_negative_of_the_other(radiographs):
    rows = list(range(0, NUMBER, 2))
    found = find_negatives(store_of(inverted(radiographs, rows)))
    assert found.rows.tolist() in (rows, [row + 1 for row in rows])
    (sentence,) = negative_lines(describe_negatives(found, pd.DataFrame(index=range(NUMBER))))
    assert sentence.startswith(f"30 of {NUMBER} images look like negatives of the others")
    assert "cannot be told from the pixels" in sentence


def test_grey_pictures_of_16_bits_and_of_three_equal_channels_are_judged_and_coloured_ones_are_not(radiographs):
    mixed = inverted(radiographs, [4, 8])
    assert negatives_of(mixed.astype(np.uint16) * 257) == [4, 8]
    assert negatives_of(np.repeat(mixed[:, None], 3, axis=1)) == [4, 8]
    windows = np.stack([mixed, radiographs, 255 - mixed], axis=1)
    assert find_negatives(store_of(windows)).judged == 0


def test_a_negative_is_found_whatever_margin_the_preparation_adds(radiographs):
    """Pictures of other shapes get black margins after they were inverted; pictures with a margin of their own then have a white one."""
    with_margin = np.pad(radiographs, ((0, 0), (30, 0), (0, 20)))
    padded = np.pad(inverted(with_margin, [25, 30]), ((0, 0), (0, 0), (9, 9)))
    padded[:20] = np.pad(radiographs[:20], ((0, 0), (30, 0), (19, 19)))
    assert negatives_of(padded) == [25, 30]


@pytest.mark.parametrize("kind", ["noise", "slopes", "spots"])
def test_images_without_a_common_layout_have_no_negatives(kind):
    def image() -> np.ndarray:
        if kind == "noise":
            return RANDOM.random((SIZE, SIZE))
        x, y = RANDOM.uniform(-1, 1, 2)
        return (x * XX + y * YY + 2) / 4 if kind == "slopes" else np.hypot(XX - x, YY - y) / 3

    assert negatives_of(np.stack([image() * 255 for _ in range(NUMBER)]).astype(np.uint8)) == []


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("height", [0.8, 3])
def test_left_and_right_breasts_are_no_negatives(share, height):
    """A high one fills half of the picture: its negative is like the mirrored one."""

    def breast(side: int) -> np.ndarray:
        shape = ((XX * side + 1) / RANDOM.uniform(0.9, 1.1)) ** 2 + (YY / (height * RANDOM.uniform(0.9, 1.1))) ** 2
        return np.where(shape < 1, 180.0, 20.0) + RANDOM.normal(0, 5, shape.shape)

    images = [breast(1 if n < share * NUMBER else -1) for n in range(NUMBER)]
    assert negatives_of(np.stack(images).clip(0, 255).astype(np.uint8)) == []


def test_images_of_something_else_are_no_negatives(radiographs):
    """Dark disks in a bright field agree with the negative of the layout, and look like no radiograph."""
    mixed = radiographs.copy()
    for row in range(0, NUMBER, 6):
        mixed[row] = np.where(np.hypot(XX, 2 * YY - 1) < RANDOM.uniform(0.7, 0.9), 60, 200)
    assert negatives_of(mixed) == []


def test_an_inverted_volume_is_found_among_others(tmp_path):
    z, y, x = np.mgrid[-1:1:16j, -1:1:16j, -1:1:16j]
    ball = np.where(z**2 + y**2 + x**2 < 0.5, 180, 60)
    volumes = np.stack([np.clip(ball + RANDOM.normal(0, 8, ball.shape), 1, 255) for _ in range(12)]).astype(np.uint8)
    volumes[5] = 255 - volumes[5]
    assert find_negatives(write_store(tmp_path / "store", volumes[:, None], ["a"] * 12)).rows.tolist() == [5]


def test_the_column_is_named_that_tells_negatives_from_the_others():
    table = pd.DataFrame({"site": list("AAABBBBBBB"), "extra:view": list("xyxyxyxyxy"), "label:finding": list("pppnnnnnnn")})
    found = Negatives(np.arange(3), 10)
    facts = describe_negatives(found, table, dicom=True)["negatives"]
    assert (facts["column"], facts["values"]) == ("site", ["A"])
    assert "PhotometricInterpretation" in next(negative_lines({"negatives": facts}))
    assert describe_negatives(found, table.drop(columns="site"))["negatives"]["column"] == "finding"
    assert "column" not in describe_negatives(found, table.drop(columns=["site", "label:finding"]))["negatives"]
    assert "column" not in describe_negatives(Negatives(np.arange(5), 10), table)["negatives"]


def test_the_audit_of_an_earlier_version_still_says_them():
    (sentence,) = negative_lines({"looks": {"checked": 512, "inverted": 7}})
    assert sentence.startswith("7 of 512 images look like negatives of the others: bright is dark in them. ")


def test_prepare_says_them_shows_them_and_names_their_files_to_the_operator_only(radiographs, tmp_path):
    root, cache, rows = tmp_path / "data", tmp_path / "cache", [2, 11, 37]
    root.mkdir()
    for n, image in enumerate(inverted(radiographs, rows)):
        Image.fromarray(image).save(root / f"doe_{n:02}.png")
    lines = [f"doe_{n:02}.png,{'B' if n in rows else 'A'}" for n in range(NUMBER)]
    (root / "list.csv").write_text("\n".join(["path,site", *lines]))
    store = prepare(manifest.build(manifest.Config(), str(root / "list.csv")), Data(size=32), cache)
    found = json.loads((store.path / "audit.json").read_text("utf-8"))
    (sentence,) = (sentence for heading, sentence in audit_lines(found) if heading == "look")
    assert sentence.startswith("3 of 60 images look like negatives of the others: bright is dark in them (rows 2, 11, 37; at the end of")
    assert "have site = B. They are used as they are" in sentence
    assert looks_of(store) == [sentence]
    assert "doe_" not in json.dumps(found)
    with private_list(cache, store.card["fingerprint"], "negatives").open(newline="") as file:
        assert [(row["file"], row["row"]) for row in csv.DictReader(file)] == [(f"doe_{row:02}.png", str(row)) for row in rows]
    sheet, plain = Image.open(store.path / "contact_sheet.png"), contact_sheet(store)
    assert sheet.height - plain.height == 128 + 14
    tile = np.asarray(sheet)[plain.height :][:126, 1:127, 0]
    np.testing.assert_array_equal(
        tile, np.asarray(Image.fromarray(np.asarray(store.images[2, 0])).resize((126, 126), Image.Resampling.BILINEAR))
    )


@pytest.mark.slow
def test_the_transform_of_the_guide_inverts_all_images():
    """Slow: MONAI is imported."""
    guide = (Path(__file__).parents[2] / "docs/how_to/check_the_images.md").read_text("utf-8")
    step = re.search(r"data.transforms=\[(.*ScaleIntensityRange,.*?)\]'", guide)
    assert step
    data = Data(size=SIZE, transforms=(Transform.model_validate(yaml.safe_load(step[1])),))
    picture = RANDOM.random((1, SIZE, SIZE), np.float32)
    np.testing.assert_allclose(Preparation(data)(Decoded(picture, 8)) / 255, 1 - picture, atol=0.003)
