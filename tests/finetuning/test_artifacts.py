"""What a fine-tuning leaves: its classifier is of the fraction that it says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small import Shallow
from studies import a_request

from medssl.evaluate.experiment import Experiment, ExperimentResult, run_experiment
from medssl.finetuning import artifacts
from medssl.nn.encoder import Encoder

FRACTIONS = "10pct,50pct,100pct"


def said(network: Any, request: Experiment) -> np.ndarray:
    """Probabilities of the test images."""
    with torch.no_grad():
        logits = network(torch.from_numpy(request.images[request.task.test]).float() / 255)
    return logits.softmax(1).numpy()


def of_first_draw(findings: ExperimentResult, labels: str) -> tuple[np.ndarray, float]:
    cell = next(cell for cell in findings.cells if (cell.labels, cell.draw, cell.init) == (labels, 0, "pretrained"))
    return cell.prob, cell.temperature


@pytest.fixture(params=["linear", "full"])
def studied(request: pytest.FixtureRequest, tmp_path) -> tuple[Experiment, ExperimentResult]:
    """Finished once and taken from the kept cells: what is handed on has its tensors then, too."""
    torch.manual_seed(0)
    ours, random = (Encoder(Shallow(), torch.tensor([0.4]), torch.tensor([0.1])).eval() for _ in range(2))
    asked = a_request(mode=request.param, labels=FRACTIONS, cells=tmp_path, steps=20, lr=0.01)
    asked = replace(asked, inits={"pretrained": ours}, random=lambda _: random)
    run_experiment(asked)
    return asked, run_experiment(asked)


def test_the_classifier_that_is_kept_is_that_of_all_labels(studied):
    asked, findings = studied
    prob, temperature = of_first_draw(findings, "100pct")
    assert (str(findings.exported_draw.wanted), findings.exported_fit.temperature) == ("100pct", temperature)
    np.testing.assert_allclose(said(artifacts.build_classifier(asked, findings.exported_fit), asked), prob, atol=1e-5)
    assert np.abs(prob - of_first_draw(findings, "10pct")[0]).max() > 0.01, "the fractions' classifiers cannot be told apart here"
