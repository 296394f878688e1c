"""Differences between runs on the same test images, against scikit-learn in every resample; predictions that do not belong are refused."""

import numpy as np
import pandas as pd
import pytest
from compared import FLAT, PATIENTS, RIGHT, Y, a_document, predictions, with_changes, write_run
from sklearn.metrics import roc_auc_score

from medssl.compare.differences import difference, read_predictions, resampled_auroc
from medssl.errors import UserError
from medssl.evaluate.schema import ResultsDocument
from medssl.evaluate.stats.bootstrap import Resamples

ALL = "100pct", "linear", "pretrained"


def read(folder, drawn, **facts):
    found = write_run(folder, {"pretrained": {"100pct": drawn}}, **facts).predictions
    assert found is not None
    return found


def results(drawn):
    return ResultsDocument.model_validate(a_document(drawn))


def compared(ours, theirs):
    resamples = Resamples(PATIENTS, 300, seed=3)
    return difference(*((p, ALL, resampled_auroc(p, ALL, resamples)) for p in (ours, theirs)), level=0.9)


def test_a_perfect_ranking_gains_exactly_a_half_over_none_in_every_resample(tmp_path):
    found = compared(read(tmp_path / "a", [RIGHT]), read(tmp_path / "b", [FLAT, FLAT]))
    assert (found.gain, found.low, found.high) == (0.5, 0.5, 0.5)
    assert found.p_delong is None, "the same difference for every image: nothing to tell with"


def test_the_difference_and_its_interval_are_those_of_scikit_learn_in_each_resample(tmp_path):
    rng = np.random.default_rng(0)
    ours, theirs = ([rng.random(8).round(1) for _ in range(n)] for n in (3, 2))
    found = compared(read(tmp_path / "a", ours), read(tmp_path / "b", theirs))
    once = [np.mean([roc_auc_score(Y, p) for p in draws]) for draws in (ours, theirs)]
    assert found.gain == pytest.approx(once[0] - once[1], abs=1e-12)
    resamples, gains = Resamples(PATIENTS, 300, seed=3), []
    weights = np.concatenate(list(resamples.weights()))
    assert all(len({w[i] for i in np.flatnonzero(who == PATIENTS)}) == 1 for w in weights for who in set(PATIENTS)), "patients whole"
    for b, w in enumerate(weights):
        if 0 in (w[Y == 0].sum(), w[Y == 1].sum()):
            continue
        means = [
            sum(share * roc_auc_score(Y, p, sample_weight=w) for share, p in zip(resamples.draws(len(draws))[b], draws, strict=True))
            for draws in (ours, theirs)
        ]
        gains.append(means[0] - means[1])
    assert len(gains) > 200
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gains, [0.05, 0.95])), abs=1e-9)


def test_the_same_predictions_do_not_differ(tmp_path):
    noise = np.random.default_rng(1).random(8)
    found = compared(read(tmp_path / "a", [noise]), read(tmp_path / "b", [noise]))
    assert (found.gain, found.low, found.high, found.p_delong) == (0, 0, 0, 1)


def test_images_are_matched_by_key_and_not_by_their_place_in_the_file(tmp_path):
    first = read(tmp_path / "a", [RIGHT])
    table = pd.read_parquet(tmp_path / "a" / "predictions.parquet")
    table.iloc[::-1].to_parquet(tmp_path / "reversed.parquet", index=False)
    again = read_predictions(tmp_path / "reversed.parquet", results({"pretrained": {"100pct": [RIGHT]}}))
    assert again is not None and again.test == first.test
    assert np.array_equal(again.draws[ALL][0], first.draws[ALL][0]) and np.array_equal(again.y, first.y)


@pytest.mark.parametrize(("change", "value"), [("patient", "z"), ("key", "key9"), ("y_true", "sick")])
def test_another_patient_image_or_truth_is_another_test(tmp_path, change, value):
    drawn = {"pretrained": {"100pct": [FLAT]}}
    table = predictions(drawn).reset_index(drop=True)
    table.loc[0, change] = value
    table.to_parquet(tmp_path / "b.parquet", index=False)
    other = read_predictions(tmp_path / "b.parquet", results(drawn))
    assert other is not None and other.test != read(tmp_path / "a", [FLAT]).test


def test_a_run_without_predictions_or_with_several_labels_has_none_to_compare(tmp_path):
    run = write_run(tmp_path / "a", {"pretrained": {"100pct": [RIGHT]}})
    assert read_predictions(tmp_path / "nothing.parquet", run.document) is None
    several = with_changes(run, {"task": {"kind": "multilabel"}})
    assert read_predictions(tmp_path / "a" / "predictions.parquet", several.document) is None


DAMAGES = {
    "not parquet": (lambda path, table: path.write_bytes(b"PAR1 half"), "is damaged"),
    "a column lost": (lambda path, table: table.drop(columns="prob_sick").to_parquet(path), "is damaged"),
    "a class unknown": (lambda path, table: table.replace("sick", "ill").to_parquet(path), "is damaged"),
    "an image twice": (lambda path, table: pd.concat([table, table.iloc[:1]]).to_parquet(path), "is damaged"),
    "not a number": (lambda path, table: table.assign(prob_sick=np.nan).to_parquet(path), "is damaged"),
    "another run's": (lambda path, table: table.assign(prob_sick=FLAT).to_parquet(path), "other scores than the results.json"),
    "nothing in it": (lambda path, table: table.iloc[:0].to_parquet(path), "is damaged"),
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_predictions_that_are_damaged_or_of_another_run_are_refused_by_name(tmp_path, fault):
    drawn = {"pretrained": {"100pct": [RIGHT]}}
    spoil, expected = DAMAGES[fault]
    path = tmp_path / "predictions.parquet"
    spoil(path, predictions(drawn))
    with pytest.raises(UserError, match=expected) as error:
        read_predictions(path, results(drawn))
    assert str(path) in str(error.value)
