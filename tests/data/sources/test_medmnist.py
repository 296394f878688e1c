import hashlib
import io
import socket
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from medmnist.info import INFO

from medssl.config import Data
from medssl.data.decode import RecordReader
from medssl.data.sources import medmnist
from medssl.errors import UserError


def build(data):
    return medmnist.build(medmnist.Config(), str(data))


def arrays(**changes):
    """The arrays of a tiny file of the form, 4 + 2 + 2 images."""
    content = {}
    for split, n in (("train", 4), ("val", 2), ("test", 2)):
        content[f"{split}_images"] = np.zeros((n, 8, 8), np.uint8)
        content[f"{split}_labels"] = (np.arange(n) % 2).astype(np.uint8)[:, None]
    return {name: value for name, value in {**content, **changes}.items() if value is not None}


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_pneumoniamnist_has_its_published_splits_and_classes(shared_data):
    source = build(shared_data / "medmnist/pneumoniamnist.npz")
    assert Counter((record.split, record.labels["label"]) for record in source.records) == {
        ("train", "normal"): 1214, ("train", "pneumonia"): 3494,
        ("val", "normal"): 135, ("val", "pneumonia"): 389,
        ("test", "normal"): 234, ("test", "pneumonia"): 390,
    }  # fmt: skip
    record = source.records[4708 + 524 + 3]
    assert (record.locator, record.reader, record.index, record.patient) == ("pneumoniamnist.npz#test_images", "npz", 3, None)
    assert any("no patient ids" in note for note in source.notes)


def test_each_row_has_the_label_that_numpy_reads(shared_data):
    file = shared_data / "bloodcells/bccd_cells_28.npz"
    with np.load(file) as content:
        expected = [str(value) for split in ("train", "val", "test") for value in content[f"{split}_labels"][:, 0]]
    source = build(file)
    assert [record.labels["label"] for record in source.records] == expected
    assert any("not an official" in note for note in source.notes)


def test_a_name_finds_the_file_in_the_medmnist_folder(shared_data, monkeypatch):
    monkeypatch.setenv("MEDMNIST_ROOT", str(shared_data / "medmnist"))
    source = build("medmnist:PneumoniaMNIST")
    assert len(source.records) == 5856
    assert source.root == (shared_data / "medmnist").resolve()


@pytest.mark.fault("Z4")
@pytest.mark.usefixtures("no_network")
def test_without_file_and_network_the_error_says_which_file_its_checksum_and_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path / "here"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        build("medmnist:breastmnist:64")
    for part in ("breastmnist_64.npz", "MD5 ", "https://", str(tmp_path / "here" / "breastmnist_64.npz")):
        assert part in str(error.value)


def test_a_download_gets_its_name_only_when_whole(shared_data, monkeypatch, tmp_path):
    import medmnist as package

    whole = (shared_data / "medmnist/breastmnist.npz").read_bytes()

    def download(self):
        assert self.info[f"MD5{self.size_flag}"] == "750601b1f35ba3300ea97c75c52ff8f6"
        Path(self.root, "breastmnist.npz").write_bytes(content)
        if content != whole:
            raise RuntimeError("connection lost")

    monkeypatch.setattr(package.BreastMNIST, "download", download)
    monkeypatch.setattr(medmnist, "_check_network", lambda _url: None)
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path / "here"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    content = whole[:1000]
    with pytest.raises(UserError, match="could not be downloaded"):
        build("medmnist:breastmnist")
    assert list((tmp_path / "here").iterdir()) == []
    content = whole
    assert len(build("medmnist:breastmnist").records) == 780
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["breastmnist.npz"]


