"""Third moments: by definition, for any split, and with repeats."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.third_moments import ThirdMoments


def skewed(n: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.stack([rng.exponential(size=n) + 50.0, rng.random(n), (rng.random(n) < 0.01) * 84.0])


def test_moments_along_a_direction_by_definition() -> None:
    table, direction = skewed(5000), np.array([1.0, -2.0, 0.5])
    column = direction @ table
    squares, cubes = ThirdMoments.of_table(table).along(direction)
    assert squares == pytest.approx(((column - column.mean()) ** 2).sum(), rel=1e-10)
    assert cubes == pytest.approx(((column - column.mean()) ** 3).sum(), rel=1e-10)


@pytest.mark.parametrize("pieces", [2, 37, 2000])
def test_any_split_gives_the_same(pieces: int) -> None:
    table = skewed(5000)
    whole, merged = ThirdMoments.of_table(table), ThirdMoments.empty(3)
    for piece in np.array_split(np.arange(5000), pieces):
        merged += ThirdMoments.of_table(table[:, piece])
    direction = np.array([1.0, -2.0, 0.5])
    assert merged.along(direction) == pytest.approx(whole.along(direction), rel=1e-9)


def test_more_rows_than_a_block() -> None:
    table = skewed(70_000)
    whole = ThirdMoments.of_table(table).along(np.ones(3))
    column = table.sum(axis=0)
    assert whole == pytest.approx((((column - column.mean()) ** 2).sum(), ((column - column.mean()) ** 3).sum()))


def test_repeats_stand_for_equal_decisions() -> None:
    table = skewed(500)
    repeats = np.random.default_rng(0).integers(0, 4, 500)
    one, other = ThirdMoments.of_table(table, repeats), ThirdMoments.of_table(np.repeat(table, repeats, axis=1))
    assert one.moments.count == other.moments.count
    assert one.along(np.ones(3)) == pytest.approx(other.along(np.ones(3)), rel=1e-9)
    assert ThirdMoments.of_table(table, repeats * 0).moments.count == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 times"):
        ThirdMoments.of_table(np.ones((1, 2)), np.array([1, -1]))
    for repeats in (None, np.array([1, 1])):
        with pytest.raises(ValueError, match="finite"):
            ThirdMoments.of_table(np.array([[1.0, np.nan]]), repeats)
