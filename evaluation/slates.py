"""Decisions of several slots: what a slot and a whole slate are worth under a target policy.

Offers of a slate are drawn one after the other without replacement. Slot j of decision i was logged with the
propensity of its offer given the offers above it, p_ij; the target policy gives that offer, below the same offers,
pi_ij. Slots and slates become ``Terms``, so that every estimator and interval is theirs too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from evaluation.arrays import FloatArray, IntArray
from evaluation.importance import importance_weights
from evaluation.terms import Terms

MOST_SLATES = 10_000


@dataclass(frozen=True, slots=True)
class Slates:
    """n decisions of k slots, each array (n, k); a slot left empty has reward 0 and both probabilities 1.

    Attributes:
        hashes: of the decisions' ids, (n,).
        reward: of each slot.
        propensity: logged probability of each slot's offer, given the offers above it, in (0, 1].
        target: the target policy's, below the same offers, in [0, 1].
    """

    hashes: IntArray
    reward: FloatArray
    propensity: FloatArray
    target: FloatArray

    def __post_init__(self) -> None:
        shape = self.reward.shape
        if len(shape) != 2 or shape[1] == 0 or not shape == self.propensity.shape == self.target.shape:
            raise ValueError(
                f"rewards {shape}, propensities {self.propensity.shape} and target probabilities {self.target.shape} "
                "of slates must have one shape (n, k)"
            )


def slot_weights(slates: Slates) -> FloatArray:
    """Return the weight of each slot, W_ij = prod_{l <= j} pi_il / p_il, shape (n, k).

    The offers above a slot decide what could be drawn there, so their ratios belong to its weight, and those below do
    not (per-decision importance sampling: Precup, Sutton, Singh 2000, "Eligibility traces for off-policy policy
    evaluation").

    Raises:
        ValueError: when a propensity is outside (0, 1] or a target probability outside [0, 1].
    """
    return np.asarray(np.cumprod(importance_weights(slates.propensity, slates.target), axis=1), dtype=np.float64)


def slot_terms(slates: Slates) -> list[Terms]:
    """Return the terms of each slot: IPS of slot j is V_j = (1/n) sum_i W_ij r_ij, unbiased.

    The values of the slots add up to that of the slate's summed reward, with less variance than ``slate_terms`` gives.
    """
    weights = slot_weights(slates)
    return [_terms(slates.hashes, slates.reward[:, slot], weights[:, slot]) for slot in range(weights.shape[1])]


def slate_terms(slates: Slates, reward: FloatArray | None = None) -> Terms:
    """Return the terms of whole slates: IPS is V = (1/n) sum_i W_ik R_i, unbiased however slots act on each other.

    Args:
        slates: the decisions.
        reward: R of each whole slate, (n,); the sum over its slots if left out.
    """
    return _terms(slates.hashes, slates.reward.sum(axis=1) if reward is None else reward, slot_weights(slates)[:, -1])


def summed_slots(slates: Slates) -> FloatArray:
    """Return sum_j W_ij r_ij, shape (n,): its mean is the sum of the slots' values, its spread their joint error."""
    return np.asarray((slot_weights(slates) * slates.reward).sum(axis=1))


def _terms(hashes: IntArray, reward: FloatArray, weight: FloatArray) -> Terms:
    without = np.zeros_like(weight)
    return Terms(hashes, reward, weight, without, without, float(weight.max(initial=0.0)))


def sequential_slates(probabilities: FloatArray, slots: int) -> tuple[IntArray, FloatArray]:
    """List every slate that draws without replacement from one distribution can give, and its probability.

    What is left after a draw is scaled to 1 again.

    Args:
        probabilities: of the m actions, summing to 1, shape (m,).
        slots: k, in 1..m.

    Returns:
        Actions of each slate in the order drawn, (s, k) with s = m! / (m - k)!, and their probabilities, (s,).

    Raises:
        ValueError: when k is not in 1..m, or there are more than ``MOST_SLATES``.
    """
    actions = len(probabilities)
    if not 1 <= slots <= actions:
        raise ValueError(f"{slots} slots cannot be filled with {actions} actions")
    if math.perm(actions, slots) > MOST_SLATES:
        raise ValueError(f"{math.perm(actions, slots)} slates are too many to list; at most {MOST_SLATES}")
    slates = np.array(list(permutations(range(actions), slots)), dtype=np.int64)
    drawn = np.asarray(probabilities)[slates]
    left = np.maximum(1.0 - np.cumsum(drawn, axis=1) + drawn, drawn)
    return slates, np.prod(np.divide(drawn, left, out=np.zeros_like(drawn), where=drawn > 0.0), axis=1)


def pseudo_inverse_weights(slates: IntArray, served: FloatArray, target: FloatArray) -> FloatArray:
    """Return the weight of each slate for the pseudo-inverse estimator V = (1/n) sum_i w(s_i) R_i, shape (s,).

    w(s) = q^T G^+ 1_s, where 1_s marks the k (slot, action) pairs of slate s, G = E_served[1_s 1_s^T] and
    q = E_target[1_s]. Unbiased when a slate's reward is a sum of one unknown part per (slot, action) pair, and far less
    spread than the product of ratios; biased when slots act on each other. Weights may be negative. Swaminathan et al.
    2017, "Off-policy evaluation for slate recommendation". G is exact here, from a list of all slates.

    Args:
        slates: actions of every possible slate, as ``sequential_slates`` lists them, (s, k).
        served: the logged policy's probability of each, (s,).
        target: the target policy's, (s,).

    Raises:
        ValueError: when the target puts an action into a slot where the logged policy never does.
    """
    slots, actions = slates.shape[1], int(slates.max()) + 1
    marks = np.zeros((len(slates), slots * actions))
    marks[np.arange(len(slates))[:, np.newaxis], slates + actions * np.arange(slots)] = 1.0
    wanted = target @ marks
    if np.any((wanted > 1e-12) & (served @ marks <= 0.0)):
        raise ValueError("the target policy puts an action into a slot where the logged policy never does")
    logged = (marks * served[:, np.newaxis]).T @ marks
    return np.asarray(marks @ np.linalg.pinv(logged, rcond=1e-10, hermitian=True) @ wanted)