def test_listing_a_file_makes_do_with_a_home_that_cannot_be_written(shared_data, tmp_path):
    code = "from medssl.data.sources import medmnist as m; print(len(m.build(m.Config(), '{}').records))"
    (tmp_path / "home").write_text("a file: no folder can be made below it")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.format(shared_data / "medmnist/breastmnist.npz")],
        env={"HOME": str(tmp_path / "home"), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("780", "")


@pytest.mark.fault("Z3")
def test_another_file_under_an_official_name_is_refused_with_both_checksums(tmp_path):
    np.savez(tmp_path / "breastmnist.npz", **arrays())
    found = hashlib.md5((tmp_path / "breastmnist.npz").read_bytes(), usedforsecurity=False).hexdigest()
    with pytest.raises(UserError, match=rf"{found}, expected 750601b1f35ba3300ea97c75c52ff8f6"):
        build(tmp_path / "breastmnist.npz")


@pytest.mark.fault("Z3")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "damaged or was copied in part; fetch it again"),
        ("fewer", r"train 4 of 546, val 2 of 78, test 2 of 156 images"),
        ("no test", r"train 4 of 546, val 2 of 78, test 0 of 156 images"),
        ("saved again", "the official number of images: it was saved again"),
    ],
)
def test_a_wrong_checksum_tells_a_part_of_the_file_from_another_file(shared_data, tmp_path, damage, message):
    whole, file = shared_data / "medmnist/breastmnist.npz", tmp_path / "breastmnist.npz"
    if damage == "cut":
        file.write_bytes(whole.read_bytes()[:-1000])
    elif damage == "saved again":
        with np.load(whole) as content:
            np.savez(file, **content)
    else:
        np.savez(file, **arrays(**({"test_images": None, "test_labels": None} if damage == "no test" else {})))
    with pytest.raises(UserError, match=message):
        build(file)


def volumes(tmp_path):
    """3 + 2 + 2 volumes of 5 slices of 6 x 4 pixels, and their file."""
    draw = np.random.default_rng(0)
    content = {f"{split}_images": draw.integers(0, 256, (n, 5, 6, 4), np.uint8) for split, n in (("train", 3), ("val", 2), ("test", 2))}
    labels = {name.replace("images", "labels"): np.arange(len(value))[:, None] for name, value in content.items()}
    np.savez_compressed(tmp_path / "own.npz", allow_pickle=False, **content, **labels)
    return content, tmp_path / "own.npz"


def test_each_slice_of_a_volume_is_a_record_that_leads_to_its_pixels(tmp_path):
    content, file = volumes(tmp_path)
    source = build(file)
    read = RecordReader(source.root, Data())
    assert Counter(record.split for record in source.records) == {"train": 15, "val": 10, "test": 10}
    expected = [pixels for array in content.values() for volume in array for pixels in volume]
    for record, pixels in zip(source.records, expected, strict=True):
        np.testing.assert_allclose(read(record).pixels[0], pixels / 255, atol=1e-6)
    assert any("train 3 volumes of 5 slices: 0 1, 1 1, 2 1" in note for note in source.notes)


def test_the_slices_of_a_volume_stay_together_and_share_its_label(tmp_path):
    _, file = volumes(tmp_path)
    found = {(r.patient, r.series, r.split, r.labels["label"]): [] for r in build(file).records}
    for record in build(file).records:
        found[record.patient, record.series, record.split, record.labels["label"]].append(record.index)
    assert len(found) == 7
    assert found["train_2", "train_2", "train", "2"] == [10, 11, 12, 13, 14]
    assert found["test_0", "test_0", "test", "0"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("slices", "expected"), [("middle", [2, 7, 12]), ("every_2", [1, 3, 6, 8, 11, 13]), ("first", [0, 5, 10])])
def test_a_policy_chooses_the_slices(tmp_path, slices, expected):
    _, file = volumes(tmp_path)
    source = medmnist.build(medmnist.Config(slices=slices), str(file))
    assert [record.index for record in source.records if record.split == "train"] == expected


@pytest.mark.parametrize(
    ("name", "tag"), [("organmnist3d", ""), ("organmnist3d:64", "_64"), ("pathmnist:224", "_224"), ("pathmnist:28", "")]
)
def test_every_size_that_medmnist_publishes_has_its_file_and_checksum(name, tag):
    official = medmnist._parse_name(f"medmnist:{name}")
    assert official.file == name.partition(":")[0] + tag + ".npz"
    assert official.md5 == INFO[official.flag][f"MD5{tag}"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("medmnist:pneumonia", "Did you mean 'pneumoniamnist'"),
        ("medmnist:", "no data set"),
        ("medmnist:pneumoniamnist:32", "no size '32'. Sizes: 28, 64, 128, 224"),
        ("nowhere.npz", "does not exist"),
    ],
)
def test_unknown_names_sizes_and_files_are_told_with_what_is_known(data, message):
    with pytest.raises(UserError, match=message):
        build(data)


