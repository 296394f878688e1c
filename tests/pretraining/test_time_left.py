"""The time left of a pretraining, with a clock that the test moves."""

import math

import pytest

from medssl.pretraining import time_left
from medssl.pretraining.time_left import WARM_UP, TimeLeft

SLOW_STEP, STEP, EVALUATION, CHECKPOINT = 9.0, 2.0, 30.0, 5.0  # seconds
TOTAL, EVALUATE_EVERY, SAVE_EVERY = 100, 20, 30


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, as a list of one number."""
    now = [0.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    return now


def run(clock, start: int, stop: int) -> dict[int, dict[str, float]]:
    """What is said after each step from `start` to `stop`."""
    estimate = TimeLeft(start, TOTAL, EVALUATE_EVERY, SAVE_EVERY)
    said = {}
    for done in range(start + 1, stop + 1):
        clock[0] += SLOW_STEP if done <= start + WARM_UP else STEP
        for work, every, seconds in (("evaluation", EVALUATE_EVERY, EVALUATION), ("checkpoint", SAVE_EVERY, CHECKPOINT)):
            if done % every == 0 or (done == TOTAL and work == "evaluation"):
                with estimate.measure(work):
                    clock[0] += seconds
        said[done] = estimate.facts(done)
    return said


def test_nothing_is_said_during_the_slow_first_steps_and_they_are_not_counted_later(clock):
    said = run(clock, 0, WARM_UP + 1)
    assert all(math.isnan(said[done]["seconds_left"]) for done in range(1, WARM_UP + 1))
    assert said[WARM_UP + 1] == {"seconds_left_at_least": (TOTAL - WARM_UP - 1) * STEP}


def test_evaluations_and_checkpoints_count_once_they_are_measured(clock):
    said = run(clock, 0, TOTAL)
    # After the evaluation of step 20 those of 40, 60, 80 and 100 are left; how long a checkpoint takes is not known yet.
    assert said[20] == {"seconds_left_at_least": pytest.approx(80 * STEP + 4 * EVALUATION)}
    assert said[30] == {"seconds_left": pytest.approx(70 * STEP + 4 * EVALUATION + 2 * CHECKPOINT)}
    assert said[90] == {"seconds_left": pytest.approx(10 * STEP + EVALUATION)}
    assert said[100] == {"seconds_left": 0.0}


def test_a_resumed_run_counts_only_what_is_left_and_what_it_has_measured_itself(clock):
    said = run(clock, 83, 92)
    assert math.isnan(said[89]["seconds_left"])
    assert said[90] == {"seconds_left_at_least": pytest.approx(10 * STEP)}, "the evaluation at the end was not measured by this run"


def test_a_slower_machine_changes_the_estimate(clock):
    estimate = TimeLeft(0, TOTAL, 1000, 1000)
    said = {}
    for done in range(1, 47):
        clock[0] += 1.0 if done <= 26 else 3.0
        said = estimate.facts(done)
    # 20 steps of 1 s and 20 of 3 s were measured: 2 s a step.
    assert said == {"seconds_left_at_least": pytest.approx(54 * 2.0)}
