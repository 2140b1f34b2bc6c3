"""Diagnostics and gate: numbers by hand, each reason to refuse."""

from __future__ import annotations

import math
from dataclasses import astuple, replace

import numpy as np
import pytest

from contextual_bandit.types import Estimate
from evaluation.diagnostics import Calibration, GateLimits, WeightDiagnostics, Weights, gate, log_faults, z_score

SOUND = WeightDiagnostics(
    n=10000,
    mean=1.0,
    mean_z=0.1,
    largest=5.0,
    effective_sample_size=2000.0,
    effective_rewards=150.0,
    unsupported_share=0.0,
    unsupported_mass=0.0,
)


def difference(low: float, high: float) -> Estimate:
    return Estimate("dr difference", (low + high) / 2, low, high, 10000, 2000.0)


def test_weights_by_hand() -> None:
    weight, reward = np.array([2.0, 0.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
    one = (
        Weights.of(weight[:1], reward[:1], np.ones(1), np.full(1, 1.0))
        + Weights.of(weight[1:], reward[1:], np.array([1.0, 0.5, 1.0]), np.full(3, 1.0))
    ).result
    assert (one.n, one.mean, one.largest) == (4, 0.75, 2.0)
    assert one.mean_z == pytest.approx(-1.0 / 2.0)
    assert one.effective_sample_size == pytest.approx(9 / 5)
    assert (one.unsupported_share, one.unsupported_mass) == (0.25, 0.125)


def test_calibration_by_hand() -> None:
    row = np.repeat(np.arange(1000), 2)
    served = np.tile([0.3, 0.7], 1000)
    chosen = np.arange(1000) * 2 + (np.arange(1000) >= 400)  # 400 times the first, 600 times the second
    low, high = Calibration.of(row, served, chosen).buckets()
    assert (low.actions, low.expected, low.observed, low.variance) == pytest.approx((1000, 300, 400, 210))
    assert low.z == pytest.approx(100 / math.sqrt(210))
    assert high.z == pytest.approx(-100 / math.sqrt(210))
    halves = Calibration.of(row[:1000], served[:1000], chosen[:500]) + Calibration.of(
        row[1000:] - 500, served[1000:], chosen[500:] - 1000
    )
    for one, other in zip(halves.buckets(), (low, high), strict=True):
        assert astuple(one) == pytest.approx(astuple(other), rel=1e-9)
    assert "propensities are wrong" in log_faults((low, high), 0)[0]


def test_small_buckets_are_not_tested() -> None:
    (low, _) = Calibration.of(np.repeat(np.arange(5), 2), np.tile([0.3, 0.7], 5), np.arange(5) * 2).buckets()
    assert low.z is None


def test_offers_of_one_decision_in_one_bucket_are_no_independent_draws() -> None:
    """Two of 0.5 each: one of them is served for certain, so there is nothing to deviate."""
    (one,) = Calibration.of(np.array([0, 0]), np.array([0.5, 0.5]), np.array([0])).buckets()
    assert (one.expected, one.observed, one.variance) == (1.0, 1.0, 0.0)


def test_z_score_of_the_impossible() -> None:
    assert z_score(-1.0, 0.0) == -math.inf
    assert z_score(1e-12, 0.0) == 0.0


def test_verdicts() -> None:
    assert gate(SOUND, difference(0.01, 0.02)).verdict == "better"
    assert gate(SOUND, difference(-0.02, -0.01)).verdict == "worse"
    unclear = gate(SOUND, difference(-0.01, 0.02))
    assert unclear.verdict == "not_shown"
    assert "more decisions" in unclear.reasons[0]
    assert gate(SOUND, difference(0.0, 0.0)).verdict == "not_shown"
    assert gate(SOUND, difference(-math.inf, math.inf)).verdict == "not_shown"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mean_z": -3.4, "mean": 0.8}, "mean weight is 0.800"),
        ({"effective_sample_size": 99.0}, "about 100 more decisions"),
        ({"effective_sample_size": 150.0, "n": 20000}, "too heavy"),
        ({"unsupported_mass": 0.3, "unsupported_share": 0.3}, "30.0%"),
        ({"effective_sample_size": 0.0}, "not enough data"),
    ],
)
def test_refusals(change: dict[str, float], reason: str) -> None:
    judged = gate(replace(SOUND, **change), difference(0.01, 0.02))  # type: ignore[arg-type]
    assert judged.verdict == "refused"
    assert any(reason in one for one in judged.reasons)


def test_a_faulty_log_refuses_and_a_few_rewards_show_nothing() -> None:
    assert gate(SOUND, difference(0.01, 0.02), log_faults((), 3)).verdict == "refused"
    few = gate(replace(SOUND, effective_rewards=4.0), difference(0.01, 0.02))
    assert few.verdict == "not_shown"
    assert "65,000 more decisions" in few.reasons[0]
    assert (
        gate(
            replace(SOUND, effective_rewards=4.0),
            difference(0.01, 0.02),
            limits=GateLimits(least_effective_rewards=0.0),
        ).verdict
        == "better"
    )


def test_a_doubtful_mean_weight_warns() -> None:
    judged = gate(replace(SOUND, mean_z=2.5), difference(0.01, 0.02))
    assert judged.verdict == "better"
    assert judged.warnings
