"""Calibration by bucket and by group: numbers by hand, and what each check alone can see."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest

from evaluation.arrays import FloatArray, IntArray
from evaluation.calibration import Calibration, bucket_faults
from evaluation.chunks import Chunk
from evaluation.group_calibration import GroupCalibration
from evaluation.significance import bonferroni_z, z_score


def log(chosen: IntArray, propensity: FloatArray, served: FloatArray | None, names: str = "ab") -> Chunk:
    """Two offers, both always eligible."""
    n = len(chosen)
    return Chunk(
        hashes=np.arange(n), reward=np.zeros(n), propensity=propensity, at=np.full(n, np.datetime64("2026-03-01")),
        row=np.repeat(np.arange(n), 2), first=np.arange(n) * 2, chosen=np.arange(n) * 2 + chosen,
        offer=np.tile([0, 1], n), codes={name: index for index, name in enumerate(names)}, served=served, decisions=(),
    )  # fmt: skip


def test_buckets_by_hand() -> None:
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
    assert bucket_faults((low, high))[0].startswith("calibration: offers logged with probability 0.2 to 0.35")
    assert "propensities are wrong" in bucket_faults((low, high))[1]


def test_small_buckets_are_not_tested() -> None:
    (low, _) = Calibration.of(np.repeat(np.arange(5), 2), np.tile([0.3, 0.7], 5), np.arange(5) * 2).buckets()
    assert low.z is None


def test_offers_of_one_decision_in_one_bucket_are_no_independent_draws() -> None:
    """Two of 0.5 each: one of them is served for certain, so there is nothing to deviate."""
    (one,) = Calibration.of(np.array([0, 0]), np.array([0.5, 0.5]), np.array([0])).buckets()
    assert (one.expected, one.observed, one.variance) == (1.0, 1.0, 0.0)


def test_what_cannot_vary_is_wrong_for_certain() -> None:
    """Written as certain, and the other one was served."""
    buckets = Calibration.of(np.repeat(np.arange(10), 2), np.tile([0.0, 1.0], 10), np.arange(10) * 2).buckets()
    assert [one.z for one in buckets] == [math.inf, -math.inf]


def test_scores() -> None:
    assert z_score(-1.0, 0.0) == -math.inf
    assert z_score(1e-12, 0.0) == 0.0
    assert bonferroni_z(4.0, 1) == pytest.approx(4.0)


def test_groups_by_hand_with_all_probabilities() -> None:
    chosen = (np.arange(1000) >= 400).astype(np.int64)
    chunk = log(chosen, np.where(chosen, 0.7, 0.3), np.tile([0.3, 0.7], 1000))
    b, a = GroupCalibration.by_offer(chunk).checks()
    assert (a.name, a.eligible, a.observed, a.expected, a.finding) == ("a", 1000, 400, pytest.approx(300), "too often")
    assert a.ratio == pytest.approx(400 / 300)
    assert a.z == pytest.approx(100 / math.sqrt(210))
    assert b.finding == "too rarely"
    assert [one.name for one in GroupCalibration.by_position(chunk).checks()] == ["action 2", "action 1"]


def test_groups_by_hand_with_one_probability() -> None:
    chosen = (np.arange(1000) >= 400).astype(np.int64)
    offers = GroupCalibration.by_offer(log(chosen, np.where(chosen, 0.7, 0.3), None))
    checks = {one.name: one for one in offers.checks()}
    surplus, variance = 400 / 0.3 - 1000, 400 * (1 / 0.09 - 1 / 0.3)
    assert checks["a"].expected is None
    assert checks["a"].z == pytest.approx(surplus / math.sqrt(variance))
    assert (checks["a"].finding, checks["b"].finding) == ("too often", "too rarely")


def test_errors_that_cancel_in_the_buckets_show_by_offer() -> None:
    """Both offers are written down as 0.5, so one of the bucket is always served; but it is hardly ever the second."""
    chosen = (np.random.default_rng(0).random(4000) < 0.2).astype(np.int64)
    chunk = log(chosen, np.full(4000, 0.5), np.full(8000, 0.5))
    assert bucket_faults(Calibration.of(chunk.row, np.full(8000, 0.5), chunk.chosen).buckets()) == ()
    assert {one.finding for one in GroupCalibration.by_offer(chunk).checks()} == {"too often", "too rarely"}


def test_probabilities_that_are_too_small_show_without_the_others() -> None:
    """Two actions with 0.4 each: the sum of 1/p would say that there were two and a half."""
    rng = np.random.default_rng(1)
    chosen = (rng.random(3000) < 0.5).astype(np.int64)
    checks = GroupCalibration.by_probability(log(chosen, np.full(3000, 0.4), None)).checks()
    assert {one.name for one in checks if one.finding == "too often"} == {"0.35 to 0.5", "all"}
    right = GroupCalibration.by_probability(log(chosen, np.full(3000, 0.5), None)).checks()
    assert {one.finding for one in right} <= {"right", "not tested"}
    rounded = GroupCalibration.by_probability(log(chosen, np.full(3000, 0.499), None)).checks()
    assert {one.finding for one in rounded} <= {"right", "not tested"}


def test_groups_of_two_logs_add_by_name() -> None:
    chosen = np.array([0, 1, 1])
    one = GroupCalibration.by_offer(log(chosen, np.full(3, 0.5), np.full(6, 0.5), "ab"))
    other = GroupCalibration.by_offer(log(chosen, np.full(3, 0.5), np.full(6, 0.5), "ba"))
    both = {check.name: check.observed for check in (one + other).checks()}
    assert both == {"a": 3, "b": 3}
    assert (GroupCalibration.empty("offer") + one).names == ("a", "b")
