"""What estimators and intervals take: decisions of a log as one target policy sees them."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.estimators import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Terms:
    """n decisions under one target policy, each array of shape (n,).

    Attributes:
        hashes: of the decisions' ids (``hash_ids``), for folds and the bootstrap.
        reward: in the loop's range.
        weight: w = pi / p of the chosen action, >= 0.
        q_chosen: the reward model's prediction for the chosen action; 0 without a model.
        q_target: sum_a pi(a) q(a); 0 without a model.
        largest_weight: the largest weight that any of these decisions could have had, max_a pi(a) / p(a) over logged
            actions; at least the largest of ``weight``.
    """

    hashes: IntArray
    reward: FloatArray
    weight: FloatArray
    q_chosen: FloatArray
    q_target: FloatArray
    largest_weight: float
