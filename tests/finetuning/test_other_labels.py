"""An encoder of one label column, fine-tuned for another one: the wanted column counts, and nobody is tested whom pretraining has seen."""

import json

import numpy as np
import pytest
from PIL import Image

from medssl.config import merge, resolve
from medssl.data.split import Seen, list_seen
from medssl.errors import UserError
from medssl.finetuning.loading import list_labelled
from medssl.runs.dataset import prepare_dataset, with_unseen_test
from medssl.runs.resolve_config import list_source

BOTH = ("grade", "lesion")


def write_images(root, first=0):
    """60 grey pictures of 30 patients."""
    root.mkdir()
    for number in range(60):
        Image.fromarray(np.random.default_rng(first + number).integers(0, 256, (20, 20), np.uint8)).save(root / f"{number:02}.png")
    return root


def write_table(root, *columns, patients="p"):
    """The labels of each patient in these columns; `code` has another number for each image."""
    values = {"grade": lambda n: "abc"[n // 2 % 3], "lesion": lambda n: ("yes", "no")[n // 2 // 3 % 2], "code": lambda n: f"{n}.5"}
    rows = [f"{n:02}.png,{patients}{n // 2}," + ",".join(values[name](n) for name in columns) for n in range(60)]
    (root / "labels.csv").write_text("\n".join([f"image,patient_id,{','.join(columns)}", *rows]) + "\n")


def configured(root, **data):
    return resolve({"data": {"path": str(root), "source": "folder", "size": 16, **data}})


def the_card(dataset, config):
    """What the card of an encoder says that was pretrained on this."""
    table = dataset.store.table.iloc[dataset.pretraining]
    data = {**config.model_dump(mode="json")["data"], "path": ""}
    return {"stratum": dataset.stratum, "pretraining": list_seen(table, dataset.store.card["site"]), "config": {"data": data}}


def those_tested(dataset):
    return set(dataset.store.table["patient"][dataset.roles == "test"])


@pytest.fixture(scope="module", autouse=True)
def _one_key(repository):
    """With one key in sixty all 6 patients of a test by `grade` have the same lesion. Such a test is drawn anew, as it should be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSSL_KEY_FILE", str(repository / "pipelines" / "public_site.key"))
        yield


@pytest.fixture(scope="module")
def before(tmp_path_factory, reporter):
    """The folder, the dataset of a pretraining that split by `grade`, and the encoder's card."""
    root = write_images(tmp_path_factory.mktemp("pretraining") / "images")
    write_table(root, *BOTH)
    config = configured(root, label="grade")
    dataset = prepare_dataset(list_source(config.data), config, reporter())
    assert dataset.stratum == "grade"
    return root, dataset, the_card(dataset, config)


def fine_tuned(root, card, reporter, label=None):
    """The dataset and the configuration of a fine-tuning, and what was said."""
    own = {"path": str(root), "source": {"name": "folder"}, **({"label": label} if label else {})}
    config, said = resolve(merge({"data": card["config"]["data"]}, {"data": own})), reporter()
    source, config = list_labelled(said, config, card, is_chosen=label is not None)
    dataset = prepare_dataset(source, config, said, card)
    return with_unseen_test(dataset, [config.data.label or "lesion"], config.data, card), config, said


@pytest.mark.fault("L6")
def test_the_same_images_with_another_label_have_the_same_test_patients(before, reporter):
    root, pretrained, card = before
    found, config, _ = fine_tuned(root, card, reporter, label="lesion")
    assert config.data.label == "lesion"
    assert those_tested(found) == those_tested(pretrained), "both columns are there, so the split is repeated"


@pytest.mark.fault("L6")
@pytest.mark.parametrize("label", ["lesion", None])
def test_without_the_earlier_column_patients_are_tested_whom_the_encoder_has_not_seen(before, reporter, tmp_path, label):
    _, pretrained, card = before
    write_table(root := write_images(tmp_path / "images"), "lesion")
    found, config, said = fine_tuned(root, card, reporter, label)
    assert config.data.label == (label or "")
    assert any("no column 'grade'" in line for line in said.said) == (label is None)
    assert those_tested(found) and not Seen.by(card, found.store.table).rows[found.roles == "test"].any()
    assert those_tested(found).isdisjoint(pretrained.store.table["patient"].iloc[pretrained.pretraining])
    assert set(found.store.table["label:lesion"][found.roles == "test"]) == {"0", "1"}, "no and yes"


@pytest.mark.fault("L6")
def test_other_images_are_split_by_their_own_label(before, reporter, tmp_path):
    _, _, card = before
    root = write_images(tmp_path / "other", first=1000)
    write_table(root, *BOTH, patients="q")
    found, *_ = fine_tuned(root, card, reporter, label="lesion")
    assert found.stratum == "lesion"
    config = configured(root, label="lesion")
    fresh = prepare_dataset(list_source(config.data), config, reporter())
    assert those_tested(found) == those_tested(fresh)
    unknown = {**card, "pretraining": {"patients": {"count": 24}, "pixels": {"count": 48}}}
    assert fine_tuned(root, unknown, reporter, label="lesion")[0].stratum == "grade", (
        "an encoder whose images cannot be told keeps its split"
    )


@pytest.mark.fault("L6")
def test_an_earlier_column_that_holds_numbers_here_is_no_reason_to_refuse(before, reporter, tmp_path):
    _, _, card = before
    card = json.loads(json.dumps(card).replace('"grade"', '"code"'))
    root = write_images(tmp_path / "other", first=1000)
    write_table(root, "code", "lesion", patients="q")
    for label in ("lesion", None):
        assert fine_tuned(root, card, reporter, label)[0].stratum == "lesion"
    with pytest.raises(UserError, match="'code' holds 60 different numbers"):
        fine_tuned(root, card, reporter, label="code")


def test_where_no_column_is_the_label_by_its_name_the_columns_that_could_be_are_said(reporter, tmp_path):
    root, said = write_images(tmp_path / "images"), reporter()
    rows = [f"{n:02}.png,{'ab'[n % 2]},{'xyz'[n % 3]}" for n in range(60)]
    (root / "labels.csv").write_text("\n".join(["image,texture,outline", *rows]) + "\n")
    source, _ = list_labelled(said, configured(root), {"stratum": ""}, is_chosen=False)
    assert not any(record.labels for record in source.records)
    assert any("2 columns could be: texture, outline. Choose it with" in line for line in said.said), said.said
