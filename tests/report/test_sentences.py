"""The sentences at the top of the report: what was done, what was found, and nothing that the document does not say."""

import pytest
from pages import Page, a_document, render


def test_three_sentences_say_what_was_done_with_the_numbers_of_the_document() -> None:
    shown = Page(render(a_document())).shown
    assert (
        "An encoder (resnet18) was pretrained with pNNCLR on 1,549 different images of 368 patients, without looking at a label." in shown
    )
    assert "trained with 1%, 10% and 100% of the labels, in up to 5 draws of patients, to predict finding (normal or sick)" in shown
    assert "scored once on 150 images of 102 patients that neither its pretraining nor its fine-tuning had seen." in shown
    assert "With 10% of the labels (58 to 66 images) the encoder reached an AUROC of 0.823 (95% interval 0.773 to 0.863)" in shown
    assert "0.163 more than the same network from random initialisation" in shown and "(+0.050 to +0.270) does not include zero" in shown


def test_the_page_says_of_a_supervised_encoder_that_it_was_trained_with_labels() -> None:
    document = a_document()
    document["encoder"]["method"] = {"name": "supervised", "title": "Supervised", "uses_labels": True}
    shown = Page(render(document)).shown
    assert "An encoder (resnet18) was trained with the labels of all its training images: 1,549 different images of 368 patients." in shown
    assert "without looking at a label" not in shown


@pytest.mark.parametrize("samples", ["volumes", "slices of 24 volumes"])
def test_the_page_calls_volumes_volumes_and_slices_slices(samples: str) -> None:
    document = a_document()
    document["encoder"]["samples"] = samples
    assert f"was pretrained with pNNCLR on 1,549 different {samples} of 368 patients" in Page(render(document)).shown
    document["encoder"]["method"] = {"name": "supervised", "title": "Supervised", "uses_labels": True}
    expected = f"with the labels of all its training {samples.split()[0]}: 1,549 different {samples} of 368 patients."
    assert expected in Page(render(document)).shown


def test_nothing_is_said_of_labels_where_the_card_does_not_say_whether_the_encoder_saw_any() -> None:
    document = a_document()
    document["encoder"]["method"] = {"name": "pnnclr"}
    shown = Page(render(document)).shown
    assert "An encoder (resnet18) was pretrained with pnnclr on 1,549 different images of 368 patients." in shown


def test_the_page_says_what_pretraining_added_to_the_weights_that_it_started_from() -> None:
    document = a_document()
    document["encoder"]["start"] = {"file": "resnet18.a1_in1k.pth", "seen_before": {"patients": 68, "pixels": 549}}
    gain = {"fraction": 0.1, "labels": "10pct", "mode": "linear", "versus": "start", "auroc_gain": -0.012, "low": -0.03, "high": 0.004}
    document["paired"].append({**gain, "p_delong": None})
    shown = Page(render(document)).shown
    assert (
        "pretrained with pNNCLR on 1,000 different images of 300 patients, without looking at a label, starting from the weights" in shown
    )
    assert (
        "What pretraining added to the weights that it started from: the AUROC is 0.012 less than the weights before this pretraining "
        "(resnet18.a1_in1k.pth); the interval of that difference (\N{MINUS SIGN}0.030 to +0.004) includes zero, so it may be chance."
        in shown
    )
    assert "AUROC gained over weights before pretraining" in shown


def test_the_page_says_in_words_that_raw_pixels_are_better_and_nothing_where_they_are_not() -> None:
    document = a_document()
    gain = {"fraction": 0.1, "labels": "10pct", "mode": "linear", "versus": "pixels", "auroc_gain": -0.047, "low": -0.1, "high": -0.001}
    document["paired"].append({**gain, "p_delong": None})
    shown = Page(render(document)).shown
    assert (
        "The AUROC is 0.047 less than that of raw pixels, without an encoder; the interval of that difference "
        "(\N{MINUS SIGN}0.100 to \N{MINUS SIGN}0.001) does not include zero." in shown
    )
    document["paired"][-1].update(auroc_gain=0.01, high=0.1)
    assert "of raw pixels, without an encoder" not in Page(render(document)).shown


def test_of_foreign_weights_the_page_claims_no_pretraining() -> None:
    document = a_document()
    document["encoder"] |= {"start": {"file": "resnet18.a1_in1k.pth"}, "method": {"name": "", "title": "weights of resnet18.a1_in1k.pth"}}
    shown = Page(render(document)).shown
    assert "An encoder (resnet18) has the weights of resnet18.a1_in1k.pth, which medssl has not trained." in shown
    assert "What pretraining added" not in shown


def test_an_unfavourable_result_is_reported_as_plainly() -> None:
    document = a_document()
    document["paired"][1].update(auroc_gain=-0.02, low=-0.06, high=0.0201)
    shown = Page(render(document)).shown
    assert "0.020 less than the same network from random initialisation" in shown
    assert "(\N{MINUS SIGN}0.060 to +0.020) includes zero, so it may be chance" in shown
    assert shown.count("inconclusive") == 2
    document["paired"][1]["high"] = -0.001
    shown = Page(render(document)).shown
    assert shown.count("worse") == 1 and "does not include zero" in shown
    document["paired"][1].update(auroc_gain=0.02, low=-0.01, high=0.05)
    assert "(\N{MINUS SIGN}0.010 to +0.050) includes zero, so it may be chance" in Page(render(document)).shown


def test_nothing_is_claimed_of_pretraining_where_no_leak_was_looked_for() -> None:
    document = a_document()
    del document["leak_check"]
    assert "150 images of 102 patients that its fine-tuning had not seen." in Page(render(document)).shown
