import os
import struct
from collections import Counter

import pytest
from PIL import Image

from medssl.data.sources import folder
from medssl.errors import UserError


def build(root, **options):
    return folder.build(folder.Config(**options), str(root))


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def table(root, text, name="labels.csv"):
    (root / name).write_text(text, encoding="utf-8")


def by_locator(source):
    return {record.locator: record for record in source.records}


def test_the_nih_folder_gives_classes_and_patients_without_a_flag(shared_data):
    source = build(shared_data / "chestxray/nih_pneumonia_224")
    assert len(source.records) == 761
    assert len({record.patient for record in source.records}) == 511
    assert Counter(record.labels["label"] for record in source.records) == {"No_findings": 385, "Pneumonia": 376}
    assert by_locator(source)["Pneumonia/00000061_012.jpg"].patient == "00000061"
    assert source.skipped == ()


def test_listing_opens_no_image(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.JPG", "b/3.TIFF")  # empty files: anything that reads them fails
    assert [record.locator for record in build(tmp_path).records] == ["a/1.png", "b/2.JPG", "b/3.TIFF"]


def test_class_folders_are_the_first_level_however_deep_the_images_lie(tmp_path):
    touch(tmp_path, "ill/x/y/1.png", "well/2.png")
    assert {record.locator: record.labels["label"] for record in build(tmp_path).records} == {"ill/x/y/1.png": "ill", "well/2.png": "well"}


@pytest.mark.parametrize(
    "names",
    [
        ["DOE^JANE", "ROE^RICHARD", "others"],
        ["1234", "5678", "9012"],
        ["MRN_012345", "MRN_012346", "MRN_012347"],
        ["study 20240131", "b", "study 20240201"],
        [f"p{n}" for n in range(11)],
    ],
)
def test_folders_that_bear_names_or_numbers_of_people_or_are_too_many_are_patients_and_are_not_told(tmp_path, names):
    touch(tmp_path, *(f"{name}/{n}.png" for name in names for n in range(3)))
    source = build(tmp_path)
    assert {(record.locator.split("/")[0] == record.patient, len(record.labels)) for record in source.records} == {(True, 0)}
    assert f"{len(names)} folders taken as patients" in source.notes
    assert not [name for name in names for note in source.notes if name in note]


@pytest.mark.parametrize("names", [["DOE^JANE", "rest"], ["1234", "5678"], ["study 20240131", "chest", "hand", "knee"]])
def test_a_name_or_number_of_a_person_is_no_class_and_two_folders_are_not_all_patients(tmp_path, names):
    touch(tmp_path, *(f"{name}/{n}.png" for name in names for n in range(3)))
    source = build(tmp_path)
    assert {(record.patient, len(record.labels)) for record in source.records} == {(None, 0)}
    assert not [name for name in names for note in source.notes if name in note]


@pytest.mark.parametrize("names", [["covid_2020", "normal_2019"], ["2019nCoV", "healthy"], ["stage1", "stage2"], ["case_1", "control_1"]])
def test_digits_in_the_name_of_a_class_make_no_patient_of_it(tmp_path, names):
    touch(tmp_path, *(f"{name}/{n}.png" for name in names for n in range(9)))
    assert {(record.labels["label"], record.patient) for record in build(tmp_path).records} == {(name, None) for name in names}


def test_patients_from_folders_are_a_guess_and_those_of_a_table_are_stated(tmp_path):
    touch(tmp_path, *(f"patient_{n}/{n}.png" for n in range(4)))
    assert {record.patient_from for record in build(tmp_path).records} == {"names"}
    table(tmp_path, "path,patient\n" + "".join(f"patient_{n}/{n}.png,{n}\n" for n in range(4)))
    assert {record.patient_from for record in build(tmp_path).records} == {"data"}


def test_ten_folders_with_short_numbers_are_classes(tmp_path):
    touch(tmp_path, *(f"{n}/{n}.png" for n in range(10)), "9/10.png")
    assert {record.labels["label"] for record in build(tmp_path).records} == set("0123456789")


def tiff(path, pages, **options):
    images = [Image.new("L", (8, 6), n) for n in range(pages)]
    images[0].save(path, save_all=True, append_images=images[1:], **options)


@pytest.mark.fault("I5")
@pytest.mark.parametrize(
    ("frames", "expected"),
    [("all", [0, 1, 2, 3, 4]), ("first", [0]), ("middle", [2]), ("every_2", [1, 3]), ("every_9", [2])],
)
def test_the_pages_of_a_tiff_are_images_of_one_series_by_policy(tmp_path, frames, expected):
    tiff(tmp_path / "a.tif", 5)
    tiff(tmp_path / "b.TIFF", 1)
    source = build(tmp_path, frames=frames)
    assert [(record.index, record.series) for record in source.records if record.locator == "a.tif"] == [(n, "a.tif") for n in expected]
    assert by_locator(source)["b.TIFF"].series is None


@pytest.mark.fault("I5")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_thumbnails_and_masks_of_a_tiff_are_no_images(tmp_path, big, order):
    """By hand: a chain of three directories, of which the second says in NewSubfileType (254, LONG) that it is a reduced image."""
    offset, entries, entry, start = ("Q", "Q", "HHQI4x", 16) if big else ("I", "H", "HHII", 8)
    content = (b"II" if order == "<" else b"MM") + struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0) if big else (42,)), start)
    size = 8 + 20 + 8 if big else 2 + 12 + 4
    for page in range(3):
        following = start + (page + 1) * size if page < 2 else 0
        content += struct.pack(order + entries + entry + offset, 1, 254, 4, 1, int(page == 1), following)
    (tmp_path / "a.tif").write_bytes(content)
    assert len(content) == start + 3 * size
    assert [record.index for record in build(tmp_path).records] == [0, 2]


