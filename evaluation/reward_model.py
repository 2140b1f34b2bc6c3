"""What a reward model is, and the plainest one: cross-fitted smoothed rates, a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np

from contextual_bandit.types import Action
from evaluation.arrays import FloatArray, IntArray
from evaluation.chunks import Chunk

FOLDS = 5


class RewardModel(Protocol):
    """What the direct and the doubly robust estimators need of a model."""

    def predict(self, chunk: Chunk) -> FloatArray:
        """Learn from a chunk, and predict the mean reward of each of its pairs, (m,), without the pair's own reward.

        Called once for each chunk, in order.
        """


def by_offer(action: Action) -> str:
    """One rate per offer."""
    return action.offer_id


def by_category(action: Action) -> str:
    """One rate per offer category (feature ``category``); the offer itself where it has none."""
    category = action.features.get("category")
    return action.offer_id if category is None else f"category:{category}"


def fold_of(hashes: IntArray) -> IntArray:
    """Fold of each decision by hash, independent of its bootstrap bucket, shape (n,)."""
    return (hashes >> 20) % FOLDS


def _zeros() -> FloatArray:
    return np.zeros((FOLDS, 0))


@dataclass(frozen=True, slots=True, eq=False)
class CrossFittedRates:
    """Smoothed mean reward per key, (sum_r + m mean) / (n + m), from the folds that a decision is not in.

    Leaving a decision's own fold out keeps its reward out of its own prediction, so that the doubly robust estimate
    stays unbiased (Chernozhukov et al. 2018, "Double/debiased machine learning"). ``mean`` is the mean reward of those
    folds over all keys, 0 before there is any; ``m`` (``smoothing``) is how many decisions that mean is worth.

    ``count`` and ``reward`` have shape (folds, keys): what was learned. Adds with ``+``; keys are small integers.
    """

    smoothing: float = 20.0
    count: FloatArray = field(default_factory=_zeros)
    reward: FloatArray = field(default_factory=_zeros)

    def learned(self, fold: IntArray, key: IntArray, reward: FloatArray) -> Self:
        """Return the model with these decisions added: fold, key of the chosen action and reward, each (n,)."""
        if key.size == 0:
            return self
        keys = int(key.max()) + 1
        flat = fold * keys + key
        count = np.bincount(flat, minlength=FOLDS * keys).reshape(FOLDS, keys).astype(np.float64)
        total = np.bincount(flat, weights=reward, minlength=FOLDS * keys).reshape(FOLDS, keys).astype(np.float64)
        return self + type(self)(self.smoothing, count, total)

    def __add__(self, other: Self) -> Self:
        keys = max(self.count.shape[1], other.count.shape[1])
        return type(self)(
            self.smoothing,
            _widened(self.count, keys) + _widened(other.count, keys),
            _widened(self.reward, keys) + _widened(other.reward, keys),
        )

    def rates(self, fold: IntArray, key: IntArray) -> FloatArray:
        """Predict the mean reward of any actions: the fold of their decision and their key, each (n,)."""
        keys = max(self.count.shape[1], int(key.max()) + 1 if key.size else 0)
        count, reward = _widened(self.count, keys), _widened(self.reward, keys)
        others = count.sum(axis=0) - count
        earned = reward.sum(axis=0) - reward
        seen = others.sum(axis=1, keepdims=True)
        mean = np.divide(earned.sum(axis=1, keepdims=True), seen, out=np.zeros_like(seen), where=seen > 0.0)
        table = (earned + self.smoothing * mean) / (others + self.smoothing)
        return np.asarray(table[fold, key])


def _widened(table: FloatArray, keys: int) -> FloatArray:
    return np.pad(table, ((0, 0), (0, keys - table.shape[1])))


class Rates:
    """The table of smoothed rates as a ``RewardModel``, with a key of each action."""

    def __init__(self, smoothing: float = 20.0, key_of: Callable[[Action], str] | None = None) -> None:
        """Take how many decisions the mean is worth, and the key; without one, each offer has a rate of its own."""
        self._table = CrossFittedRates(smoothing)
        self._key_of = key_of
        self._keys: dict[str, int] = {}

    def predict(self, chunk: Chunk) -> FloatArray:
        """Learn from a chunk, and predict each of its pairs, (m,)."""
        fold, key = fold_of(chunk.hashes), action_keys(chunk, self._key_of, self._keys)
        self._table = self._table.learned(fold, key[chunk.chosen], chunk.reward)
        return self._table.rates(fold[chunk.row], key)


def action_keys(chunk: Chunk, key_of: Callable[[Action], str] | None, keys: dict[str, int]) -> IntArray:
    """Number of each pair's key, (m,); without ``key_of`` the offer's code. ``keys`` is added to."""
    if key_of is None:
        return chunk.offer
    found = (key_of(action) for decision in chunk.decisions for action in decision.actions)
    return np.fromiter((keys.setdefault(one, len(keys)) for one in found), np.int64, len(chunk.row))
