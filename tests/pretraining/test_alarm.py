"""When the alarm sounds, when it ends a run, and what it says then."""

from dataclasses import replace
from pathlib import Path

import pytest

from medssl.config import Monitor
from medssl.errors import UserError
from medssl.pretraining.alarm import Alarm
from medssl.train import checkpoint
from medssl.train.diagnosis import CollapseMetrics

HEALTHY = CollapseMetrics(
    embedding_std=0.9, embedding_rank=20, feature_std=0.5, pixel_std=0.2, relative_update=0.05, gradient=3.0, lr=0.002
)
POINT, TORN = replace(HEALTHY, embedding_std=0.02), replace(HEALTHY, relative_update=0.8, embedding_std=0.02)


def heard(metrics: list[CollapseMetrics], reporter, folder: Path, **settings) -> list[str]:
    """What is warned of when these metrics are found every ten steps."""
    said = reporter()
    alarm = Alarm(said, Monitor(collapse_steps=40, **settings), folder)
    for number, found in enumerate(metrics, start=1):
        alarm(10 * number, found)
    return said.warned


def test_each_cause_is_warned_of_once(reporter, tmp_path):
    warned = heard([TORN, HEALTHY, POINT, HEALTHY, TORN, HEALTHY, POINT], reporter, tmp_path)
    assert [text.partition(".")[0] for text in warned] == ["Alarm at step 10", "Alarm at step 30"]


def test_a_collapse_that_persists_ends_the_run_and_one_that_passes_does_not(reporter, tmp_path):
    with pytest.raises(UserError, match="Stopped at step 40, after 40 steps in alarm"):
        heard([POINT] * 4, reporter, tmp_path)
    heard([POINT, HEALTHY] * 20, reporter, tmp_path)
    heard([POINT] * 3 + [HEALTHY] * 3 + [POINT] * 3, reporter, tmp_path)


def test_a_collapse_that_flickers_ends_the_run(reporter, tmp_path):
    with pytest.raises(UserError, match="Stopped at step 80"):
        heard([POINT, POINT, HEALTHY] * 9, reporter, tmp_path)


def test_the_run_ends_with_the_first_cause_of_this_collapse_from_which_the_others_follow(reporter, tmp_path):
    with pytest.raises(UserError, match=r"moved by 80%.*divide train\.lr"):
        heard([TORN, POINT, POINT, POINT], reporter, tmp_path)
    with pytest.raises(UserError, match="shrink to a point"):
        heard([TORN, HEALTHY, POINT, POINT, POINT, POINT], reporter, tmp_path)


def test_it_says_which_checkpoint_there_is_and_how_to_go_on(reporter, tmp_path):
    with pytest.raises(UserError, match=r"No checkpoint was saved yet\. --set monitor\.on_collapse=warn"):
        heard([POINT] * 4, reporter, tmp_path)
    checkpoint.save(tmp_path, {"step": 20})
    with pytest.raises(UserError, match=r"is of step 20; .* --resume .* --set monitor\.on_collapse=warn"):
        heard([POINT] * 4, reporter, tmp_path)


def test_set_to_warn_it_never_ends_a_run(reporter, tmp_path):
    assert len(heard([POINT] * 99, reporter, tmp_path, on_collapse="warn")) == 1