@pytest.mark.fault("I5")
@pytest.mark.parametrize("damage", ["empty", "cut", "loop", "text"])
def test_a_tiff_whose_pages_cannot_be_followed_is_one_record(tmp_path, damage):
    tiff(tmp_path / "a.tif", 3)
    whole = bytearray((tmp_path / "a.tif").read_bytes())
    if damage == "loop":
        first = struct.unpack_from("<I", whole, 4)[0]
        struct.pack_into("<I", whole, first + 2 + 12 * struct.unpack_from("<H", whole, first)[0], first)
    (tmp_path / "a.tif").write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "loop": whole, "text": b"II, as in text"}[damage])
    assert [(record.index, record.series) for record in build(tmp_path).records] == [(0, None)]


def test_messages_name_no_file_or_folder_below_the_root(tmp_path):
    touch(tmp_path, "DOE^JANE/scan.doe", "DOE^JANE/b.doe", "DOE^JANE/a.txt")
    os.mkfifo(tmp_path / "DOE^JANE/DOE.png")
    with pytest.raises(UserError, match=r"it has 2 of other kinds, 1 \.txt, 1 that cannot be opened \(not_a_file 1\)") as error:
        build(tmp_path)
    assert "doe" not in str(error.value).lower()
    touch(tmp_path, "DOE^JANE/1.png", "train/2.png")
    with pytest.raises(UserError, match="1 folders are splits") as error:
        build(tmp_path)
    assert "doe" not in str(error.value).lower()


def test_a_flat_folder_is_unlabelled_and_without_patients(tmp_path):
    touch(tmp_path, "1.png", "2.bmp")
    assert {(record.patient, *record.labels) for record in build(tmp_path).records} == {(None,)}


def test_one_single_sub_folder_is_no_class(tmp_path):
    touch(tmp_path, "images/1.png", "images/2.png")
    assert all(not record.labels for record in build(tmp_path).records)


