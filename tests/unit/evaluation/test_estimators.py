"""Estimators: numbers checkable by hand, and the same result for any split of a log."""

from __future__ import annotations

import doctest
import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import audit, diagnostics, estimators
from evaluation.arrays import FloatArray
from evaluation.columns import Hyperparameters
from evaluation.estimators import (
    ESTIMATORS,
    ClippedIps,
    DirectMethod,
    DoublyRobust,
    Ips,
    MoreRobustDoublyRobust,
    PairedDifference,
    SelfNormalisedDoublyRobust,
    ShrunkDoublyRobust,
    Snips,
    SwitchDoublyRobust,
    columns_of,
)
from evaluation.ratio_sums import RatioSums
from evaluation.terms import Terms

REWARD = np.array([1.0, 0.0, 1.0, 0.0])
PROPENSITY = np.array([0.5, 0.5, 0.25, 0.8])
TARGET = np.array([0.25, 1.0, 0.5, 0.0])
WEIGHT = np.array([0.5, 2.0, 2.0, 0.0])


@pytest.mark.parametrize("module", [audit, diagnostics, estimators])
def test_examples_in_docstrings(module: Any) -> None:
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def test_ips_by_hand() -> None:
    one = Ips.of(REWARD, PROPENSITY, TARGET)
    assert one.n == 4
    assert one.value == pytest.approx((0.5 + 2.0) / 4)
    assert one.standard_error == pytest.approx(np.std(WEIGHT * REWARD, ddof=1) / 2)
    assert one.effective_sample_size == pytest.approx(4.5**2 / 8.25)


def test_snips_by_hand() -> None:
    one = Snips.of(REWARD, PROPENSITY, TARGET)
    assert one.value == pytest.approx(2.5 / 4.5)
    residual = WEIGHT * (REWARD - 2.5 / 4.5)
    assert one.standard_error == pytest.approx(math.sqrt(np.sum(residual**2) / 3 / 4) / (4.5 / 4))


def test_snips_ignores_a_shift_of_all_rewards() -> None:
    shifted = Snips.of(REWARD + 7.0, PROPENSITY, TARGET)
    assert shifted.value == pytest.approx(Snips.of(REWARD, PROPENSITY, TARGET).value + 7.0)


def test_doubly_robust_by_hand() -> None:
    q_chosen, q_target = np.array([0.5, 0.1, 0.9, 0.2]), np.array([0.4, 0.1, 0.7, 0.3])
    one = DoublyRobust.of(REWARD, PROPENSITY, TARGET, q_chosen, q_target)
    assert one.value == pytest.approx(np.mean(q_target + WEIGHT * (REWARD - q_chosen)))
    assert DirectMethod.of(q_target).value == pytest.approx(0.375)


def test_doubly_robust_without_a_model_is_ips() -> None:
    zero = np.zeros(4)
    robust, plain = DoublyRobust.of(REWARD, PROPENSITY, TARGET, zero, zero), Ips.of(REWARD, PROPENSITY, TARGET)
    assert (robust.value, robust.standard_error) == (plain.value, plain.standard_error)


def test_equal_policies_differ_by_exactly_nothing() -> None:
    term = np.array([0.1, 0.7, 0.3])
    one = PairedDifference.of(np.ones(3), term, term)
    assert (one.value, one.standard_error) == (0.0, 0.0)


def test_nothing_is_no_estimate() -> None:
    assert math.isnan(Ips.empty().value)
    assert Ips.empty().standard_error == math.inf
    assert math.isnan(Snips.of(REWARD, PROPENSITY, np.zeros(4)).value)
    assert Snips.of(REWARD, PROPENSITY, np.zeros(4)).standard_error == math.inf
    assert Ips.of(REWARD, PROPENSITY, np.zeros(4)).effective_sample_size == 0.0


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, math.nan])
def test_impossible_propensities_are_refused(propensity: float) -> None:
    with pytest.raises(ValueError, match="propensity"):
        Ips.of(np.array([1.0]), np.array([propensity]), np.array([0.5]))


def test_rewards_must_be_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        Ips.of(np.array([math.nan]), np.array([0.5]), np.array([0.5]))


