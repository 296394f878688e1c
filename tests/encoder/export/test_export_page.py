"""docs/reference/export.md says of every preset which formats hold its network, as the formats say today."""

import re

import export_page
import pytest
import torch
from exporting import agree, type_in

from medssl.encoder.export import FORMATS, Options, export
from medssl.types import edges


@pytest.mark.slow
def test_the_page_has_the_refusals_of_today_and_only_small_differences():
    text = export_page.PAGE.read_text("utf-8")
    rows = re.findall(r"^\| (\w+) \| [^|]+ \| ((?:[^|]+ \| ?)+)$", text, re.MULTILINE)
    cells = {preset: [cell.strip() for cell in row.strip(" |").split(" | ")] for preset, row in rows if preset in export_page.presets()}
    assert cells.keys() == export_page.presets().keys()
    names = [name for name in FORMATS if name not in ("hf", "mlflow", "nnunet")]
    numbers = {
        preset: {name: float(cell) for name, cell in zip(names, row, strict=True) if not cell.startswith("no ")}
        for preset, row in cells.items()
    }
    assert all(0 <= value <= FORMATS[name].TOLERANCE for row in numbers.values() for name, value in row.items())
    assert text == export_page.page(numbers), "python tests/export_page.py"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's exporters and of MONAI
def test_the_network_of_medmnist_has_its_features_in_every_format_by_the_lines_that_are_said(tmp_path):
    backbone, channels, size = export_page.shape("medmnist")
    encoder, card = export_page.make_encoder(tmp_path, backbone, channels, size)
    assert export_page.refusals("medmnist") == {}
    images = torch.rand(5, channels, *edges(size))
    for name, module in FORMATS.items():
        if name == "nnunet":  # for a network of its own
            continue
        done = export(encoder, card, name, tmp_path / f"{name}{module.SUFFIX}", Options())
        features = type_in(done.usage, images.numpy() if name in ("onnx", "mlflow") else images)["features"]
        assert agree(features, encoder, images, module.TOLERANCE), name
