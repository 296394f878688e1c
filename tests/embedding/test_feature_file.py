"""A file of features: what is written is read again, by medssl and by the libraries that a user has."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from medssl.embedding import files_beside, open_features, write_features
from medssl.errors import UserError

TABLE = pd.DataFrame(
    {"key": ["a", "b", "=c"], "patient": ["p", "p", "q"], "images": np.array([1, 2, 3], np.int32), "label:x": ["1", "", "é"]}
)
FEATURES = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
FACTS = {"encoder": {"weights_sha256": "d"}, "pool": "none"}


def write(out: Path, dtype: str = "float32") -> Path:
    write_features(out, TABLE, [FEATURES[:2], FEATURES[2:]], 5, dtype, FACTS)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_parquet_file_has_fixed_lists_metadata_and_a_row_group_for_each_block(tmp_path: Path, dtype: str) -> None:
    file = parquet.ParquetFile(write(tmp_path / "f.parquet", dtype))
    kind = file.schema_arrow.field("features").type
    assert (kind.list_size, kind.value_type) == (5, {"float32": "float", "float16": "halffloat"}[dtype])
    assert file.num_row_groups == 2
    facts = json.loads(file.schema_arrow.metadata[b"medssl"])
    assert facts == {"format": "medssl-features-1", "dtype": dtype, "num_features": 5, **FACTS}
    read = pd.read_parquet(tmp_path / "f.parquet")
    np.testing.assert_array_equal(np.stack(read.pop("features").to_list()), FEATURES.astype(dtype))
    pd.testing.assert_frame_equal(read, TABLE, check_dtype=False)
    again = open_features(tmp_path / "f.parquet")
    assert again.facts == facts
    assert again.table["key"].tolist() == ["a", "b", "=c"]
    blocks = list(again.blocks())
    assert [len(block) for block in blocks] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), FEATURES.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_npy_file_has_its_keys_and_metadata_beside_it(tmp_path: Path, dtype: str) -> None:
    features = np.load(write(tmp_path / "f.npy", dtype))
    assert features.dtype == dtype
    np.testing.assert_array_equal(features, FEATURES.astype(dtype))
    rows = (tmp_path / "f.csv").read_text("utf-8").splitlines()
    assert rows == ["key,patient,images,label:x", "a,p,1,1", "b,p,2,", "'=c,q,3,é"]
    assert json.loads((tmp_path / "f.json").read_text("utf-8"))["encoder"] == {"weights_sha256": "d"}
    assert files_beside(tmp_path / "f.npy") == (tmp_path / "f.csv", tmp_path / "f.json")


def test_a_write_that_fails_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    def blocks():
        yield FEATURES[:2]
        raise RuntimeError("the power is gone")

    for name in ("f.parquet", "f.npy"):
        with pytest.raises(RuntimeError):
            write_features(tmp_path / name, TABLE, blocks(), 5, "float32", FACTS)
        assert not (tmp_path / name).exists()


def test_features_too_large_for_half_precision_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"too large for float16.*--dtype float32"):
        write_features(tmp_path / "f.parquet", TABLE, [FEATURES * 1e6], 5, "float16", FACTS)


@pytest.mark.parametrize("content", ["text", "another table", "nothing"])
def test_other_files_are_no_files_of_features(tmp_path: Path, content: str) -> None:
    file = tmp_path / "f.parquet"
    if content == "text":
        file.write_text("text")
    elif content == "another table":
        TABLE.to_parquet(file)
    with pytest.raises(UserError, match=r"f\.parquet is no file of features.*medssl embed"):
        open_features(file)


def test_another_suffix_is_refused() -> None:
    with pytest.raises(UserError, match=r"f\.csv.*\.parquet or \.npy"):
        files_beside(Path("f.csv"))
