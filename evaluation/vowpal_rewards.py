"""The default reward model where decisions have features: a regression by Vowpal Wabbit, blended with a table."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from contextual_bandit.vowpal_regressor import DEFAULT_REGRESSION, VowpalRegressor
from evaluation.arrays import FloatArray, IntArray
from evaluation.chunks import Chunk

# So that one decision of a tiny propensity does not decide how far the regression is trusted.
LARGEST_BLEND_WEIGHT = 100.0


class VowpalRewards:
    """Predicts each decision from those before it, then learns from it: a ``RewardModel``.

    No decision sees its own reward, which is what cross-fitting is for, and none sees a later one. That matters where
    the logged policy itself learned: what it showed later depends on earlier rewards, so that folds which train on
    later decisions bias the doubly robust estimate, while predictions from the past alone keep its terms martingale
    differences, as anytime-valid intervals need (Waudby-Smith et al. 2022, "Anytime-valid off-policy inference for
    contextual bandits"). It also learns from all decisions where folds hold a part of them back.

    The prediction is t + b (v - t): v the regression of context times offer, t the offer's smoothed rate
    (sum_r + m mean) / (n + m), both of the past, and b in [0, 1] the least-squares blend of the two so far, each
    decision weighted by min(1 / p, 100), as a target would that shows all offers alike. On a small log or one whose
    contexts say nothing b stays small, and the model is about as good as the table.
    """

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        *,
        smoothing: float = 20.0,
        arguments: str = DEFAULT_REGRESSION,
    ) -> None:
        """Take the rewards' range; without it, that of the first chunk's rewards and of [0, 1] holds.

        Args:
            low: lowest reward; predictions are not below it.
            high: highest reward; predictions are not above it.
            smoothing: how many decisions the mean is worth in the table of rates.
            arguments: Vowpal Wabbit's, of the regression.

        Raises:
            ValueError: ``low`` is not below ``high``.
        """
        if low is not None and high is not None and not low < high:
            raise ValueError(f"the rewards' range [{low}, {high}] is empty")
        self._low, self._high = low, high
        self._regressor = VowpalRegressor(arguments)
        self._past = _PastRates(smoothing)
        self._above = self._below = 0.0

    def predict(self, chunk: Chunk) -> FloatArray:
        """Predict each pair of a chunk, (m,), learning one decision after the other."""
        low, high = self._range(chunk)
        regressed, rates = np.empty(len(chunk.row)), np.empty(len(chunk.row))
        ends = [*chunk.first.tolist(), len(chunk.row)]
        for index, ((start, stop), decision) in enumerate(zip(pairwise(ends), chunk.decisions, strict=True)):
            reward, chosen = float(chunk.reward[index]), int(chunk.chosen[index])
            rates[start:stop] = self._past.rates(chunk.offer[start:stop])
            self._past.learn(int(chunk.offer[chosen]), reward)
            scaled = (min(max(reward, low), high) - low) / (high - low)
            regressed[start:stop] = self._regressor.predict_then_learn(
                decision.context, decision.actions, chosen - start, scaled
            )
        regressed = np.clip(regressed * (high - low) + low, low, high)
        apart = regressed - rates
        blend = self._blend(chunk, rates[chunk.chosen], apart[chunk.chosen])
        return np.asarray(np.clip(rates + blend[chunk.row] * apart, low, high))

    def close(self) -> None:
        """Give the memory back."""
        self._regressor.close()

    def _range(self, chunk: Chunk) -> tuple[float, float]:
        if self._low is None:
            self._low = min(0.0, float(chunk.reward.min(initial=0.0)))
        if self._high is None:
            self._high = max(1.0, float(chunk.reward.max(initial=1.0)))
        return self._low, self._high

    def _blend(self, chunk: Chunk, rate: FloatArray, apart: FloatArray) -> FloatArray:
        """How far each decision trusts the regression, (n,): by least squares on the decisions before it."""
        weight = np.minimum(1.0 / chunk.propensity, LARGEST_BLEND_WEIGHT)
        above = self._above + np.cumsum(np.append(0.0, weight * (chunk.reward - rate) * apart))
        below = self._below + np.cumsum(np.append(0.0, weight * apart**2))
        self._above, self._below = float(above[-1]), float(below[-1])
        blend = np.divide(above, below, out=np.zeros_like(above), where=below > 0.0)
        return np.clip(blend[:-1], 0.0, 1.0)


class _PastRates:
    """Smoothed mean reward per offer, of the decisions so far."""

    def __init__(self, smoothing: float) -> None:
        self._smoothing = smoothing
        self._count, self._reward = np.zeros(64), np.zeros(64)
        self._decisions, self._total = 0, 0.0

    def rates(self, offer: IntArray) -> FloatArray:
        """Rate of each offer code, (K,); 0 before there is any decision."""
        largest = int(offer.max())
        if largest >= len(self._count):
            wider = 2 * largest - len(self._count)
            self._count, self._reward = np.pad(self._count, (0, wider)), np.pad(self._reward, (0, wider))
        mean = self._total / self._decisions if self._decisions else 0.0
        prior = self._smoothing * mean
        return np.asarray((self._reward[offer] + prior) / (self._count[offer] + self._smoothing))

    def learn(self, offer: int, reward: float) -> None:
        """Count one decision."""
        self._count[offer] += 1.0
        self._reward[offer] += reward
        self._decisions += 1
        self._total += reward
