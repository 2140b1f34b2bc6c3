"""Poisson bootstrap: what a replicate is, agreement with normal intervals, merging."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.bootstrap import BUCKETS, PoissonBootstrap, estimator_interval
from evaluation.estimators import ESTIMATORS, columns_of
from evaluation.hashing import hash_ids
from evaluation.intervals import normal_interval
from evaluation.ratio_sums import RatioSums
from evaluation.terms import Terms


def log(n: int, seed: int = 5, offset: float = 0.0) -> Terms:
    rng = np.random.default_rng(seed)
    return Terms.of(
        np.where(rng.random(n) < 0.3, 1.0, 0.0) + offset,
        rng.uniform(0.2, 0.8, n),
        rng.uniform(0.1, 0.7, n),
        rng.random(n),
        rng.random(n),
        hash_ids([f"d{number}" for number in range(n)]),
    )


KEYS = [key for key in ESTIMATORS if key != "mrdr"]


@pytest.mark.parametrize("key", KEYS)
def test_agrees_with_the_normal_interval_where_that_is_good(key: str) -> None:
    """20,000 decisions of light weights: both ends within a tenth of the width."""
    terms, columns = log(20000), columns_of([key])
    table = columns.table(terms)
    one = normal_interval(ESTIMATORS[key](RatioSums.of(columns, table)), key)
    drawn = PoissonBootstrap.of(terms.hashes, *table).replicates()
    low, high = estimator_interval(columns, drawn, ESTIMATORS[key].ratios)
    assert low == pytest.approx(one.low, abs=0.1 * (one.high - one.low))
    assert high == pytest.approx(one.high, abs=0.1 * (one.high - one.low))


def test_columns_by_place_are_columns_by_name() -> None:
    terms, columns = log(3000), columns_of(["ips", "snips"])
    boot = PoissonBootstrap.of(terms.hashes, *columns.table(terms))
    drawn = boot.replicates(500, seed=3)
    expected = [estimator_interval(columns, drawn, ESTIMATORS[key].ratios, 0.9) for key in ("ips", "snips")]
    assert boot.intervals((2, 0), (2, 1), level=0.9, replicates=500, seed=3) == expected


def test_a_bucket_is_drawn_as_one() -> None:
    """In every replicate a bucket's columns carry one whole weight; weights have mean 1 and variance 1."""
    hashes = np.arange(BUCKETS)
    drawn = PoissonBootstrap.of(hashes[:1], np.array([0.5])).replicates(4000)
    assert np.all(drawn[:, 0] == np.round(drawn[:, 0]))
    assert drawn[:, 1] == pytest.approx(0.5 * drawn[:, 0])
    assert drawn[:, 0].mean() == pytest.approx(1.0, abs=0.08)
    assert drawn[:, 0].var() == pytest.approx(1.0, abs=0.15)
    every = PoissonBootstrap.of(hashes).replicates(1000)[:, 0]
    assert every.mean() == pytest.approx(BUCKETS, rel=0.003)
    assert every.var() == pytest.approx(BUCKETS, rel=0.2)


def test_self_normalised_estimators_renormalise_in_every_replicate() -> None:
    """With one reward for all, SNIPS is that reward in each replicate, and IPS is not."""
    terms, columns = log(1000), columns_of(["ips", "snips"])
    constant = Terms.of(np.full(1000, 0.25), np.full(1000, 0.5), terms.q_target, hashes=terms.hashes)
    drawn = PoissonBootstrap.of(terms.hashes, *columns.table(constant)).replicates(300)
    assert estimator_interval(columns, drawn, ESTIMATORS["snips"].ratios) == pytest.approx((0.25, 0.25), rel=1e-12)
    low, high = estimator_interval(columns, drawn, ESTIMATORS["ips"].ratios)
    assert high - low > 0.01


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_any_split_gives_the_same(offset: float) -> None:
    terms, columns = log(20000, offset=offset), columns_of(KEYS)
    table = columns.table(terms)
    whole, merged = PoissonBootstrap.of(terms.hashes, *table), PoissonBootstrap.empty(len(columns.names))
    for piece in np.array_split(np.random.default_rng(0).permutation(20000), 37):
        merged += PoissonBootstrap.of(terms.hashes[piece], *table[:, piece])
    for key in KEYS:
        ratios = ESTIMATORS[key].ratios
        one = estimator_interval(columns, whole.replicates(200), ratios)
        assert estimator_interval(columns, merged.replicates(200), ratios) == pytest.approx(one, rel=1e-9), key


def test_the_seed_decides() -> None:
    terms = log(500)
    boot = PoissonBootstrap.of(terms.hashes, terms.weight)
    assert boot.intervals((1, 0), seed=1) == boot.intervals((1, 0), seed=1)
    assert boot.intervals((1, 0), seed=1) != boot.intervals((1, 0), seed=2)


def test_nothing_has_no_interval() -> None:
    ((low, high),) = PoissonBootstrap.empty(1).intervals((1, 0))
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
def test_impossible_levels_are_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        PoissonBootstrap.empty(1).intervals((1, 0), level=level)
