"""Tests of simulator.scores: values, regret and recovery of runs made up by hand."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from simulator.drift import Drift
from simulator.scores import NothingServed, Series, make_series, recovery, scores, value_of_features, windowed
from simulator.world import START, make_world

ROWS = 400


def _series(served: np.ndarray, without: np.ndarray | None = None) -> Series:
    """One decision an hour; optimal is 1, uniform 0.5."""
    at = tuple(START + timedelta(hours=number) for number in range(served.size))
    ones = np.ones(served.size)
    return Series(at, np.arange(served.size) / 24.0, served, ones, 0.5 * ones, 0.7 * ones, 0.6 * ones, 0, without)


def test_a_run_is_scored_beside_what_could_have_been() -> None:
    truth = np.array([[0.1, 0.3, 0.2], [0.4, 0.2, -np.inf]])
    manager = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    found = make_series(START, [START, START + timedelta(days=1)], [0, 1], truth, manager)
    assert found.served.tolist() == [0.1, 0.2]
    assert found.optimal.tolist() == [0.3, 0.4]
    # The third offer was not there at the second moment: it is neither drawn nor the best fixed one.
    assert found.uniform == pytest.approx([0.2, 0.3])
    assert found.best_fixed_offer in (0, 1)
    assert found.manager == pytest.approx([0.2, 0.2])
    assert found.regret == pytest.approx([0.2, 0.4])
    assert found.day.tolist() == [0.0, 1.0]


def test_nothing_served_has_no_score() -> None:
    with pytest.raises(NothingServed, match="no customer came"):
        make_series(START, [], [], np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(NothingServed, match="all the time"):
        make_series(START, [START, START], [0, 1], np.array([[1.0, -np.inf], [-np.inf, 1.0]]), np.zeros((2, 2)))


def test_windows_are_means_of_the_last_values() -> None:
    assert windowed(np.array([1.0, 2.0, 3.0, 5.0]), 2) == pytest.approx([1.5, 2.5, 4.0])
    assert windowed(np.array([1.0, 2.0]), 2) == pytest.approx([1.5])


def test_recovery_counts_from_the_shift() -> None:
    served = np.full(ROWS, 0.9)
    served[200:250], served[250:] = 0.5, 0.94
    found = recovery(_series(served), 200 / 24.0, window=20)
    assert found is not None
    assert found.before == pytest.approx(0.8)
    assert found.lowest == pytest.approx(0.0)
    # 50 decisions at nothing, then a window with 17 of 20 at 0.88: the first with nine tenths of 0.8.
    assert found.decisions == 50 + 17
    assert found.days == pytest.approx((50 + 17 - 1) / 24.0)


@pytest.mark.parametrize("served", [np.r_[np.full(200, 0.9), np.full(200, 0.6)], np.full(ROWS, 0.5)])
def test_no_recovery_is_said_to_be_none(served: np.ndarray) -> None:
    found = recovery(_series(served), 200 / 24.0, window=20)
    assert found is not None
    assert found.decisions is None
    assert found.days is None


@pytest.mark.parametrize("day", [0.1, ROWS / 24.0 - 0.1])
def test_a_shift_too_close_to_the_end_is_not_judged(day: float) -> None:
    assert recovery(_series(np.full(ROWS, 0.9)), day, window=20) is None


def test_features_are_worth_the_difference_on_the_same_visits() -> None:
    generator = np.random.default_rng(1)
    common = 0.3 * generator.random(ROWS)
    found = value_of_features(_series(common + 0.02, common))
    assert found["mean"] == pytest.approx(0.02)
    assert found["low"] == pytest.approx(0.02)
    unclear = value_of_features(_series(generator.random(ROWS), generator.random(ROWS)))
    assert unclear["low"] < 0.0 < unclear["high"]


def test_figures_say_what_was_asked() -> None:
    world = make_world(1, 5, 20, drift=Drift(shift_day=8.0))
    figures = scores(world, _series(np.full(ROWS, 0.9), np.full(ROWS, 0.8)))
    assert figures["regret"] == pytest.approx(0.1 * ROWS)
    assert figures["value"]["served"] == {"all": 0.9, "last_half": 0.9}  # type: ignore[index]
    assert {"value_of_weather_and_season", "recovery"} <= figures.keys()
    plain = scores(make_world(1, 5, 20), _series(np.full(ROWS, 0.9)))
    assert not {"value_of_weather_and_season", "recovery"} & plain.keys()
