"""metrics.jsonl must be valid line by line, and must survive a kill at any moment."""

import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from medssl.errors import UserError
from medssl.tracking.jsonl import JsonLines, read, truncate_after


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_not_a_number_and_infinity_become_null(tmp_path):
    rows = JsonLines(tmp_path / "m.jsonl")
    rows.write({"step": 1, "loss": math.nan, "gain": math.inf, "ok": 0.5, "note": "ä\u2028b", "flag": True, "none": None})
    rows.close()
    (line,) = (tmp_path / "m.jsonl").read_text("utf-8").rstrip("\n").split("\n")
    row = json.loads(line, parse_constant=refuse)
    assert row == {"step": 1, "loss": None, "gain": None, "ok": 0.5, "note": "ä\u2028b", "flag": True, "none": None}
    assert read(tmp_path / "m.jsonl") == [row]


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    rows = JsonLines(tmp_path / "m.jsonl")
    rows.write({"a": np.float32(0.25), "b": torch.tensor(0.5), "c": np.int64(3)})
    rows.close()
    assert read(tmp_path / "m.jsonl") == [{"a": 0.25, "b": 0.5, "c": 3.0}]


def test_a_row_is_on_disk_before_the_next_statement(tmp_path):
    rows = JsonLines(tmp_path / "m.jsonl")
    rows.write({"step": 1})
    assert (tmp_path / "m.jsonl").read_text() == '{"step": 1}\n'
    rows.close()


@pytest.mark.parametrize("tail", ['{"step": 2', '{"step": 2, "loss": "a', ""])
def test_a_torn_last_line_is_left_out(tmp_path, tail):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n' + tail)
    assert read(tmp_path / "m.jsonl") == [{"step": 1}]


def test_a_torn_last_line_does_not_swallow_the_row_that_follows(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"ste')
    rows = JsonLines(tmp_path / "m.jsonl")
    rows.write({"step": 2})
    rows.close()
    assert read(tmp_path / "m.jsonl") == [{"step": 1}, {"step": 2}]


def test_damage_before_the_last_line_is_an_error_that_names_the_line(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"m\.jsonl, line 2"):
        read(tmp_path / "m.jsonl")


def test_resuming_drops_the_rows_of_later_steps_and_nothing_else(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 10}\n{"step": 20, "loss": 1.5}\n{"step": 30}\n{"st')
    truncate_after(path, 20)
    assert path.read_text() == '{"step": 10}\n{"step": 20, "loss": 1.5}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["m.jsonl"]
    truncate_after(tmp_path / "none.jsonl", 5)
    assert not (tmp_path / "none.jsonl").exists()


def test_a_kill_costs_at_most_the_line_being_written(tmp_path, repository):
    path = tmp_path / "m.jsonl"
    code = (
        "import sys; from pathlib import Path; from medssl.tracking.jsonl import JsonLines\n"
        "rows = JsonLines(Path(sys.argv[1]))\n"
        "for step in range(10**9): rows.write({'step': step, 'note': 'x' * 1000})"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=repository)
    while not path.exists() or path.stat().st_size < 100_000:
        time.sleep(0.01)
    process.kill()
    process.wait()
    steps = [row["step"] for row in read(path)]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 90
