"""Importance weights: how much a decision of one policy says about another.

Notation: decision i was logged with reward r_i and propensity p_i of its chosen action a_i; the target policy gives
that action probability pi_i.
"""

from __future__ import annotations

import numpy as np

from evaluation.arrays import FloatArray, IntArray


def importance_weights(propensity: FloatArray, target: FloatArray) -> FloatArray:
    """Return w = pi / p, shape (n,).

    Raises:
        ValueError: when a propensity is outside (0, 1] or a target probability outside [0, 1].
    """
    # Least and greatest are nan where any number is, and nan is not inside.
    least, greatest = float(np.min(propensity, initial=1.0)), float(np.max(propensity, initial=0.0))
    if not (least > 0.0 and greatest <= 1.0 + 1e-9):
        raise ValueError(f"a logged propensity is outside (0, 1]: they range from {least} to {greatest}")
    least, greatest = float(np.min(target, initial=1.0)), float(np.max(target, initial=0.0))
    if not (least >= 0.0 and greatest <= 1.0 + 1e-9):
        raise ValueError(f"a target probability is outside [0, 1]: they range from {least} to {greatest}")
    return target / propensity


def marginal_weights(
    row: IntArray, group: IntArray, chosen: IntArray, served: FloatArray, target: FloatArray
) -> FloatArray:
    """Return w_i = sum_{a in e_i} pi(a) / sum_{a in e_i} p(a) over the group e_i of the chosen action, shape (n,).

    In the place of pi / p they make IPS the marginalised IPS (MIPS): far smaller weights with many offers, and unbiased
    when an offer acts on the reward through its group alone. Saito and Joachims 2022, "Off-policy evaluation for large
    action spaces via embeddings".

    Args:
        row: decision of each (decision, action) pair, from 0 to n - 1, shape (m,).
        group: group of each pair's action, such as the offer's category, small integers >= 0, (m,).
        chosen: which pair was chosen in each decision, (n,).
        served: logged probability of each pair, (m,).
        target: target probability of each pair, (m,).

    Raises:
        ValueError: when a chosen group was logged with probability 0.
    """
    groups = int(group.max(initial=0)) + 1
    cell = row * groups + group
    logged = np.bincount(cell, weights=served)[cell[chosen]]
    if not np.all(logged > 0.0):
        raise ValueError("a chosen action's group was logged with probability 0")
    return np.asarray(np.bincount(cell, weights=target)[cell[chosen]] / logged)


def mrdr_weights(propensity: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the weights w^2 (1 - p) of decisions in the least-squares fit of a reward model for ``mrdr``, shape (n,).

    Given the context, the doubly robust term varies by sum_a pi(a)^2 (1 - p(a)) / p(a) d(a)^2 (d: the model's error)
    and by the products of errors of different actions. The first is what these weights make of a squared error on the
    log; the second is left out, as one needs the errors of actions that were not chosen for it. For a target that
    always picks one action the first is all. Farajtabar, Chow, Ghavamzadeh 2018, "More robust doubly robust off-policy
    evaluation".

    Args:
        propensity: logged probability p of the chosen action, in (0, 1].
        weight: w = pi / p.
    """
    return np.asarray(weight**2 * np.maximum(0.0, 1.0 - propensity))
