"""A small source of pictures: two patients with two pictures each, one without a patient."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.types import Record, Source

MakeSource = Callable[..., Source]


@pytest.fixture
def pictures() -> np.ndarray:
    """uint8 [5, 20, 20]"""
    return np.random.default_rng(0).integers(0, 256, (5, 20, 20), np.uint8)


@pytest.fixture
def make_source(tmp_path: Path, pictures: np.ndarray) -> MakeSource:
    """make_source(deep=(1,), broken=(2,)): writes the pictures below tmp_path/data, some with 16 bits, some cut in half."""

    def make(deep: tuple[int, ...] = (), broken: tuple[int, ...] = (), skipped: tuple[tuple[str, str, str], ...] = ()) -> Source:
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        records = []
        for number, picture in enumerate(pictures):
            file = root / f"doe_{number}.png"
            Image.fromarray(picture.astype(np.uint16) * 257 + number if number in deep else picture).save(file)
            if number in broken:
                file.write_bytes(file.read_bytes()[:200])
            records.append(
                Record(
                    file.name,
                    "raster",
                    labels={"finding": "no" if number % 2 else "yes"},
                    patient=f"DOE^{number // 2}" if number < 4 else None,
                    study=f"1.2.{number}" if number < 2 else None,
                    site="north",
                    split="train" if number else "test",
                    extra={"view": "PA"} if number else {},
                )
            )
        return Source("folder", root, tuple(records), skipped=skipped)

    return make
