"""Intervals: by hand, merging, and agreement of the two where both are good."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.bootstrap import BUCKETS, PoissonBootstrap
from evaluation.estimators import Ips, Snips
from evaluation.hashing import hash_ids
from evaluation.intervals import normal_interval


def test_normal_interval_by_hand() -> None:
    reward = np.array([1.0, 0.0, 1.0, 1.0])
    one = normal_interval(Ips.of(reward, np.ones(4), np.ones(4)), "ips")
    half = 1.959964 * 0.5 / 2
    assert (one.estimator, one.n, one.value) == ("ips", 4, 0.75)
    assert (one.low, one.high) == pytest.approx((0.75 - half, 0.75 + half), abs=1e-6)


def test_no_interval_without_spread() -> None:
    one = normal_interval(Ips.of(np.ones(1), np.ones(1), np.ones(1)), "ips")
    assert (one.low, one.high) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="level"):
        normal_interval(Ips.empty(), "ips", level=1.0)


def test_hashes_are_the_same_everywhere_and_even() -> None:
    assert hash_ids(["a", "b"]).tolist() == [hash_ids(["a"])[0], hash_ids(["b"])[0]]
    counts = np.bincount(hash_ids([f"d{n}" for n in range(40960)]) % BUCKETS, minlength=BUCKETS)
    assert abs(np.var(counts) / 10 - 1.0) < 0.1  # Poisson with mean 10


def test_bootstrap_agrees_with_the_normal_interval_and_merges() -> None:
    rng = np.random.default_rng(5)
    n = 20000
    propensity = rng.uniform(0.2, 0.8, n)
    reward = (rng.random(n) < 0.3).astype(float)
    target = rng.uniform(0.1, 0.7, n)
    weight = target / propensity
    hashes = hash_ids([f"d{number}" for number in range(n)])
    whole = PoissonBootstrap.of(hashes, weight, weight * reward)
    for numerator, denominator, point in (
        (2, 0, Ips.of(reward, propensity, target)),
        (2, 1, Snips.of(reward, propensity, target)),
    ):
        one = normal_interval(point, "x")
        ((low, high),) = whole.intervals((numerator, denominator), replicates=2000)
        assert low == pytest.approx(one.low, abs=0.1 * (one.high - one.low))
        assert high == pytest.approx(one.high, abs=0.1 * (one.high - one.low))
    merged = PoissonBootstrap.empty(2)
    for piece in np.array_split(np.arange(n), 37):
        merged += PoissonBootstrap.of(hashes[piece], weight[piece], (weight * reward)[piece])
    assert merged.intervals((2, 1))[0] == pytest.approx(whole.intervals((2, 1))[0], rel=1e-9)


def test_bootstrap_of_nothing() -> None:
    ((low, high),) = PoissonBootstrap.empty(1).intervals((1, 0))
    assert math.isnan(low)
    assert math.isnan(high)
