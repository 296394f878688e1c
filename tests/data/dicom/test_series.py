"""Series: kept apart, and their slices in the order in which they lie in the patient."""

import random

import numpy as np
import pydicom
import pytest
from dicoms import build
from pydicom.dataset import Dataset

from medssl.data.readers import dicom as reader
from medssl.errors import ReadError

AXIAL = [1, 0, 0, 0, 1, 0]


def listed(source):
    return [(record.locator, record.index) for record in source.records]


def notes(source):
    return "\n".join(source.notes)


def at(position, name="PlanePositionSequence", key="ImagePositionPatient"):
    """A functional group of one frame."""
    macro, group = Dataset(), Dataset()
    setattr(macro, key, position)
    setattr(group, name, [macro])
    return group


@pytest.mark.fault("D15")
@pytest.mark.parametrize("numbers", ["shuffled", "reversed", "absent"])
def test_a_real_mr_series_is_in_its_order_in_space_whatever_its_files_and_instance_numbers_say(shared_data, tmp_path, numbers):
    """Files brain_002 to brain_020 lie from foot to head; the sagittal normal of the scan points the same way or the other."""
    files = sorted((shared_data / "dicom/mr-series").iterdir())
    names = list(range(len(files)))
    random.Random(7).shuffle(names)  # noqa: S311 - the same order every time
    heights = {}
    for number, (file, name) in enumerate(zip(files, names, strict=True)):
        header = pydicom.dcmread(file)
        heights[f"{name:02d}.dcm"] = float(header.ImagePositionPatient[2])
        header.InstanceNumber = {"shuffled": names[-1 - number], "reversed": 100 - number, "absent": None}[numbers]
        header.save_as(tmp_path / f"{name:02d}.dcm")
    found = [heights[locator] for locator, _ in listed(build(tmp_path))]
    assert len(found) == 19
    assert found in (sorted(found), sorted(found, reverse=True))
    assert found == sorted(found)  # of this scan the normal points to the head
    assert "gaps" not in notes(build(tmp_path))


@pytest.mark.fault("D16")
def test_two_series_in_one_folder_stay_apart_and_keep_their_names(tmp_path, write):
    for k, height in enumerate([30, 10, 20]):
        write(tmp_path / f"{k}a.dcm", SeriesInstanceUID="1.2.1", ImagePositionPatient=[0, 0, height], ImageOrientationPatient=AXIAL)
        write(tmp_path / f"{k}b.dcm", SeriesInstanceUID="1.2.2", ImagePositionPatient=[0, 0, -height], ImageOrientationPatient=AXIAL)
    source = build(tmp_path)
    assert [locator for locator, _ in listed(source)] == ["1a.dcm", "2a.dcm", "0a.dcm", "0b.dcm", "2b.dcm", "1b.dcm"]
    assert [record.series for record in source.records] == ["1.2.1"] * 3 + ["1.2.2"] * 3
    assert "2 series, 2 of them of several images" in source.notes


