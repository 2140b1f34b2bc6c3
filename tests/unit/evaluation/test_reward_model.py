"""Reward model: smoothed rates by hand, own fold left out, merging."""

from __future__ import annotations

import numpy as np
import pytest

from contextual_bandit.types import Action
from evaluation.hashing import hash_ids
from evaluation.reward_model import FOLDS, CrossFittedRates, by_category, by_offer, fold_of


def test_smoothed_rate_by_hand() -> None:
    fold, key = np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1])
    model = CrossFittedRates(smoothing=2.0).learned(fold, key, np.array([1.0, 1.0, 0.0, 1.0]))
    # mean 3/4; (2 + 2 * 0.75) / 4, (1 + 1.5) / 4, and the mean for a key never seen
    assert model.rates(np.array([1, 1, 1]), np.array([0, 1, 9])) == pytest.approx([0.875, 0.625, 0.75])


def test_a_decisions_own_fold_is_left_out() -> None:
    model = CrossFittedRates().learned(np.array([2]), np.array([0]), np.array([1.0]))
    assert model.rates(np.array([2]), np.array([0])) == pytest.approx([0.0])
    assert model.rates(np.array([3]), np.array([0])) == pytest.approx([1.0])


def test_merges() -> None:
    rng = np.random.default_rng(1)
    fold, key, reward = rng.integers(0, FOLDS, 500), rng.integers(0, 9, 500), rng.random(500)
    whole = CrossFittedRates().learned(fold, key, reward)
    parts = CrossFittedRates().learned(fold[:3], key[:3], reward[:3]) + CrossFittedRates().learned(
        fold[3:], key[3:], reward[3:]
    )
    assert parts.rates(fold, key) == pytest.approx(whole.rates(fold, key), rel=1e-12)


def test_folds_are_even_and_keys_fall_back_to_the_offer() -> None:
    folds = np.bincount(fold_of(hash_ids([f"d{n}" for n in range(10000)])), minlength=FOLDS)
    assert folds == pytest.approx(np.full(FOLDS, 2000), rel=0.1)
    assert by_category(Action("x", {"category": "snacks"})) == "category:snacks"
    assert by_category(Action("x", {})) == by_offer(Action("x", {})) == "x"