def terms(n: int, seed: int = 0, offset: float = 0.0) -> Terms:
    """Decisions with everything that any estimator needs; weights from 0 to some 50, rewards of spread 1."""
    rng = np.random.default_rng(seed)
    return replace(
        Terms.of(
            rng.normal(offset, 1.0, n),
            rng.uniform(0.02, 1.0, n),
            rng.uniform(0.0, 1.0, n),
            rng.random(n),
            rng.random(n),
        ),
        mrdr_chosen=rng.random(n),
        mrdr_target=rng.random(n),
    )


def pieces_of(whole: Terms, cuts: Sequence[int]) -> list[Terms]:
    """The same decisions as several terms."""
    names = ("hashes", "reward", "weight", "q_chosen", "q_target", "mrdr_chosen", "mrdr_target")
    split: dict[str, list[Any]] = {name: np.split(getattr(whole, name), cuts) for name in names}
    return [replace(whole, **{name: split[name][place] for name in names}) for place in range(len(cuts) + 1)]


def ratio_influence(above: FloatArray, below: FloatArray) -> FloatArray:
    """What each decision moves a ratio of sums by, times n."""
    return np.asarray((above - above.sum() / below.sum() * below) / below.mean())


def test_every_estimator_by_hand() -> None:
    """Value and standard error by the formulas, written down a second time."""
    one = terms(500)
    assert one.mrdr_chosen is not None
    assert one.mrdr_target is not None
    reward, weight, model, count = one.reward, one.weight, one.q_target, np.ones(500)
    residual = reward - one.q_chosen
    shrunk = 7.0 * weight / (weight**2 + 7.0)
    expected: dict[str, list[tuple[FloatArray, FloatArray]]] = {
        "ips": [(weight * reward, count)],
        "snips": [(weight * reward, weight)],
        "clipped_ips": [(np.clip(weight, 0.0, 3.0) * reward, count)],
        "dm": [(model, count)],
        "dr": [(model + weight * residual, count)],
        "sndr": [(model, count), (weight * residual, weight)],
        "switch_dr": [(model + np.where(weight > 2.0, 0.0, weight * residual), count)],
        "dros": [(model + shrunk * residual, count)],
        "mrdr": [(one.mrdr_target + weight * (reward - one.mrdr_chosen), count)],
    }
    assert list(expected) == list(ESTIMATORS)
    for key, ratios in expected.items():
        found = ESTIMATORS[key].of_terms(one, Hyperparameters(clip=3.0, switch_tau=2.0, dros_lambda=7.0))
        influence = np.sum([ratio_influence(*ratio) for ratio in ratios], axis=0)
        assert found.value == pytest.approx(sum(above.sum() / below.sum() for above, below in ratios), rel=1e-12), key
        assert found.standard_error == pytest.approx(np.std(influence, ddof=1) / math.sqrt(500), rel=1e-10), key


def test_shared_sums_give_what_each_estimator_gives_alone() -> None:
    one, columns = terms(300), columns_of(ESTIMATORS)
    shared = RatioSums.of(columns, columns.table(one))
    for key, estimator in ESTIMATORS.items():
        together, alone = estimator(shared), estimator.of_terms(one)
        assert together.value == pytest.approx(alone.value, rel=1e-12), key
        assert together.standard_error == pytest.approx(alone.standard_error, rel=1e-12), key
        assert together.effective_sample_size == pytest.approx(alone.effective_sample_size, rel=1e-12), key


def test_arrays_and_terms_are_the_same_to_every_estimator_of_a_model() -> None:
    q_chosen, q_target = np.array([0.5, 0.1, 0.9, 0.2]), np.array([0.4, 0.1, 0.7, 0.3])
    one = replace(Terms.of(REWARD, PROPENSITY, TARGET, q_chosen, q_target), mrdr_chosen=q_chosen, mrdr_target=q_target)
    for estimator in (
        DoublyRobust, SelfNormalisedDoublyRobust, SwitchDoublyRobust, ShrunkDoublyRobust, MoreRobustDoublyRobust,
    ):  # fmt: skip
        assert estimator.of(REWARD, PROPENSITY, TARGET, q_chosen, q_target).value == estimator.of_terms(one).value
    assert ClippedIps.of(REWARD, PROPENSITY, TARGET, Hyperparameters(clip=1.0)).value == pytest.approx(1.5 / 4)


