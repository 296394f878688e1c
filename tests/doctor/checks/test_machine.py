"""Cores, memory, GPUs, clock and Python: each level by the numbers that a machine would show."""

from datetime import UTC, datetime

import pytest
from pydicom.uid import JPEGExtended12Bit

from medssl.doctor.checks import clock, decoders, gpu, machine, software


@pytest.mark.parametrize(
    ("wheel", "driver", "level"),
    [  # NVIDIA, "CUDA compatibility": older always, newer of the same major version with limits, a newer major version never
        ("12.6", "12.8", "ok"),
        ("12.6", "12.6", "ok"),
        ("12.6", "13.0", "ok"),
        ("12.10", "12.9", "warning"),
        ("13.0", "12.8", "error"),
        ("12.6", None, "warning"),
        (None, "12.6", "warning"),
        (None, None, "warning"),
    ],
)
def test_a_driver_is_judged_as_nvidia_tells(wheel, driver, level):
    assert gpu.driver_finding(wheel, driver).level == level


def test_a_machine_without_a_usable_gpu_is_a_warning_that_says_why():
    assert "CUDA_VISIBLE_DEVICES='' hides all" in gpu.no_gpu("12.6", "12.6", "", []).seen
    told = gpu.no_gpu("12.6", "11.8", None, ["The NVIDIA driver on your system is too old"])
    assert (told.level, told.seen) == ("warning", "torch sees none: The NVIDIA driver on your system is too old")
    assert gpu.no_gpu(None, None, None, []).seen == "torch sees none"


def test_a_card_is_an_error_where_torch_has_no_code_for_it_and_a_warning_where_others_use_it():
    built = ["sm_80", "sm_90", "sm_100", "compute_120"]
    assert gpu.card(0, "H100", "sm_90", built, 80 * 2**30, 0).level == "ok"
    assert gpu.card(0, "L40S", "sm_89", built, 48 * 2**30, 0).level == "ok"
    assert gpu.card(0, "RTX 5090", "sm_120", built, 32 * 2**30, 0).level == "ok"
    assert gpu.card(0, "V100", "sm_70", built, 16 * 2**30, 0).level == "error"
    busy = gpu.card(3, "H100", "sm_90", built, 80 * 2**30, 20 * 2**30)
    assert (busy.level, "20.0 GiB of it in use by others" in busy.seen) == ("warning", True)


def test_nccl_is_missed_by_several_cards_only():
    assert [gpu.nccl("", 1).level, gpu.nccl("", 2).level, gpu.nccl("2.27.5", 8).level] == ["ok", "error", "ok"]


def test_a_container_that_may_run_fewer_threads_than_torch_starts_is_warned_of():
    assert machine.processors(64, 64, None, 32).level == "ok"
    assert machine.processors(64, 64, 32.0, 32).level == "ok"
    slow = machine.processors(64, 64, 2.5, 32)
    assert slow.level == "warning"
    assert "OMP_NUM_THREADS=2 and --set train.workers=1" in slow.remedy


def test_a_limit_on_cores_is_read_from_both_versions_of_cgroups(tmp_path):
    assert machine.quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert machine.quota(tmp_path) is None
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("250000\n")
    assert machine.quota(tmp_path) == 2.5
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.quota(tmp_path) is None


def test_little_memory_is_warned_of():
    assert [machine.memory(2**36, free).level for free in (2**35, 2**31)] == ["ok", "warning"]


def test_a_clock_that_is_wrong_jumps_or_is_kept_by_nobody_is_told():
    def level(year, jump=0.0, kept=None):
        return clock.clock(datetime(year, 12, 1, tzinfo=UTC), "+0100 CET", jump, kept).level

    assert [level(2026), level(2026, kept=True), level(2026, kept=False)] == ["ok", "ok", "warning"]
    assert [level(1970), level(2026, jump=3600), level(2026, jump=-0.2)] == ["error", "warning", "warning"]


def test_a_python_that_medssl_does_not_support_is_an_error():
    levels = [software.python(version, ">=3.11,<3.14").level for version in ("3.10.12", "3.11.0", "3.13.9", "3.14.0")]
    assert levels == ["error", "ok", "ok", "error"]


@pytest.mark.fault("S12")
def test_root_is_warned_of_and_told_how_to_start_a_container_as_oneself():
    assert software.user(1000).level == "ok"
    root = software.user(0)
    assert (root.level, "--user $(id -u):$(id -g)" in root.remedy) == ("warning", True)


@pytest.mark.fault("D3")
def test_a_decoder_is_ok_missing_for_12_bit_jpeg_only(monkeypatch):
    levels = {finding.name: finding.level for finding in decoders.check()}
    assert levels.pop("JPEG 12 bit") in ("warning", "ok")
    assert set(levels.values()) == {"ok"}
    assert "pylibjpeg-libjpeg" in decoders.decoder("x", (JPEGExtended12Bit,)).remedy or levels
