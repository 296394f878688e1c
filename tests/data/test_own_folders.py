"""What medssl has written into the folder of the images is neither an image nor a class nor a table at the next start."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.config import Config, Data
from medssl.data.prepare import prepare
from medssl.data.walk import following_links, list_files
from medssl.runs.resolve_config import list_source
from medssl.runs.run_dir import write_description


def pictures(root: Path) -> None:
    for number in range(12):
        file = root / f"{'ill' if number % 2 else 'well'}/{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (20, 20), np.uint8)).save(file)


@pytest.mark.fault("R28")
def test_outputs_among_the_images_change_nothing_at_the_next_start(tmp_path: Path) -> None:
    """Store, cache, run and predictions with names that say nothing, as real code writes them; a chunk folder as a kill leaves it."""
    pictures(tmp_path)
    data = Data(path=str(tmp_path), source="folder", size=20)
    before = list_source(data)
    prepare(before, data, tmp_path / "holidays", out=tmp_path / "sunday")
    prepare(before, data, tmp_path / "holidays")
    for kind in ("pretrain", "finetune"):
        (tmp_path / "abc" / kind).mkdir(parents=True)
        write_description(tmp_path / "abc" / kind, Config(data=data), kind)
        Image.new("L", (99, 99)).save(tmp_path / "abc" / kind / "views.png")
    (tmp_path / "monday.chunks").mkdir()
    (tmp_path / "monday.chunks/000000-ab.chunk").write_bytes(b"x")
    rows = [f"{record.locator},0,ab,0.4,0.6,{'yes' if n % 3 else 'no'}" for n, record in enumerate(before.records)]
    (tmp_path / "p.csv").write_text("\n".join(["file,index,patient,prob_a,prob_b,prediction", *rows]))
    after = list_source(data)
    assert after.records == before.records
    assert after.table_error == ""
    (note,) = set(after.notes) - set(before.notes)
    assert note.startswith("6 folders or tables among the images")


def test_a_users_own_folders_are_listed_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("runs/a/config.yaml", "runs/a/1.png", "stores/2.png", "x.chunks/3.png", "store/table.parquet", "cache/card.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("seed: 0")
    with following_links(False) as links:
        assert len(list(list_files(tmp_path))) == 6
    assert links.notes() == []