def test_limits_of_the_hyperparameters() -> None:
    """Bounds that bind nowhere leave DR and IPS; bounds that bind everywhere leave the model."""
    one = terms(200)
    loose, tight = Hyperparameters(1e9, 1e9, 1e15), Hyperparameters(1e-9, 1e-9, 1e-15)
    robust, model = DoublyRobust.of_terms(one).value, DirectMethod.of_terms(one).value
    assert ClippedIps.of_terms(one, loose).value == pytest.approx(Ips.of_terms(one).value)
    for estimator in (SwitchDoublyRobust, ShrunkDoublyRobust):
        assert estimator.of_terms(one, loose).value == pytest.approx(robust)
        assert estimator.of_terms(one, tight).value == pytest.approx(model, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("name", ["clip", "switch_tau", "dros_lambda"])
def test_impossible_hyperparameters_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} {value}"):
        Hyperparameters(**{name: value})


def test_what_does_not_fit_is_refused() -> None:
    plain = Terms.of(REWARD, PROPENSITY, TARGET)
    with pytest.raises(ValueError, match="mrdr"):
        ESTIMATORS["mrdr"].of_terms(plain)
    with pytest.raises(ValueError, match="'dr2' is not among ips"):
        columns_of(["ips", "dr2"])
    with pytest.raises(ValueError, match="do not add"):
        RatioSums.empty(columns_of(["ips"])) + RatioSums.empty(columns_of(["dm"]))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(20, 400),
    offset=st.sampled_from([0.0, 1.0, -1e3, 1e6]),
    places=st.lists(st.integers(0, 400), max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_any_split_in_any_order_gives_the_same(
    seed: int, n: int, offset: float, places: list[int], order: Random
) -> None:
    """1e-9 relative for value and standard error of every estimator, also with rewards of a million."""
    whole, columns = terms(n, seed, offset), columns_of(ESTIMATORS)
    pieces = pieces_of(whole, sorted(min(place, n) for place in places))
    order.shuffle(pieces)
    merged = RatioSums.empty(columns)
    for piece in pieces:
        merged += RatioSums.of(columns, columns.table(piece))
    at_once = RatioSums.of(columns, columns.table(whole))
    for key, estimator in ESTIMATORS.items():
        one, other = estimator(at_once), estimator(merged)
        assert other.n == one.n == n
        assert other.value == pytest.approx(one.value, rel=1e-9, abs=1e-12), key
        assert other.standard_error == pytest.approx(one.standard_error, rel=1e-9), key
        assert other.effective_sample_size == pytest.approx(one.effective_sample_size, rel=1e-9), key


def test_decisions_one_by_one_forwards_and_backwards() -> None:
    whole, columns = terms(3000, offset=1e6), columns_of(ESTIMATORS)
    singles = [RatioSums.of(columns, columns.table(one)) for one in pieces_of(whole, range(1, 3000))]
    at_once = RatioSums.of(columns, columns.table(whole))
    forwards, backwards = RatioSums.empty(columns), RatioSums.empty(columns)
    for one in singles:
        forwards, backwards = forwards + one, one + backwards
    for key, estimator in ESTIMATORS.items():
        for merged in (forwards, backwards):
            assert estimator(merged).value == pytest.approx(estimator(at_once).value, rel=1e-9), key
            assert estimator(merged).standard_error == pytest.approx(estimator(at_once).standard_error, rel=1e-9), key


def test_large_rewards_leave_the_error_of_snips_exact() -> None:
    """The spread is 1 at rewards of a million: moments that were not told of the weights would lose half the digits."""
    near, far = Snips.of_terms(terms(1000)), Snips.of_terms(terms(1000, offset=1e6))
    assert far.value == pytest.approx(near.value + 1e6, rel=1e-14)
    assert far.standard_error == pytest.approx(near.standard_error, rel=1e-8)