def test_patients_with_the_same_uids_are_not_joined_to_one_volume(tmp_path, write):
    same = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.1", "ImageOrientationPatient": AXIAL}
    for k, patient in enumerate(["a", "b", "a", "b"]):
        write(tmp_path / f"{k}.dcm", **same, PatientID=patient, ImagePositionPatient=[0, 0, k // 2])
    source = build(tmp_path)
    assert listed(source) == [("0.dcm", 0), ("2.dcm", 0), ("1.dcm", 0), ("3.dcm", 0)]
    assert len({record.series for record in source.records[:2]}) == 1 and len({record.series for record in source.records}) == 2
    assert "1 series UIDs are those of several patients" in notes(source)


def test_studies_and_their_series_follow_each_other_in_order_of_appearance(tmp_path, write):
    files = [("1", "1.2", "1.5"), ("2", "1.1", "1.6"), ("3", "1.2", "1.7"), ("4", "1.1", "1.6"), ("5", "1.2", "1.5"), ("6", "1.1", None)]
    for name, study, series in files:
        write(tmp_path / name, StudyInstanceUID=study, SeriesInstanceUID=series)
    source = build(tmp_path)
    assert [locator for locator, _ in listed(source)] == ["1", "5", "3", "2", "4", "6"]
    assert [record.series for record in source.records] == ["1.5", "1.5", "1.7", "1.6", "1.6", None]


@pytest.mark.fault("D15")
@pytest.mark.parametrize(("heights", "gap"), [([0, 5, 10, 15, 20], False), ([0, 5, 15, 20], True), ([0, 5, 9, 15], False), ([0, 5], False)])
def test_a_missing_slice_is_told(tmp_path, write, heights, gap):
    for height in heights:
        write(tmp_path / f"{height}.dcm", SeriesInstanceUID="1.2.1", ImagePositionPatient=[3, 4, height], ImageOrientationPatient=AXIAL)
    assert ("1 series have gaps" in notes(build(tmp_path))) == gap


@pytest.mark.fault("D15")
def test_slices_that_do_not_say_where_they_lie_are_ordered_by_number_and_that_is_told(tmp_path, write):
    for name, number in [("a", 3), ("b", 1), ("c", None), ("d", 2), ("e", 10)]:
        write(tmp_path / name, SeriesInstanceUID="1.2.1", InstanceNumber=number, ImagePositionPatient=[0, 0, 5])  # no orientation
    source = build(tmp_path)
    assert [locator for locator, _ in listed(source)] == ["b", "d", "a", "e", "c"]
    assert "1 series of CT, MR or PT do not give the positions of their slices" in notes(source)


def test_the_order_along_an_oblique_stack_is_that_of_the_normal_and_not_of_one_axis(tmp_path, write):
    """Planes tilted by 60 degrees about x: normal (0, -sin 60, cos 60). Moved 10 along it, and freely within the plane."""
    tilt = [1, 0, 0, 0, 0.5, 0.866025]
    normal, within = np.array([0, -0.866025, 0.5]), np.array([0, 0.5, 0.866025])
    for step, slide in [(0, 90), (1, 0), (2, -70), (3, 40)]:
        position = [f"{part:.4f}" for part in 10 * step * normal + slide * within]
        write(tmp_path / f"{9 - step}.dcm", SeriesInstanceUID="1.2.1", ImagePositionPatient=position, ImageOrientationPatient=tilt)
    assert [locator for locator, _ in listed(build(tmp_path))] == ["9.dcm", "8.dcm", "7.dcm", "6.dcm"]


def test_images_of_one_position_follow_their_instance_numbers_and_stacks_of_other_planes_come_behind(tmp_path, write):
    where = {"SeriesInstanceUID": "1.2.1", "ImagePositionPatient": [0, 0, 5], "ImageOrientationPatient": AXIAL}
    write(tmp_path / "a", **where, InstanceNumber=2)
    write(tmp_path / "b", **{**where, "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, InstanceNumber=0)
    write(tmp_path / "c", **where, InstanceNumber=1)
    write(tmp_path / "d", **{**where, "ImagePositionPatient": [0, 0, 4]}, InstanceNumber=9)
    assert [locator for locator, _ in listed(build(tmp_path))] == ["d", "c", "a", "b"]


@pytest.mark.fault("D5")
def test_frames_are_listed_by_their_place_and_keep_their_number_in_the_file(tmp_path, write):
    frames = {
        "NumberOfFrames": 4,
        "SharedFunctionalGroupsSequence": [at(AXIAL, "PlaneOrientationSequence", "ImageOrientationPatient")],
        "PerFrameFunctionalGroupsSequence": [at([0, 0, height]) for height in (20, 0, 30, 10)],
    }
    write(tmp_path / "volume.dcm", bytes(64), **frames)
    assert listed(build(tmp_path)) == [("volume.dcm", index) for index in (1, 3, 0, 2)]
    assert listed(build(tmp_path, frames="first")) == [("volume.dcm", 1)]
    assert listed(build(tmp_path, frames="middle")) == [("volume.dcm", 0)]
    assert listed(build(tmp_path, frames="every_2")) == [("volume.dcm", 3), ("volume.dcm", 2)]
    assert {record.series for record in build(tmp_path).records} == {"volume.dcm"}  # without a UID the file is the series


def test_the_echo_of_a_frame_tells_its_volume_in_whatever_order_the_frames_come(tmp_path, write):
    def frame(height, echo):
        group = at([0, 0, height])
        group.update(at(echo, "MREchoSequence", "EffectiveEchoTime"))
        return group

    order = [(10, 20), (0, 80), (0, 20), (10, 80), (20, 20), (20, 80)]
    frames = {
        "NumberOfFrames": 6,
        "SharedFunctionalGroupsSequence": [at(AXIAL, "PlaneOrientationSequence", "ImageOrientationPatient")],
        "PerFrameFunctionalGroupsSequence": [frame(*each) for each in order],
    }
    write(tmp_path / "volume.dcm", bytes(96), **frames)
    stacks = {}
    for record in build(tmp_path).records:
        stacks.setdefault(record.stack, []).append(order[record.index])
    assert sorted(stacks.values()) == [[(0, 20), (10, 20), (20, 20)], [(0, 80), (10, 80), (20, 80)]]


def test_a_malformed_echo_time_costs_nothing(tmp_path, write):
    write(tmp_path / "a.dcm", EchoTime="7")
    raw = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(raw.replace(b"DS\x02\x007 ", b"DS\x02\x00x ", 1))
    assert len(build(tmp_path).records) == 1


def test_frames_of_a_cine_stay_in_their_order(shared_data):
    source = build(shared_data / "dicom/odd", frames="every_10")
    assert [index for locator, index in listed(source) if locator == "jpeg_baseline_8bit.dcm"] == list(range(5, 96, 10))


def test_the_slices_and_the_multi_frame_form_of_one_volume_are_listed_in_the_same_order(shared_data):
    """IMG0001 to 3 lie at z = -177.75, -175.25, -172.75; so do the frames."""
    source = build(shared_data / "dicom/tiny-ct-23x38x3")
    assert listed(source) == [
        *[(f"image/IMG000{k}.dcm", 0) for k in (1, 2, 3)],
        *[("multiframe/mf.dcm", index) for index in range(3)],
    ]


@pytest.mark.fault("D14")
def test_a_truncated_slice_costs_that_slice_and_leaves_the_others(shared_data, tmp_path):
    for file in sorted((shared_data / "dicom/mr-series").iterdir())[:5]:
        (tmp_path / file.name).write_bytes(file.read_bytes()[: -10 if file.name == "brain_004.dcm" else None])
    read, outcomes = reader.build(reader.Config()).read, []
    for record in build(tmp_path).records:
        try:
            outcomes.append(read(tmp_path / record.locator, record.index).pixels.shape)
        except ReadError as error:
            outcomes.append(error.reason)
    assert outcomes == [(1, 256, 256), (1, 256, 256), "truncated_pixels", (1, 256, 256), (1, 256, 256)]


def test_what_a_header_says_instead_of_a_position_does_not_end_the_listing(tmp_path, write):
    write(tmp_path / "a", SeriesInstanceUID="1.2.1", ImagePositionPatient=[0, 0], ImageOrientationPatient=AXIAL)
    write(tmp_path / "b", SeriesInstanceUID="1.2.1", ImagePositionPatient=[0, 0, 1], ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    write(tmp_path / "c", SeriesInstanceUID="1.2.1", PerFrameFunctionalGroupsSequence=[], NumberOfFrames=1)
    assert len(build(tmp_path).records) == 3
