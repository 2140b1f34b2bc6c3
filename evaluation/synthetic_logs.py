"""Synthetic logs whose truth is known: counts of equal decisions, so that thousands of logs cost seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray, IntArray
from evaluation.importance import mrdr_weights
from evaluation.terms import Terms

FOLDS = 5
_SMOOTHING = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Groups of customers, equally many, who differ in what they reward; a logger that is greedy and explores evenly.

    Attributes:
        rates: probability of a reward of 1, shape (groups, actions).
        logging: logged probabilities, same shape.
    """

    rates: FloatArray
    logging: FloatArray

    @classmethod
    def of(cls, rate: float, exploration: float, actions: int, groups: int = 6) -> Self:
        """A world of that mean rate over groups and actions; rates go from 0.4 to 1.6 times it.

        The logger picks one action per group with probability 1 - exploration + exploration / actions, and every other
        with exploration / actions.

        Raises:
            ValueError: when the rate is outside (0, 0.6], exploration outside (0, 1] or there are under 3 actions.
        """
        if not (0.0 < rate <= 0.6 and 0.0 < exploration <= 1.0 and actions >= 3):
            raise ValueError(f"no world with rate {rate}, exploration {exploration} and {actions} actions")
        group = np.arange(groups)
        relative = 0.4 + 1.2 * ((2 * group[:, np.newaxis] + 3 * np.arange(actions)) % actions) / (actions - 1)
        logging = np.full((groups, actions), exploration / actions)
        logging[group, group % actions] += 1.0 - exploration
        return cls(rate * relative / relative.mean(), logging)

    def target(self, name: str) -> FloatArray:
        """Probabilities of a target policy, shape (groups, actions).

        ``explored``: 0.9 on an action that the logger only explores, the rest even. ``moderate``: half the logger, half
        even. ``uniform``: even. ``logged``: the logger.

        Raises:
            ValueError: when there is none of that name.
        """
        even = np.full_like(self.logging, 1.0 / self.logging.shape[1])
        if name == "explored":
            group = np.arange(len(even))
            even *= 0.1
            even[group, (group + 1) % even.shape[1]] += 0.9
            return even
        if name == "moderate":
            return np.asarray((self.logging + even) / 2.0)
        if name in ("uniform", "logged"):
            return even if name == "uniform" else self.logging
        raise ValueError(f"no target policy {name!r}")

    def value(self, target: FloatArray) -> float:
        """The policy's true mean reward per decision."""
        return float((target * self.rates).sum(axis=1).mean())

    def draw(self, rng: np.random.Generator, n: int, runs: int = 1) -> IntArray:
        """Draw logs of n decisions as counts, shape (runs, folds, groups, actions, 2), the last axis being reward."""
        joint = self._joint()
        share = np.broadcast_to(joint / FOLDS, (FOLDS, *joint.shape))
        return rng.multinomial(n, share.ravel(), size=runs).reshape(runs, *share.shape)

    def terms(self, counts: IntArray, target: FloatArray) -> tuple[Terms, IntArray]:
        """One log as a policy sees it, and how often each decision is in it: counts as one run of ``draw``.

        The reward model is the rate per action of the other folds, smoothed; it knows nothing of groups.
        """
        weight = target / self.logging
        model, mrdr = self._model(counts, np.ones_like(weight)), self._model(counts, mrdr_weights(self.logging, weight))
        fold, group, action, reward = np.nonzero(counts)
        by_group = np.einsum("ga,fa->fg", target, model), np.einsum("ga,fa->fg", target, mrdr)
        terms = Terms(
            hashes=np.arange(len(fold)),
            reward=reward.astype(np.float64),
            weight=weight[group, action],
            q_chosen=model[fold, action],
            q_target=by_group[0][fold, group],
            largest_weight=float(weight.max()),
            mrdr_chosen=mrdr[fold, action],
            mrdr_target=by_group[1][fold, group],
        )
        return terms, counts[fold, group, action, reward]

    def normal_width(self, n: int, estimator: str, target: FloatArray, against: FloatArray | None = None) -> float:
        """Width of the 95% normal interval with the true variance of ips, snips or dr, or of a difference of policies.

        The doubly robust variance is that with the model's limit, the mean logged rate per action.
        """
        other = np.zeros_like(target) if against is None else against
        weight = ((target - other) / self.logging)[..., np.newaxis]
        reward = np.array([0.0, 1.0])
        if estimator == "ips":
            term = weight * reward
        elif estimator == "snips":
            own, theirs = target / self.logging, other / self.logging
            term = own[..., np.newaxis] * (reward - self.value(target))
            if against is not None:
                term = term - theirs[..., np.newaxis] * (reward - self.value(against))
        elif estimator == "dr":
            q = (self.logging * self.rates).sum(axis=0) / self.logging.sum(axis=0)
            direct = ((target - other) @ q)[:, np.newaxis, np.newaxis]
            term = direct + weight * (reward - q[:, np.newaxis])
        else:
            raise ValueError(f"no true variance of estimator {estimator!r}")
        joint = self._joint()
        variance = float((joint * term**2).sum() - (joint * term).sum() ** 2)
        return 2.0 * 1.959964 * float(np.sqrt(variance / n))

    def _joint(self) -> FloatArray:
        rewarded = np.stack((1.0 - self.rates, self.rates), axis=-1)
        return np.asarray(self.logging[..., np.newaxis] * rewarded / len(self.logging))

    def _model(self, counts: IntArray, fit: FloatArray) -> FloatArray:
        """Smoothed rates per action from the other folds, shape (folds, actions); ``fit`` weights the decisions."""
        weighted = (counts * fit[..., np.newaxis]).sum(axis=1)
        others = weighted.sum(axis=0) - weighted
        seen, rewarded = others.sum(axis=-1), others[..., 1]
        mean = rewarded.sum(axis=1, keepdims=True) / np.maximum(seen.sum(axis=1, keepdims=True), 1e-300)
        worth = _SMOOTHING * seen.sum() / max(1e-300, float(counts.sum()) * (FOLDS - 1))
        return np.asarray((rewarded + worth * mean) / (seen + worth))
