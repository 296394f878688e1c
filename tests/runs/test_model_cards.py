"""The encoder's card lists all that pretraining saw, for that list is what a fine-tuning's leak check compares with."""

import numpy as np
import pytest
import torch

from medssl.config import resolve
from medssl.encoder import artefact
from medssl.errors import UserError
from medssl.evaluate.leakage import refuse_leak
from medssl.runs.dataset import prepare_dataset
from medssl.runs.model_cards import export_encoder
from medssl.runs.resolve_config import list_source

BACKBONE = {"name": "timm", "model": "resnet18", "stem": "small", "arguments": {"channels": [8, 8, 16, 16]}}
FAULTS = {
    "half of the pixel hashes": ("data/split/seen.py", '_listed(table, "pixel_key")', '_listed(table[::2], "pixel_key")'),
    "half of the patients": ("data/split/seen.py", '_listed(table, "patient")', '_listed(table[: len(table) // 2], "patient")'),
}


def test_every_image_and_every_patient_of_pretraining_alone_is_found_by_the_leak_check(pictures, reporter, tmp_path):
    config = resolve({"data": {"path": str(pictures), "size": 16}, "backbone": BACKBONE})
    found = prepare_dataset(list_source(config.data), config, reporter())
    encoder = artefact.build_encoder(BACKBONE, 1, 16, torch.tensor([0.4]), torch.tensor([0.2]), seed=0)
    export_encoder(tmp_path, config, found, encoder, {})
    _, card = artefact.load(tmp_path)
    seen = found.store.table.iloc[found.pretraining]
    for own, other, listed in (("pixel_key", "patient", "pixels"), ("patient", "pixel_key", "patients")):
        of_another = seen.assign(**{other: "0" * 32})
        for row in np.arange(len(seen)):
            with pytest.raises(UserError, match=r"1 of 1 test images were seen in pretraining"):
                refuse_leak(card, of_another.iloc[[row]])
        assert len(set(seen[own])) == len(card["pretraining"][listed]["hashes"])
    assert not [key for key in seen["pixel_hash"] if key[:16] in (tmp_path / "card.json").read_text()], "a hash without a key is a proof"
