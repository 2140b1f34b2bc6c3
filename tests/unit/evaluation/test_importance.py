"""Importance weights: refused when impossible, exact on a space that can be counted."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.importance import importance_weights, marginal_weights, mrdr_weights


def test_weights_by_hand() -> None:
    assert importance_weights(np.array([0.5, 1.0]), np.array([1.0, 0.25])).tolist() == [2.0, 0.25]
    assert mrdr_weights(np.array([0.5, 1.0]), np.array([2.0, 0.25])).tolist() == [2.0, 0.0]


@pytest.mark.parametrize(("propensity", "target"), [(0.5, -0.1), (0.5, 1.1), (0.5, np.nan), (0.0, 0.5), (1.1, 0.5)])
def test_impossible_probabilities_are_refused(propensity: float, target: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        importance_weights(np.array([propensity]), np.array([target]))


def test_marginal_weights_are_unbiased_where_the_group_decides_and_vary_less() -> None:
    """One decision for every action, counted with its probability."""
    served, target = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    group, reward = np.array([0, 1, 0, 1]), np.array([0.2, 0.9, 0.2, 0.9])
    row = np.repeat(np.arange(4), 4)
    chosen = np.arange(4) * 4 + np.arange(4)
    weight = marginal_weights(row, np.tile(group, 4), chosen, np.tile(served, 4), np.tile(target, 4))
    assert weight == pytest.approx([0.4 / 0.6, 0.6 / 0.4, 0.4 / 0.6, 0.6 / 0.4])
    assert served @ (weight * reward) == pytest.approx(target @ reward)
    assert served @ weight**2 < served @ (target / served) ** 2


def test_a_group_that_was_never_logged_is_refused() -> None:
    with pytest.raises(ValueError, match="group"):
        marginal_weights(np.zeros(2, dtype=np.int64), np.array([0, 1]), np.array([1]), np.array([1.0, 0.0]), np.ones(2))


def test_mrdr_weights_make_the_variance_that_a_models_errors_add() -> None:
    """For a target that always picks one action: the mean weighted squared error on the log is that variance."""
    served, target, error = np.array([0.7, 0.2, 0.1]), np.array([0.0, 1.0, 0.0]), np.array([0.4, -0.3, 0.9])
    weight = target / served
    term = (target * error).sum() - weight * error
    variance = served @ term**2 - (served @ term) ** 2
    assert served @ (mrdr_weights(served, weight) * error**2) == pytest.approx(variance)
