"""`medssl export`: what the command writes and says, and that a fine-tuning finds leaks by an exported encoder."""

import json
import shutil

import pytest
from exporting import TINY, make_encoder

from medssl.commands.export import export
from medssl.commands.finetune import finetune
from medssl.encoder import artefact
from medssl.errors import UserError


def test_the_command_says_what_was_written_how_exact_it_is_and_how_it_is_used(tmp_path, reporter):
    (tmp_path / "run").mkdir()
    make_encoder(tmp_path / "run", TINY)
    said = reporter()
    out = export(said, encoder=str(tmp_path / "run"), name="timm", out=tmp_path / "chest")
    assert out == tmp_path / "chest"
    text = "\n".join(said.said)
    assert f"written   {out}" in text
    assert "of the largest feature, 1e-05 is accepted" in text
    assert "hashes    none; --with-hashes adds them" in text
    assert f'network = timm.create_model("local-dir:{out}", pretrained=True)' in text


def test_a_wrong_format_and_a_missing_encoder_are_refused_before_anything_is_written(tmp_path, reporter, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no such format"):
        export(reporter(), name="tim", out=tmp_path / "chest")
    with pytest.raises(UserError, match="There is no finished pretraining in runs/"):
        export(reporter(), name="timm", out=tmp_path / "chest")
    with pytest.raises(UserError, match="No encoder at"):
        export(reporter(), name="timm", out=tmp_path / "chest", encoder=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_fine_tuning_finds_leaks_by_the_filter_of_an_exported_encoder(pretrained, pictures, tmp_path, small, reporter):
    run, _ = pretrained
    folder = str(run)
    export(reporter(), encoder=folder, name="medssl", out=tmp_path / "with", with_hashes=True)
    export(reporter(), encoder=folder, name="medssl", out=tmp_path / "without")
    seen = set(json.loads((run / "card.json").read_text())["pretraining"]["patients"]["hashes"])
    assert not [key for key in seen if key in (tmp_path / "with" / artefact.CARD).read_text()]
    options = {"labels": "all", "sets": [item for item in small if item.startswith("finetune")] + ["tracking.mlflow=false"]}

    leaking = tmp_path / "leaking"
    shutil.copytree(pictures, leaking)
    header, *rows = (leaking / "labels.csv").read_text().splitlines()
    splits = ["test" if int(row.split(",")[1]) % 3 == 0 else "train" for row in rows]  # by patient
    (leaking / "labels.csv").write_text("\n".join([f"{header},split", *map(",".join, zip(rows, splits, strict=True))]) + "\n")
    with pytest.raises(UserError, match="test images were seen in pretraining"):
        finetune(reporter(), encoder=str(tmp_path / "with"), data=str(leaking), out=tmp_path / "b", **options)

    done = finetune(said := reporter(), encoder=str(tmp_path / "without"), data=str(leaking), out=tmp_path / "c", **options)
    assert "leak_check" not in (results := json.loads((done / "results.json").read_text())) or results["leak_check"] is None
    assert any("exported without the hashes" in line for line in said.warned)
    assert not any("never seen" in line for line in said.said)
