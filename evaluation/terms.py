"""What estimators and intervals take: decisions of a log as one target policy sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray, IntArray
from evaluation.importance import importance_weights


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
        mrdr_chosen: as ``q_chosen``, by a model fitted with ``mrdr_weights``; only the estimator ``mrdr`` needs it.
        mrdr_target: as ``q_target``, by that model.
    """

    hashes: IntArray
    reward: FloatArray
    weight: FloatArray
    q_chosen: FloatArray
    q_target: FloatArray
    largest_weight: float
    mrdr_chosen: FloatArray | None = None
    mrdr_target: FloatArray | None = None

    @classmethod
    def of(
        cls,
        reward: FloatArray,
        propensity: FloatArray,
        target: FloatArray,
        q_chosen: FloatArray | None = None,
        q_target: FloatArray | None = None,
        hashes: IntArray | None = None,
    ) -> Self:
        """Take reward, logged propensity and target probability of the chosen action, each (n,).

        Without predictions they are 0. Without hashes the place in the arrays stands for them: every call counts from
        0 again, so that such terms are for one piece only where folds or the bootstrap matter.

        Raises:
            ValueError: when a propensity is outside (0, 1] or a target probability outside [0, 1].
        """
        weight = importance_weights(propensity, target)
        return cls(
            hashes=np.arange(len(weight)) if hashes is None else hashes,
            reward=reward,
            weight=weight,
            q_chosen=np.zeros_like(weight) if q_chosen is None else q_chosen,
            q_target=np.zeros_like(weight) if q_target is None else q_target,
            largest_weight=float(weight.max(initial=0.0)),
        )
