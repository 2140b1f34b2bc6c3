"""Confidence sequences: the state is small, kept and restored; nothing is half taken; bounds are those of the formula."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from evaluation.confidence_sequences import ConfidenceSequence, confidence_bounds, squared_surprise


def outcomes(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random(n) < 0.02) * np.where(rng.random(n) < 0.1, 10.0, 0.5)


def test_before_the_first_outcome_anything_is_possible() -> None:
    one = ConfidenceSequence.of_ips(-1.0, 2.0, 10.0)
    assert one.interval == (-1.0, 2.0)
    assert math.isnan(one.mean)
    assert (one.least, one.most) == (-10.0, 20.0)


def test_pieces_in_order_give_the_same_as_all_at_once() -> None:
    values = outcomes(3000)
    whole, pieces = ConfidenceSequence.of_ips(0.0, 1.0, 10.0), ConfidenceSequence.of_ips(0.0, 1.0, 10.0)
    whole.update(values)
    for piece in np.array_split(values, 41):
        pieces.update(piece)
    pieces.update(np.zeros(0))
    assert pieces.interval == pytest.approx(whole.interval, rel=1e-9)
    assert pieces.mean == pytest.approx(values.mean())


def test_it_goes_through_a_store() -> None:
    one = ConfidenceSequence.of_ips(0.0, 1.0, 10.0, level=0.9)
    one.update(outcomes(500))
    other = ConfidenceSequence.from_dict(json.loads(json.dumps(one.to_dict())))
    for sequence in (one, other):
        sequence.update(outcomes(500, seed=1))
    assert other == one
    with pytest.raises(ValueError, match="'m'"):
        ConfidenceSequence.from_dict({"m": 1.0})


def test_guesses_use_the_past_alone() -> None:
    """The first outcome meets the guess 0, the second half of the first, and a later one changes nothing before it."""
    values = np.array([1.0, 0.0, 1.0])
    assert squared_surprise(values, 0.0, 1.0) == pytest.approx([1.0, 0.25, (1.0 - 1.0 / 3.0) ** 2])
    assert squared_surprise(values, 0.5, 0.9) == pytest.approx([0.25, 0.75**2, (1.0 - 0.5) ** 2])
    later = squared_surprise(np.array([1.0]), 0.0, 1.0, n=2, total=1.0)
    assert later == pytest.approx([(1.0 - 1.0 / 3.0) ** 2])


def test_bounds_are_where_the_mixture_reaches_its_threshold() -> None:
    """Between the best single rate with its share of the prior and the best single rate for free."""
    n, total, squares = 20_000.0, 900.0, 9000.0
    low, _ = confidence_bounds(np.array(n), np.array(total), np.array(squares), (0.0, 1.0), (0.0, 84.0))
    excess = total - n * float(low)
    rates = np.linspace(1e-4, 0.97, 200_000)
    free = ((math.log(40.0) + (-np.log1p(-rates) - rates) * squares) / rates).min()
    assert free < excess < 1.5 * free


def test_mirrored_outcomes_give_mirrored_bounds() -> None:
    values = outcomes(2000)
    one, other = ConfidenceSequence.of_ips(0.0, 1.0, 10.0), ConfidenceSequence.of_ips(-1.0, 0.0, 10.0)
    one.update(values)
    other.update(-values)
    assert other.interval == pytest.approx((-one.interval[1], -one.interval[0]), rel=1e-9)


def test_it_narrows_and_a_difference_of_policies_is_found() -> None:
    rng = np.random.default_rng(1)
    gaps = np.where(rng.random(50_000) < 0.3, 1.0, -0.1) * (rng.random(50_000) < 0.5)
    one = ConfidenceSequence.of_difference(-1.0, 4.0, 1.0)
    widths = []
    for piece in np.array_split(gaps, 5):
        one.update(piece)
        widths.append(one.interval[1] - one.interval[0])
    assert widths == sorted(widths, reverse=True)
    assert 0.0 < one.interval[0] < gaps.mean() < one.interval[1]


def test_doubly_robust_outcomes_reach_both_ways() -> None:
    one = ConfidenceSequence.of_doubly_robust(0.0, 1.0, 10.0)
    one.update(np.array([0.1 + 10.0 * (0.0 - 0.9), 0.1 + 10.0 * (1.0 - 0.1)]))
    assert one.n == 2
    near = ConfidenceSequence.of_doubly_robust(0.0, 1.0, 10.0, predictions=(0.0, 0.05))
    assert (near.least, near.most) == pytest.approx((-0.5, 10.05))
    with pytest.raises(ValueError, match=r"outcome -8\.9"):
        near.update(np.array([-8.9]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 10.1, -0.1])
def test_bad_outcomes_are_refused_and_none_is_taken(bad: float) -> None:
    one = ConfidenceSequence.of_ips(0.0, 1.0, 10.0)
    one.update(np.ones(3))
    with pytest.raises(ValueError, match=str(bad)):
        one.update(np.array([1.0, bad]))
    assert (one.n, one.total) == (3, 3.0)


def test_impossible_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match=r"high 0\.0"):
        ConfidenceSequence.of_ips(0.0, 0.0, 10.0)
    with pytest.raises(ValueError, match="does not hold"):
        ConfidenceSequence(0.0, 1.0, 0.5, 10.0)
    with pytest.raises(ValueError, match=r"level 1\.0"):
        ConfidenceSequence.of_ips(0.0, 1.0, 10.0, level=1.0)
    with pytest.raises(ValueError, match="-1 outcomes"):
        ConfidenceSequence(0.0, 1.0, 0.0, 10.0, n=-1)
