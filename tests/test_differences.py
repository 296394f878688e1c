"""pipelines/differences.py and its tables: intervals of differences, against scipy's paired t-test and the spread of the resamples."""

import json
import re
import sys

import numpy as np
import pytest
from scipy import stats


def runs(scores, resamples, settings=()):
    return {
        seed: {"settings": list(settings), "scores": {"x": score}, "resamples": {"x": values}}
        for seed, (score, values) in enumerate(zip(scores, resamples, strict=True))
    }


def limits(text):
    return [float(number) for number in re.findall(r"[+-]\d+\.\d+", text)]


@pytest.fixture(scope="module")
def differences(script):
    return script("pipelines/differences.py")


@pytest.fixture(scope="module")
def difference(differences):
    return lambda *given: str(differences.gain(*given))


def test_an_interval_over_seeds_alone_is_that_of_the_paired_t_test(difference):
    a, b = [0.9, 0.8, 0.85], [0.7, 0.75, 0.72]
    same = [[0.5] * 200] * 3
    expected = stats.ttest_rel(a, b).confidence_interval()
    assert limits(difference(runs(a, same), runs(b, same), "x")) == pytest.approx(
        [np.mean(a) - np.mean(b), expected.low, expected.high], abs=6e-4
    )


def test_an_interval_over_patients_alone_is_that_of_the_resamples(difference):
    random = np.random.default_rng(0)
    a = 0.8 + 0.03 * random.standard_normal(200)
    b = 0.7 + 0.5 * (a - 0.8) + 0.01 * random.standard_normal(200)  # the patients move both runs alike
    half = stats.t.ppf(0.975, 199) * np.std(a - b, ddof=1)
    text = difference(runs([0.8, 0.8], [a, a]), runs([0.7, 0.7], [b, b]), "x")
    assert limits(text) == pytest.approx([0.1, 0.1 - half, 0.1 + half], abs=6e-4)
    # Without a seed (raw pixels): the one run stands beside every seed of the others.
    assert difference(runs([0.8, 0.8], [a, a]), runs([0.7], [b], ["pixels"]), "x") == text


def test_resamples_that_lack_a_class_are_left_out(difference):
    random = np.random.default_rng(2)
    a, b = (0.8 + 0.03 * random.standard_normal(200) for _ in range(2))
    half = stats.t.ppf(0.975, 149) * np.std(a[50:] - b[50:], ddof=1)
    a[:50] = b[:50] = np.nan
    assert limits(difference(runs([0.9], [a]), runs([0.7], [b]), "x")) == pytest.approx([0.2, 0.2 - half, 0.2 + half], abs=6e-4)


def test_both_spreads_make_an_interval_wider_than_either(difference):
    random = np.random.default_rng(1)
    a, b = (0.8 + 0.03 * random.standard_normal((3, 200)) for _ in range(2))

    def width(scores, of_a, of_b):
        _, low, high = limits(difference(runs(scores, of_a), runs([0.7] * 3, of_b), "x"))
        return high - low

    # Beside the seeds alone, Student's t has more degrees of freedom where the patients are counted, too: a smaller factor.
    assert width([0.9, 0.8, 0.85], a, b) > width([0.85] * 3, a, b) > 0
    half = stats.t.ppf(0.975, 199) * np.std(a[0] - b[0], ddof=1)
    text = difference(runs([0.9], a[:1]), runs([0.7], b[:1]), "x")
    assert text.endswith(" over patients") and limits(text) == pytest.approx([0.2, 0.2 - half, 0.2 + half], abs=6e-4)


