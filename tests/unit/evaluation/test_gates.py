"""The gate: each reason to refuse, what is not shown and why, and the four bars on logs with a known fault."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from contextual_bandit.types import Estimate
from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.default_interval import OWN_EXPECTATION
from evaluation.diagnostics import LogDiagnostics, log_faults
from evaluation.gates import Gate, gate
from evaluation.significance import GateLimits, skewed_limit
from evaluation.weights import WeightDiagnostics, Weights

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


def difference(low: float, high: float, interval: str = "normal", reliable: bool = True) -> Estimate:
    return Estimate("dr difference", (low + high) / 2, low, high, 10000, 2000.0, interval, reliable)


BETTER = difference(0.01, 0.02)


def chunk(true: FloatArray, logged: FloatArray | None = None, *, chosen_only: bool = False) -> Chunk:
    """A log that draws from ``true``, (n, k), and writes ``logged`` down."""
    logged = true if logged is None else logged
    n, k = true.shape
    draws = np.random.default_rng(4).random((n, 1))
    place = np.minimum((draws > np.cumsum(true, axis=1)).sum(axis=1), k - 1)
    first = np.arange(n) * k
    return Chunk(
        hashes=np.arange(n),
        reward=np.tile([0.0, 1.0], n // 2),
        propensity=logged[np.arange(n), place],
        at=np.datetime64("2026-03-01") + np.arange(n).astype("timedelta64[m]"),
        row=np.repeat(np.arange(n), k),
        first=first,
        chosen=first + place,
        offer=np.tile(np.arange(k), n),
        codes={name: index for index, name in enumerate("abc"[:k])},
        served=None if chosen_only else logged.ravel(),
        decisions=(),
    )


def flat(*probabilities: float, n: int = 4000) -> FloatArray:
    return np.tile(probabilities, (n, 1))


def judged(log: Chunk, target: FloatArray) -> Gate:
    found = LogDiagnostics.of(log).findings()
    return gate(Weights.of_chunk(log, target.ravel()).result, BETTER, found.faults, doubts=found.doubts)


@pytest.mark.parametrize("chosen_only", [False, True])
class TestBars:
    """The four bars, with an interval that would say "better"."""

    def test_heavy_weights(self, chosen_only: bool) -> None:
        """Always what was served once in a thousand."""
        found = judged(chunk(flat(0.999, 0.001), chosen_only=chosen_only), flat(0.0, 1.0))
        assert found.verdict == "refused"
        assert any("not enough data" in reason for reason in found.reasons)

    def test_missing_support(self, chosen_only: bool) -> None:
        """A third of the mass on an offer that was never served leaves the effective sample size perfect."""
        log, target = chunk(flat(0.5, 0.5, 0.0), chosen_only=chosen_only), flat(1 / 3, 1 / 3, 1 / 3)
        assert Weights.of_chunk(log, target.ravel()).result.effective_sample_size == pytest.approx(4000)
        found = judged(log, target)
        assert found.verdict == "refused"
        assert found.reasons[0].startswith("not supported")

    def test_a_wrong_propensity(self, chosen_only: bool) -> None:
        log = chunk(flat(0.4, 0.35, 0.25), flat(0.5, 0.3, 0.2), chosen_only=chosen_only)
        found = judged(log, flat(1 / 3, 1 / 3, 1 / 3))
        assert found.verdict == "refused"
        assert any(reason.startswith("calibration") for reason in found.reasons)

    def test_a_policy_that_equals_the_logger(self, chosen_only: bool) -> None:
        log = chunk(flat(0.4, 0.35, 0.25), chosen_only=chosen_only)
        found = LogDiagnostics.of(log).findings()
        weights = Weights.of_chunk(log, flat(0.4, 0.35, 0.25).ravel()).result
        same = gate(weights, difference(0.0, 0.0), found.faults, doubts=found.doubts)
        assert same.verdict == "not_shown"
        assert "the same probabilities" in same.reasons[0]


def test_a_heavy_weight_that_was_never_drawn_is_refused() -> None:
    """Half the mass on what has probability 1 in 100,000: no weight of 50,000 is in the log, all look alike."""
    log, target = chunk(flat(0.99999, 0.00001)), flat(0.5, 0.5)
    weights = Weights.of_chunk(log, target.ravel()).result
    assert weights.effective_sample_size == pytest.approx(4000)
    assert weights.largest_possible == pytest.approx(50000)
    found = judged(log, target)
    assert found.verdict == "refused"
    assert any("drawn or not" in reason for reason in found.reasons)


def test_verdicts() -> None:
    assert gate(SOUND, BETTER).verdict == "better"
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
        ({"mean_z": 3.4, "mean": 1.2}, "calibration: mean weight is 1.200"),
        ({"propensity_z": -3.4, "mean": 0.8}, "calibration: mean weight is 0.800"),
        ({"n": 5000, "effective_sample_size": 99.0}, "about 51 more decisions"),
        ({"n": 5000, "expected_effective_sample_size": 99.0}, "about 51 more decisions"),
        ({"effective_sample_size": 150.0, "n": 20000}, "too heavy"),
        ({"unsupported_mass": 0.3, "unsupported_share": 0.3}, "not supported: 30.0%"),
        ({"effective_sample_size": 0.0}, "not enough data"),
    ],
)
def test_refusals(change: dict[str, float], reason: str) -> None:
    found = gate(replace(SOUND, **change), BETTER)  # type: ignore[arg-type]
    assert found.verdict == "refused"
    assert any(reason in one for one in found.reasons), found.reasons


def test_doubts_count_when_the_mean_weight_is_off() -> None:
    doubts = ("calibration: offer a",)
    assert gate(SOUND, BETTER, doubts=doubts).verdict == "better"
    assert doubts[0] in gate(replace(SOUND, mean_z=-3.4), BETTER, doubts=doubts).reasons


def test_a_faulty_log_refuses_and_a_few_rewards_show_nothing() -> None:
    assert gate(SOUND, BETTER, log_faults((), 3)).verdict == "refused"
    few = replace(SOUND, effective_rewards=4.0)
    found = gate(few, BETTER)
    assert found.verdict == "not_shown"
    assert "65,000 more decisions" in found.reasons[0]
    assert gate(few, BETTER, limits=GateLimits(least_effective_rewards=0.0)).verdict == "better"


def test_an_interval_that_judges_itself_needs_no_rule_for_rewards() -> None:
    few = replace(SOUND, effective_rewards=4.0)
    assert gate(few, difference(0.01, 0.02, "gamma")).verdict == "better"
    found = gate(few, difference(0.01, 0.02, "gamma", reliable=False))
    assert found.verdict == "not_shown"
    assert found.reasons[0].startswith("not enough data")
    assert "65,000 more decisions" in found.reasons[0]
    assert "first try" in gate(SOUND, difference(0.01, 0.02, "gamma", reliable=False)).reasons[0]


def test_a_biased_estimator_shows_nothing_and_more_data_is_not_asked_for() -> None:
    found = gate(SOUND, difference(0.01, 0.02, OWN_EXPECTATION, reliable=False))
    assert found.verdict == "not_shown"
    assert "biased" in found.reasons[0]
    assert "more decisions" not in found.reasons[0]


def test_estimated_propensities_show_nothing_but_are_refused_for_other_reasons() -> None:
    found = gate(SOUND, BETTER, estimated=True)
    assert found.verdict == "not_shown"
    assert "estimates" in found.reasons[0]
    assert gate(SOUND, BETTER, ("a fault",), estimated=True).verdict == "refused"


def test_a_doubtful_mean_weight_warns() -> None:
    found = gate(replace(SOUND, mean_z=2.5), BETTER)
    assert found.verdict == "better"
    assert found.warnings
    assert not gate(replace(SOUND, mean_z=1.9), BETTER).warnings


def test_a_skewed_sum_may_go_farther_up_but_not_down() -> None:
    """One draw of a weight of 100 among 10,000 decisions is no fault; as far below is."""
    heavy = replace(SOUND, largest_possible=100.0, variance=10000.0)
    assert skewed_limit(3.3, 100.0, 10000.0) > 4.9
    assert gate(replace(heavy, mean_z=4.0), BETTER).verdict == "better"
    assert gate(replace(heavy, mean_z=-4.0), BETTER).verdict == "refused"
