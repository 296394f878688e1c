"""Images inside Parquet files: rows become records, cells become pixels."""

import io
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medssl.config import Data
from medssl.data.decode import RecordReader
from medssl.data.detect import detect
from medssl.data.pseudonyms import pseudonymize
from medssl.data.sources import parquet_images
from medssl.errors import UserError

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 9, 11), np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, plain=False, names=(), **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [png(picture) if plain else {"bytes": png(picture), "path": "a.png"} for picture in PICTURES]
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), **columns})
    features = {"label": {"names": list(names), "_type": "ClassLabel"}} if names else {}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=4)


def build(root):
    return parquet_images.build(parquet_images.Config(), str(root))


@pytest.mark.parametrize("plain", [False, True])
def test_each_row_is_an_image_with_the_split_of_its_file(tmp_path, plain):
    for name in ("train-00000-of-00001", "validation-00000-of-00001", "test-00000-of-00001"):
        write(tmp_path / f"data/{name}.parquet", plain, label=[0, 1] * 3, patient_id=["a", "a", "b", "b", "c", "c"])
    assert detect(str(tmp_path)) == "parquet_images"
    source = build(tmp_path)
    assert Counter(record.split for record in source.records) == {"train": 6, "val": 6, "test": 6}
    assert [record.patient for record in source.records[:6]] == ["a", "a", "b", "b", "c", "c"]
    read = RecordReader(source.root, Data())
    for record in source.records[:6]:
        np.testing.assert_array_equal(np.rint(read(record).pixels[0] * 255), PICTURES[record.index])


def test_numbers_of_classes_get_the_names_that_the_metadata_state(tmp_path):
    write(tmp_path / "a.parquet", names=("normal", "pneumonia"), label=[0, 1, 1, 0, 0, None])
    assert detect(str(tmp_path / "a.parquet")) == "parquet_images"
    labels = [record.labels.get("label") for record in build(tmp_path / "a.parquet").records]
    assert labels == ["normal", "pneumonia", "pneumonia", "normal", "normal", None]


def test_without_a_column_of_patients_each_row_counts_as_one(tmp_path):
    write(tmp_path / "a.parquet")
    records = build(tmp_path / "a.parquet").records
    assert len({pseudonymize(record, b"key").patient for record in records}) == 6


def test_a_table_that_only_names_images_stays_a_manifest(tmp_path):
    pq.write_table(pa.table({"path": ["a.png"], "label": ["x"]}), tmp_path / "a.parquet")
    assert detect(str(tmp_path / "a.parquet")) == "manifest"
    with pytest.raises(UserError, match="no Parquet file with a column of images"):
        build(tmp_path)