def test_images_beside_class_folders_leave_all_unlabelled_and_the_notes_say_so(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png", "3.png")
    source = build(tmp_path)
    assert all(not record.labels for record in source.records)
    assert any("are outside them" in note for note in source.notes)


def test_split_folders_give_the_split_and_the_next_level_the_class(tmp_path):
    touch(tmp_path, "train/a/1.png", "train/b/2.png", "Valid/a/3.png", "test/b/4.png")
    found = {record.locator: (record.split, record.labels["label"]) for record in build(tmp_path).records}
    assert found == {
        "train/a/1.png": ("train", "a"),
        "train/b/2.png": ("train", "b"),
        "Valid/a/3.png": ("val", "a"),
        "test/b/4.png": ("test", "b"),
    }


def test_a_folder_beside_the_splits_is_refused_instead_of_becoming_a_class(tmp_path):
    touch(tmp_path, "train/a/1.png", "test/a/2.png", "extra/3.png")
    with pytest.raises(UserError, match=r"2 folders are splits .* images beside them"):
        build(tmp_path)


def test_folders_named_like_patients_are_patients_and_not_classes(tmp_path):
    touch(tmp_path, "train/patient00001/study1/1.jpg", "train/patient00002/study1/2.jpg", "val/patient00003/3.jpg")
    assert {(record.patient, record.split, len(record.labels)) for record in build(tmp_path).records} == {
        ("patient00001", "train", 0),
        ("patient00002", "train", 0),
        ("patient00003", "val", 0),
    }


def test_the_only_table_is_joined_whatever_its_name_and_its_columns_case(tmp_path):
    touch(tmp_path, "pictures/00000001_000.png", "pictures/00000002_000.png")
    table(
        tmp_path,
        "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n"
        "00000001_000.png,Effusion,1,058Y,M,PA\n00000002_000.png,No Finding,2,081Y,F,AP\n",
        "Data_Entry.csv",
    )
    record = by_locator(build(tmp_path))["pictures/00000001_000.png"]
    assert (record.labels, record.patient, record.extra) == ({"label": "Effusion"}, "1", {"sex": "M", "age": "058Y", "view": "PA"})


def test_folders_whose_names_are_no_labels_of_the_table_are_no_classes(tmp_path):
    touch(tmp_path, "part1/1.png", "part2/2.png")
    table(tmp_path, "path,label\npart1/1.png,ill\npart2/2.png,well\n")
    assert {record.labels["label"] for record in build(tmp_path).records} == {"ill", "well"}


def test_a_table_that_contradicts_the_class_folder_is_an_error_with_count_and_rows(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    table(tmp_path, "path,label\na/1.png,a\na/2.png,b\nb/3.png,b\n")
    with pytest.raises(UserError, match=r"1 images.*: row 3\.\n"):
        build(tmp_path, table="labels.csv")


def test_spelling_differences_between_folder_and_table_are_no_contradiction_and_the_tables_word_stays(tmp_path):
    touch(tmp_path, "No_findings/1.png", "Pneumonia/2.png")
    table(tmp_path, "path,label\nNo_findings/1.png,No findings\nPneumonia/2.png,pneumonia\n")
    assert [record.labels["label"] for record in build(tmp_path).records] == ["No findings", "pneumonia"]


def test_rows_whose_files_are_not_there_are_counted_and_the_others_used(tmp_path):
    touch(tmp_path, "1.png")
    table(tmp_path, "file,label\n1.png,a\n" + "".join(f"gone{n}.png,b\n" for n in range(30)))
    source = build(tmp_path)
    assert source.records[0].labels == {"label": "a"}
    assert any("1 of 31 rows match, 30 name no image here" in note for note in source.notes)
    assert "gone" not in str(source.notes)


def test_files_that_the_table_does_not_list_stay_and_are_noted(tmp_path):
    touch(tmp_path, "1.png", "2.png")
    table(tmp_path, "path,patient\n1.png,x\n")
    source = build(tmp_path)
    assert [record.patient for record in source.records] == ["x", None]
    assert "the table beside the images describes 1 of 2 images" in source.notes


def test_a_bare_name_that_two_files_bear_is_not_guessed(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png", "b/2.png")
    table(tmp_path, "path,label\n1.png,x\n2.png,y\n")
    with pytest.raises(UserError, match=r"a name that several files.*: row 2\.\n"):
        build(tmp_path, table="labels.csv")


def test_tables_that_contradict_each_other_are_not_used_unless_one_is_named(tmp_path):
    touch(tmp_path, "1.png")
    table(tmp_path, "path,patient\n1.png,x\n", "one.csv")
    table(tmp_path, "path,patient\n1.png,y\n", "two.csv")
    source = build(tmp_path)
    assert source.records[0].patient is None
    assert "2 tables with the same columns (table 1 first) describe 1 images twice" in source.table_error
    assert build(tmp_path, table="two.csv").records[0].patient == "y"


def test_a_folder_without_images_says_what_it_saw_and_what_is_understood(tmp_path):
    touch(tmp_path, "scan.nii", "other.nii", "notes.txt")
    with pytest.raises(UserError, match=r"2 \.nii, 1 \.txt.*PNG, JPEG"):
        build(tmp_path)


@pytest.mark.parametrize("name", ["missing", "file.png"])
def test_no_such_folder_is_a_user_error(tmp_path, name):
    touch(tmp_path, "file.png")
    with pytest.raises(UserError, match=name):
        build(tmp_path / name)


def test_hidden_files_and_macos_leftovers_are_no_images(tmp_path):
    touch(tmp_path, "1.png", "._1.png", ".cache/2.png", "__MACOSX/3.png")
    assert [record.locator for record in build(tmp_path).records] == ["1.png"]


def test_pipes_dangling_links_and_links_that_leave_the_folder_are_skipped_unopened(tmp_path):
    touch(tmp_path, "data/1.png", "outside.png")
    root = tmp_path / "data"
    os.mkfifo(root / "pipe.png")
    (root / "dangling.png").symlink_to(root / "gone.png")
    (root / "leaves.png").symlink_to(tmp_path / "outside.png")
    (root / "stays.png").symlink_to(root / "1.png")
    (root / "folder.png").mkdir()
    source = build(root)
    assert [record.locator for record in source.records] == ["1.png", "stays.png"]
    assert {(locator, reason) for locator, reason, _ in source.skipped} == {
        ("pipe.png", "not_a_file"),
        ("dangling.png", "not_a_file"),
        ("leaves.png", "outside_root"),
    }


def test_a_linked_folder_is_not_followed_so_that_a_loop_ends(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    source = build(tmp_path)
    assert len(source.records) == 2
    assert [reason for _, reason, _ in source.skipped] == ["linked_folder"]
