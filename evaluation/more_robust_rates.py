"""The reward model of the more robust doubly robust estimator: rates fitted to keep one target's variance small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from contextual_bandit.types import Action
from evaluation.arrays import FloatArray, IntArray
from evaluation.chunks import Chunk
from evaluation.importance import importance_weights, mrdr_weights
from evaluation.reward_model import FOLDS, action_keys, fold_of


class MoreRobustRates:
    """Cross-fitted smoothed rates, each decision weighted by what its error adds to one target's DR variance.

    The rate of a key is (sum W r + m W_mean mean) / (sum W + m W_mean) over the folds that the decision is not in, with
    W = w^2 (1 - p) (``mrdr_weights``, Farajtabar et al. 2018). ``mean`` is the weighted mean reward over all keys and
    ``m`` (``smoothing``) how many decisions of mean weight it is worth.

    One model serves one target policy. Constant size: (folds, keys) sums.
    """

    def __init__(self, smoothing: float = 20.0, key_of: Callable[[Action], str] | None = None) -> None:
        """Take how many decisions the mean is worth, and the key; without one, each offer has a rate of its own."""
        self._smoothing = smoothing
        self._key_of = key_of
        self._keys: dict[str, int] = {}
        self._sums: FloatArray = np.zeros((3, FOLDS, 0))

    def predict(self, chunk: Chunk, target: FloatArray) -> FloatArray:
        """Learn from a chunk, and predict each of its pairs, (m,), without the pair's own fold.

        Called once for each chunk, in order.

        Args:
            chunk: the decisions.
            target: the target policy's probability of each pair, (m,).
        """
        fold, key = fold_of(chunk.hashes), action_keys(chunk, self._key_of, self._keys)
        weight = mrdr_weights(chunk.propensity, importance_weights(chunk.propensity, target[chunk.chosen]))
        self._learn(fold, key, chunk, weight)
        return np.asarray(self._table()[fold[chunk.row], key])

    def _learn(self, fold: IntArray, key: IntArray, chunk: Chunk, weight: FloatArray) -> None:
        keys = max(self._sums.shape[2], int(key.max(initial=-1)) + 1)
        sums = np.pad(self._sums, ((0, 0), (0, 0), (0, keys - self._sums.shape[2])))
        flat = fold * keys + key[chunk.chosen]
        for column, values in enumerate((np.ones(chunk.n), weight, weight * chunk.reward)):
            sums[column] += np.bincount(flat, weights=values, minlength=FOLDS * keys).reshape(FOLDS, keys)
        self._sums = sums

    def _table(self) -> FloatArray:
        """Rates by fold and key, each from the other folds."""
        count, weight, reward = self._sums.sum(axis=1, keepdims=True) - self._sums
        seen, heavy = count.sum(axis=1, keepdims=True), weight.sum(axis=1, keepdims=True)
        usual = np.divide(heavy, seen, out=np.zeros_like(seen), where=seen > 0.0)
        mean = np.divide(reward.sum(axis=1, keepdims=True), heavy, out=np.zeros_like(heavy), where=heavy > 0.0)
        below = weight + self._smoothing * usual
        above = reward + self._smoothing * usual * mean
        return np.asarray(np.divide(above, below, out=np.zeros_like(above), where=below > 0.0))
