"""MODEL_CARD.md has the form that the Hugging Face Hub reads, and old cards make one, too."""

from typing import Any

import torch
from huggingface_hub import ModelCard
from small import BACKBONE

from medssl.encoder import artefact, model_card


def saved(folder, **card):
    encoder = artefact.build_encoder(BACKBONE, 1, 16, torch.tensor([0.4]), torch.tensor([0.2]), seed=3)
    artefact.save(encoder, folder, backbone=BACKBONE, channels=1, size=16, card=card)
    return (folder / model_card.NAME).read_text("utf-8")


def test_the_hub_reads_head_and_text(tmp_path):
    card = {
        "method": {"name": "pnnclr", "title": "pNNCLR", "uses_labels": False},
        "pretraining": {"patients": ["a", "b"], "pixels": ["c", "d", "e"]},
        "facts": {"knn": 0.75, "images_per_second": 100.0},
        "licence": "CC-BY-4.0",
        "intended_use": "Research only.",
    }
    read: Any = ModelCard(saved(tmp_path, **card))
    assert read.data.license == "cc-by-4.0"
    assert read.data.pipeline_tag == "image-feature-extraction"
    assert "pnnclr" in read.data.tags
    for sentence in ("# resnet18, pretrained with pNNCLR", "Research only.", "3 different images, of 2 patients", "knn: 0.75", "[N, 16]"):
        assert sentence in read.text
    assert "images_per_second" not in read.text, "the speed of a machine is no fact about the encoder"


def test_a_licence_in_words_is_other_for_the_hub_and_an_old_card_has_a_page_too(tmp_path):
    for licence in ({}, {"licence": "as the hospital says"}):
        read: Any = ModelCard(saved(tmp_path, **licence))
        assert read.data.license == "other"
    _, card = artefact.load(tmp_path)
    del card["schema"], card["licence"]
    assert model_card.render(card, "features = network(images)").count("features = network(images)") == 1