def test_the_mean_over_data_sets_has_the_spread_of_each_of_them(differences):
    a, b = [0.9, 0.8, 0.85], [0.7, 0.75, 0.72]
    of_seeds = [[0.5] * 200] * 3  # no spread of patients
    first, second = (differences.gain(runs(x, of_seeds), runs(y, of_seeds), "x") for x, y in ((a, b), (b, a[::-1])))
    both = differences.mean_gain([first, second])
    gains = [np.subtract(a, b), np.subtract(b, a[::-1])]
    assert both.mean == pytest.approx(np.mean(gains), abs=1e-12)
    assert sum(error2 for error2, _ in both.errors2) == pytest.approx(sum(np.var(g, ddof=1) / 3 for g in gains) / 4, rel=1e-12)
    # Two sets with the same spread of three seeds each: Student's t with 2 + 2 degrees of freedom.
    twice = differences.mean_gain([first, first])
    half = stats.t.ppf(0.975, 4) * (np.var(gains[0], ddof=1) / 3 / 2) ** 0.5
    assert limits(str(twice)) == pytest.approx([first.mean, first.mean - half, first.mean + half], abs=6e-4)


def test_a_table_has_a_mean_where_every_data_set_has_the_variant(differences):
    same = [[0.5] * 200] * 2
    lines = [
        {"data": data, "variant": name, "seed": seed, **run}
        for data, scores in {"a": {"x": [0.8, 0.9], "y": [0.6, 0.6]}, "b": {"x": [0.7, 0.7], "y": [0.6, 0.8], "z": [0.9, 0.9]}}.items()
        for name, values in scores.items()
        for seed, run in runs(values, same).items()
    ]
    study = {"data": {"a": {"data": "a.npz"}, "b": {"data": "b.npz", "variants": {"z": []}}}, "variants": {"x": [], "y": []}}
    text = differences.table(study, lines, "y", [])
    heading, mean = text.partition("## Mean difference from y over the 2 data sets")[1:]
    assert heading
    assert "| x | 2 | +0.125 [" in mean
    assert "| z | 2 | 0.900 (+0.200 [" in text, "data set b has it"
    assert "| z |" not in mean, "data set a has no z"
    assert "Mean difference" not in differences.table(study, lines, "y", ["a"])
    study["data"]["b"] = {"data": "a.npz"}
    assert "Mean difference" not in differences.table(study, lines, "y", []), "both have the same test patients"


def test_the_frozen_encoder_and_the_whole_network_are_compared_on_the_same_resamples(script, tmp_path, monkeypatch, capsys):
    """Two files of results with a column each, or one with both; lines with settings of the past, and other variants, are left out."""
    left, right = [0.1, 0.2] * 100, [0.3, 0.4] * 100  # the differences of the resamples have no spread
    files = {"study": ("linear 10pct", 0.7, left), "study_full": ("full 10pct", 0.9, right)}
    (results := tmp_path / "benchmarks/results").mkdir(parents=True)
    for name, (column, score, values) in files.items():
        base = {"data": "nih", "seed": 0, "scores": {column: score, "knn 10pct": 0.1}, "resamples": {column: values, "knn 10pct": values}}
        lines = [
            {**base, "variant": "random", "settings": ["random"]},
            {**base, "variant": "random", "settings": ["random", "method.delay=1"], "scores": {column: 0.2}},
            {**base, "variant": "simclr", "settings": ["method=simclr"]},
        ]
        (results / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    both = {"scores": {"linear 1pct": 0.7, "full 1pct": 0.9}, "resamples": {"linear 1pct": left, "full 1pct": right}}
    few = {"data": "cifar", "seed": 0, "variant": "random", "settings": ["random"], **both}
    (results / "study_few_labels.jsonl").write_text(json.dumps(few) + "\n")
    monkeypatch.chdir(tmp_path)
    for options in (["--only", "nih"], ["--only", "cifar", "--labels", "1pct"]):
        monkeypatch.setattr(sys, "argv", ["frozen_or_whole.py", *options])
        script("pipelines/frozen_or_whole.py").main()
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
        assert rows[1:] == [
            "| random, frozen | 1 | 0.700 (-0.200 [-0.200, -0.200] over patients) |",
            "| random, whole network | 1 | 0.900 |",
        ]
