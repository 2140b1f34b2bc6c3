from __future__ import annotations

from math import sqrt

import pytest

from contextual_bandit.canary import canary_of
from contextual_bandit.holdout import in_holdout
from contextual_bandit.loops import Challenger, Holdout
from contextual_bandit.policy import uniform_number

CUSTOMERS = [f"customer-{number}" for number in range(20_000)]


def policies(**shares: float) -> tuple[Challenger, ...]:
    return tuple(Challenger(name, "--cb_explore_adf", share) for name, share in shares.items())


def served(loop: str, **shares: float) -> dict[str | None, set[str]]:
    """The customers of each policy; None is the champion."""
    found: dict[str | None, set[str]] = {name: set() for name in (None, *shares)}
    for customer in CUSTOMERS:
        found[canary_of(loop, customer, policies(**shares))].add(customer)
    return found


def deviation(count: int, share: float) -> float:
    return (count - share * len(CUSTOMERS)) / sqrt(len(CUSTOMERS) * share * (1 - share))


@pytest.mark.parametrize("loop", ["homepage", "checkout"])
@pytest.mark.parametrize("shares", [{"a": 0.01}, {"a": 0.1}, {"a": 0.3, "b": 0.05, "c": 0.2}, {"a": 0.0, "b": 0.5}])
def test_each_share_is_the_share(loop: str, shares: dict[str, float]) -> None:
    found = served(loop, **shares)
    expected: dict[str | None, float] = {None: 1 - sum(shares.values()), **shares}
    for name, share in expected.items():
        assert len(found[name]) == 0 if share == 0 else abs(deviation(len(found[name]), share)) < 4


def test_shares_that_leave_nothing_to_the_champion() -> None:
    assert served("homepage", a=0.1, b=0.2, c=0.7)[None] == set()
    assert len(served("homepage", a=1.0)["a"]) == len(CUSTOMERS)


def test_a_growing_share_keeps_its_customers_and_takes_the_champions() -> None:
    before = served("homepage", a=0.05)
    after = served("homepage", a=0.2)
    assert before["a"] < after["a"]
    last = served("homepage", a=0.05, b=0.1)
    assert (last["a"], last["b"] <= before[None]) == (before["a"], True)
    assert last["b"] < served("homepage", a=0.05, b=0.3)["b"]


def test_a_share_that_shrinks_gives_customers_back_and_takes_none() -> None:
    before, after = served("homepage", a=0.2, b=0.1), served("homepage", a=0.2, b=0.02)
    assert after["a"] == before["a"]
    assert after["b"] < before["b"]
    assert served("homepage", a=0.0)["a"] == set()


def test_the_anonymous_get_the_champion() -> None:
    assert canary_of("homepage", None, policies(a=1.0)) is None
    assert canary_of("homepage", "c1", ()) is None


def test_an_old_answer_stands() -> None:
    """A changed hash would move customers between the policies of a running canary."""
    found = [number for number in range(20) if canary_of("homepage", f"c{number}", policies(a=0.3))]
    assert found == [3, 6, 8, 11]


def together(first: set[str], second: set[str]) -> float:
    """How far two groups overlap, in standard deviations from what independence would give."""
    n = len(CUSTOMERS)
    expected = len(first) * len(second) / n
    return (len(first & second) - expected) / sqrt(expected * (1 - len(first) / n) * (1 - len(second) / n))


def test_it_has_nothing_to_do_with_other_loops_the_holdout_or_the_draws() -> None:
    mine = served("homepage", a=0.2)["a"]
    assert abs(together(mine, served("checkout", a=0.2)["a"])) < 4
    held = {customer for customer in CUSTOMERS if in_holdout("homepage", customer, Holdout(0.2))}
    assert abs(together(mine, held)) < 4
    for low in (0.0, 0.2, 0.5, 0.8):
        drawn = {customer for customer in CUSTOMERS if low <= uniform_number("homepage", customer) < low + 0.2}
        assert abs(together(mine, drawn)) < 4
