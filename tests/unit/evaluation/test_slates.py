"""Slates: weights by hand, and values that are exact when every slate is counted with its probability."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.arrays import FloatArray, IntArray
from evaluation.estimators import Ips, Snips
from evaluation.slates import (
    Slates,
    pseudo_inverse_weights,
    sequential_slates,
    slate_terms,
    slot_terms,
    slot_weights,
    summed_slots,
)

SERVED, TARGET = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])


def conditionals(slates: IntArray, probabilities: FloatArray) -> FloatArray:
    """Probability of each slot's action given those above it, (s, k)."""
    drawn = probabilities[slates]
    return drawn / (1.0 - np.cumsum(drawn, axis=1) + drawn)


def every_slate(reward: FloatArray) -> tuple[Slates, FloatArray, FloatArray]:
    """One decision for every slate of two slots, with the probabilities of the slates, logged and target."""
    slates, served = sequential_slates(SERVED, 2)
    _, target = sequential_slates(TARGET, 2)
    hashes = np.arange(len(slates))
    return Slates(hashes, reward, conditionals(slates, SERVED), conditionals(slates, TARGET)), served, target


def test_weights_by_hand() -> None:
    one = Slates(np.zeros(1, dtype=np.int64), np.array([[1.0, 4.0]]), np.array([[0.5, 0.25]]), np.array([[0.25, 0.5]]))
    assert slot_weights(one).tolist() == [[0.5, 1.0]]
    assert [Ips.of_terms(terms).value for terms in slot_terms(one)] == [0.5, 4.0]
    assert Ips.of_terms(slate_terms(one)).value == 5.0
    assert Ips.of_terms(slate_terms(one, np.array([3.0]))).value == 3.0
    assert Snips.of_terms(slot_terms(one)[1]).value == 4.0
    assert summed_slots(one).tolist() == [4.5]


def test_slots_and_slates_are_unbiased_whatever_the_slots_do_to_each_other() -> None:
    """The mean over all slates, weighted by the logged probabilities, is the value under the target."""
    reward = np.random.default_rng(0).random((12, 2))
    # What a slot above earns cannot depend on what is drawn below it.
    first = sequential_slates(SERVED, 2)[0][:, 0]
    reward[:, 0] = np.array([0.3, 0.1, 0.8, 0.5])[first]
    slates, served, target = every_slate(reward)
    for slot, terms in enumerate(slot_terms(slates)):
        assert served @ (terms.weight * terms.reward) == pytest.approx(target @ reward[:, slot], rel=1e-12)
    assert served @ summed_slots(slates) == pytest.approx(target @ reward.sum(axis=1), rel=1e-12)
    whole = slate_terms(slates, np.arange(12.0))
    assert served @ (whole.weight * whole.reward) == pytest.approx(target @ np.arange(12.0), rel=1e-12)
    assert whole.largest_weight == whole.weight.max()


def test_slates_are_listed_once_with_their_probability() -> None:
    slates, chance = sequential_slates(SERVED, 3)
    assert len({tuple(one) for one in slates.tolist()}) == len(slates) == 24
    assert chance.sum() == pytest.approx(1.0)
    place = slates.tolist().index([2, 0, 1])
    assert chance[place] == pytest.approx(0.15 * 0.5 / 0.85 * 0.3 / 0.35)


def test_actions_of_probability_zero_come_last() -> None:
    slates, chance = sequential_slates(np.array([0.6, 0.4, 0.0]), 2)
    found = {tuple(one): float(p) for one, p in zip(slates.tolist(), chance, strict=True)}
    assert found[0, 1] == pytest.approx(0.6)
    assert found[1, 0] == pytest.approx(0.4)
    assert sum(p for one, p in found.items() if 2 in one) == 0.0


def test_pseudo_inverse_is_unbiased_for_sums_of_parts() -> None:
    """And its weights vary less than half as much as those of whole slates."""
    slates, served = sequential_slates(np.full(6, 1.0 / 6.0), 3)
    _, target = sequential_slates(np.array([0.5, 0.3, 0.1, 0.05, 0.03, 0.02]), 3)
    parts = np.random.default_rng(1).normal(size=(3, 6))
    reward = parts[np.arange(3), slates].sum(axis=1)
    weight = pseudo_inverse_weights(slates, served, target)
    assert served @ (weight * reward) == pytest.approx(target @ reward, rel=1e-9)
    assert served @ weight == pytest.approx(1.0, rel=1e-9)
    assert served @ weight**2 - 1.0 < 0.5 * (served @ (target / served) ** 2 - 1.0)


def test_pseudo_inverse_is_biased_where_slots_act_on_each_other() -> None:
    slates, served = sequential_slates(SERVED, 2)
    _, target = sequential_slates(TARGET, 2)
    together = ((slates == [3, 2]).all(axis=1)).astype(np.float64)
    weight = pseudo_inverse_weights(slates, served, target)
    assert abs(served @ (weight * together) - target @ together) > 0.01


def test_equal_policies_have_weights_of_one() -> None:
    slates, served = sequential_slates(SERVED, 2)
    assert pseudo_inverse_weights(slates, served, served) == pytest.approx(np.ones(12))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="5 slots"):
        sequential_slates(SERVED, 5)
    with pytest.raises(ValueError, match="too many"):
        sequential_slates(np.full(50, 0.02), 3)
    with pytest.raises(ValueError, match="one shape"):
        Slates(np.zeros(2, dtype=np.int64), np.zeros((2, 2)), np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="propensity"):
        slot_weights(Slates(np.zeros(1, dtype=np.int64), np.zeros((1, 1)), np.zeros((1, 1)), np.ones((1, 1))))
    slates, served = sequential_slates(np.array([0.5, 0.5, 0.0]), 1)
    with pytest.raises(ValueError, match="never does"):
        pseudo_inverse_weights(slates, served, np.array([0.2, 0.2, 0.6]))
