"""Rewards over time: bounded, the same for any split, and warned of only when chance does not explain them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from evaluation.arrays import FloatArray
from evaluation.drift import MOST_BUCKETS, RewardDrift


def times(n: int, minutes: int) -> np.ndarray:
    return np.datetime64("2026-03-02T00:00") + (np.arange(n) * minutes).astype("timedelta64[m]")


def rewards(rates: FloatArray, seed: int = 0) -> FloatArray:
    return (np.random.default_rng(seed).random(len(rates)) < rates).astype(np.float64)


def test_halves_by_hand() -> None:
    reward = np.repeat([0.0, 1.0, 0.0, 1.0], [60, 40, 40, 60])
    found = RewardDrift.of(times(200, 1), reward).result()
    assert found is not None
    assert (found.first.n, found.first.mean, found.last.n, found.last.mean) == (100, 0.4, 100, 0.6)
    assert found.first.start == datetime(2026, 3, 2, tzinfo=UTC)
    assert found.z == pytest.approx(0.2 / (0.5 * 0.02**0.5))
    # After 60 zeros the running sum is 30 behind its share; s = 0.5.
    x = 30 / (0.5 * 200**0.5)
    assert found.cusum_p == pytest.approx(2 * np.exp(-2 * x**2), rel=1e-6)


def test_a_long_log_stays_small_and_a_split_changes_nothing() -> None:
    at, reward = times(50_000, 7), rewards(np.full(50_000, 0.1))
    whole = RewardDrift.of(at, reward)
    assert len(whole.number) <= MOST_BUCKETS
    pieces = RewardDrift.empty()
    for start in range(0, 50_000, 5_000):
        pieces += RewardDrift.of(at[start : start + 5_000], reward[start : start + 5_000])
    assert pieces.width == whole.width
    np.testing.assert_array_equal(pieces.number, whole.number)
    np.testing.assert_allclose(pieces.sums, whole.sums, rtol=1e-12)
    assert whole.sums[:, 0].sum() == 50_000


def test_right_logs_are_hardly_ever_warned_of() -> None:
    """At 0.1% a test and two tests, 500 logs give one warning in expectation; more than 4 are 1 in 300."""
    warned = 0
    for seed in range(500):
        found = RewardDrift.of(times(3000, 5), rewards(np.full(3000, 0.05), seed)).result()
        warned += found is not None and found.warning is not None
    assert warned <= 4


def test_a_step_and_a_wave_are_seen() -> None:
    n = 6000
    step = RewardDrift.of(times(n, 5), rewards(np.where(np.arange(n) < 4500, 0.1, 0.2))).result()
    wave = RewardDrift.of(times(n, 5), rewards(0.15 + 0.1 * np.sign(np.sin(np.arange(n) * 12 * np.pi / n)))).result()
    assert step is not None
    assert step.warning is not None
    assert step.cusum_p < 0.001
    assert wave is not None
    assert wave.warning is not None
    assert wave.chi_square_p < 0.001


def test_too_little_to_compare_is_nothing() -> None:
    assert RewardDrift.empty().result() is None
    assert RewardDrift.of(times(20, 1), np.ones(20)).result() is None
    assert RewardDrift.of(np.full(500, np.datetime64("2026-03-02")), np.ones(500)).result() is None
    constant = RewardDrift.of(times(500, 1), np.ones(500)).result()
    assert constant is not None
    assert constant.warning is None
