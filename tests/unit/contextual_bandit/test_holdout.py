from __future__ import annotations

from math import sqrt

import pytest

from contextual_bandit.holdout import in_holdout
from contextual_bandit.loops import Holdout
from contextual_bandit.policy import uniform_number

CUSTOMERS = [f"customer-{number}" for number in range(20_000)]


def held(loop: str, share: float) -> set[str]:
    return {customer for customer in CUSTOMERS if in_holdout(loop, customer, Holdout(share))}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("loop", ["homepage", "checkout"])
def test_the_share_is_the_share(loop: str, share: float) -> None:
    deviation = (len(held(loop, share)) - share * len(CUSTOMERS)) / sqrt(len(CUSTOMERS) * share * (1 - share))
    assert abs(deviation) < 4


def test_nobody_and_everybody() -> None:
    assert held("homepage", 0.0) == set()
    assert held("homepage", 1.0) == set(CUSTOMERS)


def test_a_customer_stays_whatever_the_share_becomes() -> None:
    assert held("homepage", 0.1) == held("homepage", 0.1)
    assert held("homepage", 0.1) < held("homepage", 0.2) < held("homepage", 0.6)


def test_the_anonymous_are_never_held_out() -> None:
    assert not in_holdout("homepage", None, Holdout(1.0))


def test_an_old_answer_stands() -> None:
    """A changed hash would move customers between the groups of a running experiment."""
    found = [number for number in range(12) if in_holdout("homepage", f"c{number}", Holdout(0.3))]
    assert found == [5, 7, 11]


def together(first: set[str], second: set[str]) -> float:
    """How far two groups overlap, in standard deviations from what independence would give."""
    n = len(CUSTOMERS)
    expected = len(first) * len(second) / n
    return (len(first & second) - expected) / sqrt(expected * (1 - len(first) / n) * (1 - len(second) / n))


def test_loops_hold_out_customers_of_their_own() -> None:
    assert abs(together(held("homepage", 0.2), held("checkout", 0.2))) < 4


@pytest.mark.parametrize("low", [0.0, 0.2, 0.5, 0.8])
def test_it_has_nothing_to_do_with_the_draws(low: float) -> None:
    """Even a shop that uses customer ids as decision ids draws the same for both groups."""
    drawn = {customer for customer in CUSTOMERS if low <= uniform_number("homepage", customer) < low + 0.2}
    assert abs(together(held("homepage", 0.2), drawn)) < 4