def test_several_label_columns_become_a_label_each(tmp_path):
    labels = {f"{split}_labels": np.eye(n, 3, dtype=np.uint8) for split, n in (("train", 4), ("val", 2), ("test", 2))}
    np.savez(tmp_path / "own.npz", **arrays(**labels))
    assert build(tmp_path / "own.npz").records[1].labels == {"label_0": "0", "label_1": "1", "label_2": "0"}


def test_the_classes_of_a_multi_label_set_are_named_by_medmnist():
    info = {"label": {"0": "atelectasis", "1": "cardiomegaly"}}
    labels = medmnist._label_columns(np.array([[0, 1], [0, 0]], np.uint8), medmnist.Official("chestmnist", "", info))
    assert labels == [{"atelectasis": "0", "cardiomegaly": "1"}, {"atelectasis": "0", "cardiomegaly": "0"}]


def test_a_file_without_test_split_of_ones_own_is_listed(tmp_path):
    np.savez(tmp_path / "own.npz", **arrays(test_images=None, test_labels=None))
    assert Counter(record.split for record in build(tmp_path / "own.npz").records) == {"train": 4, "val": 2}


def test_a_file_without_any_labels_is_listed_as_unlabelled(tmp_path):
    np.savez(tmp_path / "own.npz", **arrays(train_labels=None, val_labels=None, test_labels=None))
    source = build(tmp_path / "own.npz")
    assert [dict(record.labels) for record in source.records] == [{}] * 8
    assert source.notes[0] == "train 4: no labels"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_labels": None}, r"no array 'val_labels'.* it has 5 others"),
        ({"val_labels": np.zeros((3, 1), np.uint8)}, r"val_labels: expected integers \[2, k\].*\(3, 1\)"),
        ({"val_labels": np.zeros((2, 1))}, r"val_labels: expected integers.*float64"),
        ({"val_labels": np.array([[{}], [{}]])}, r"val_labels: .*pickled objects"),
        ({"train_images": np.array([{}] * 4)}, r"train_images: .*pickled objects"),
        ({"train_images": np.zeros((4, 8, 8, 8))}, r"train_images: expected uint8.*float64 \(4, 8, 8, 8\)"),
        ({"train_images": np.zeros((4, 8, 8, 8), bool)}, r"train_images: expected uint8.*bool \(4, 8, 8, 8\)"),
        ({"train_images": np.zeros((4, 8, 8))}, r"train_images: expected uint8.*float64 \(4, 8, 8\)"),
    ],
)
def test_a_file_that_has_not_the_form_names_key_expected_and_found(tmp_path, changes, message):
    np.savez(tmp_path / "own.npz", **arrays(**changes))
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path / "own.npz")
    assert "own.npz" in str(error.value)


@pytest.mark.fault("Z1", "Z3")
def test_a_cut_or_pickled_or_damaged_archive_is_refused_by_name(tmp_path):
    np.savez_compressed(tmp_path / "own.npz", **arrays(train_labels=np.arange(4, dtype=np.uint8)))
    whole = (tmp_path / "own.npz").read_bytes()
    at = whole.index(b"train_labels.npy") + 40
    for damaged in (whole[: len(whole) // 2], b"\x80\x04N.", whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
        (tmp_path / "own.npz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"own\.npz"):
            build(tmp_path / "own.npz")


@pytest.mark.fault("Z2")
def test_labels_that_unpack_to_too_much_are_refused_before_they_are_read(tmp_path):
    np.savez_compressed(tmp_path / "own.npz", **arrays(train_labels=np.zeros((4, 1 << 20), np.uint8)))
    with pytest.raises(UserError, match="too big"):
        medmnist.build(medmnist.Config(max_label_bytes=1 << 20), str(tmp_path / "own.npz"))


@pytest.mark.fault("Z2")
def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**4, 10**4)})
    np.savez(tmp_path / "own.npz", **arrays(train_images=None))
    with zipfile.ZipFile(tmp_path / "own.npz", "a") as archive:
        archive.writestr("train_images.npy", header.getvalue())
    with pytest.raises(UserError, match=r"train_images: its header says 100000000000000 bytes, the file holds 0"):
        build(tmp_path / "own.npz")
