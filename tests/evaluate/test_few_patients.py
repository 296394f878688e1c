"""Tests of one or two patients, and many classes of four patients each: scores without intervals, and a warning that says why."""

from dataclasses import replace

import numpy as np
import pytest
from studies import a_request, hexed

from medssl.errors import UserError
from medssl.evaluate.experiment import Experiment, run_experiment
from medssl.evaluate.models.linear_probe import USUAL_C, choose_c
from medssl.evaluate.schema import ResultsDocument
from medssl.evaluate.stats import ends
from medssl.evaluate.task import define_task
from medssl.report import page
from medssl.report.formatting import format_interval


def with_test(request: Experiment, labels: list[str], patients: list[int], tested: np.ndarray) -> Experiment:
    """The study of another question: the label and the patient of each image, and which are tested."""
    table = request.table.assign(**{"label:finding": labels, "patient": [hexed("patient", n) for n in patients]})
    return replace(request, table=table, task=define_task(table, ["finding"], np.where(tested, "test", "train")))


def many_classes(**changes) -> Experiment:
    """Forty classes of four images, each of its own patient; one of the four is tested."""
    images = np.arange(160)
    request = a_request(patients=80, draws=1, **changes)
    return with_test(request, [f"class {n // 4:02}" for n in images], images.tolist(), images % 4 == 0)


@pytest.mark.fault("R32")
def test_forty_classes_of_four_images_are_scored_without_intervals_of_what_needs_every_class() -> None:
    results = run_experiment(many_classes(labels="100pct")).results
    document = ResultsDocument.model_validate(results.document.to_dict())
    row = document.summary[0]
    assert ends(row.auroc) is None and 0 < row.auroc.mean < 1, "each resample lacks a third of the classes"
    accuracy = ends(row.score("accuracy"))
    assert accuracy and accuracy[0] <= row.score("accuracy").mean <= accuracy[1]
    assert "The test has only 40 patients" in document.interval.warning
    assert document.labels_saved is None and ends(document.paired[0]) is None
    shares = results.scores()
    assert "linear.100pct.pretrained.auroc" in shares and "linear.100pct.pretrained.auroc_low" not in shares
    assert document.interval.warning in page.render(document)


@pytest.mark.fault("R32")
def test_the_usual_penalty_is_kept_where_the_error_of_its_score_cannot_be_known() -> None:
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(100), 3)
    features = random.normal(size=(300, 2)).astype(np.float32)
    assert choose_c(features, y, np.arange(300), seed=0)[0] == USUAL_C
    with pytest.raises(UserError, match="less than one patient for each class"):
        run_experiment(many_classes(labels="10pct"))


@pytest.mark.fault("R32")
@pytest.mark.parametrize("patients", [1, 2])
def test_a_test_of_one_or_two_patients_has_no_interval_and_a_warning(patients: int) -> None:
    request = a_request(draws=1)
    image = np.arange(120)
    owner = [n % patients if n < 4 else n // 2 for n in range(120)]  # four images are tested
    labels = [("normal", "sick")[n % 2] if n < 4 else ("normal", "sick")[n // 2 % 2] for n in image]
    document = run_experiment(with_test(request, labels, owner, image < 4)).results.document
    assert document.task.test.n_patients == patients
    assert all(ends(getattr(row, name)) is None for row in document.summary for name in ("auroc", "accuracy", "brier"))
    assert all(ends(row) is None for row in document.paired) and document.labels_saved is None
    assert document.interval.warning.startswith(f"The test has only {patients} patients")
    shown = page.render(document)
    assert document.interval.warning in shown and "too few patients for an interval" in shown
    again = ResultsDocument.model_validate(document.to_dict())
    assert format_interval(again.summary[0].auroc) == "–"
