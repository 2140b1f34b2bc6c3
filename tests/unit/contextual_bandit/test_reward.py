from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.loops import RewardDefinition
from contextual_bandit.reward import RewardOutOfRange, UnknownOutcomeKind, aggregate, outcome_value
from contextual_bandit.types import Aggregation, Outcome

AT = datetime(2026, 3, 2, tzinfo=UTC)
WIDE = RewardDefinition(low=-10.0, high=10.0, default=-1.0, kinds={"click": 0.5, "refund": -2.0})


def outcomes(*values: float) -> list[Outcome]:
    return [Outcome(f"o{number}", "d1", "click", value, AT) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("aggregation", "reward"),
    [("earliest", 3.0), ("sum", 6.5), ("average", 1.625), ("median", 2.0), ("min", -0.5), ("max", 3.0)],
)
def test_outcomes_become_one_reward(aggregation: Aggregation, reward: float) -> None:
    assert aggregate(replace(WIDE, aggregation=aggregation), outcomes(3.0, -0.5, 3.0, 1.0)) == reward


def test_no_outcome_gives_the_default() -> None:
    assert aggregate(WIDE, []) == -1.0


@pytest.mark.parametrize(("values", "reward"), [((9.0, 8.0), 10.0), ((-9.0, -8.0), -10.0)])
def test_a_sum_stays_in_range(values: tuple[float, ...], reward: float) -> None:
    assert aggregate(replace(WIDE, aggregation="sum"), outcomes(*values)) == reward


@given(
    st.sampled_from(["earliest", "sum", "average", "median", "min", "max"]),
    st.lists(st.floats(-1e6, 1e6), max_size=8),
)
def test_a_reward_is_always_in_range(aggregation: Aggregation, values: list[float]) -> None:
    definition = replace(WIDE, aggregation=aggregation)
    assert -10.0 <= aggregate(definition, outcomes(*values)) <= 10.0


@given(st.sampled_from(["sum", "average", "median", "min", "max"]), st.permutations([1.0, 2.0, 4.0, 0.5]))
def test_only_the_earliest_depends_on_the_order(aggregation: Aggregation, values: list[float]) -> None:
    definition = replace(WIDE, aggregation=aggregation)
    assert aggregate(definition, outcomes(*values)) == aggregate(definition, outcomes(1.0, 2.0, 4.0, 0.5))


def test_a_kind_is_worth_what_the_loop_says() -> None:
    assert outcome_value(WIDE, None, "click", None) == 0.5
    assert outcome_value(WIDE, None, "click", 3.0) == 1.5
    assert outcome_value(WIDE, None, "refund", 2.0) == -4.0
    assert outcome_value(WIDE, None, "click", 0.0) == 0.0


def test_a_value_goes_before_a_kind() -> None:
    assert outcome_value(WIDE, 0.0, "click", 7.0) == 0.0
    assert outcome_value(WIDE, 2.0, "unheard of", None) == 2.0


@pytest.mark.parametrize("kind", [None, "unheard of"])
def test_an_unknown_kind_is_named_with_those_that_are_known(kind: str | None) -> None:
    with pytest.raises(UnknownOutcomeKind, match=f"{kind!r}; this loop knows: click, refund"):
        outcome_value(WIDE, None, kind, None)


def test_a_loop_without_kinds_says_so() -> None:
    with pytest.raises(UnknownOutcomeKind, match="knows: none"):
        outcome_value(replace(WIDE, kinds={}), None, "click", None)


@pytest.mark.parametrize("value", [10.1, -10.1, math.nan, math.inf])
def test_a_value_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(RewardOutOfRange, match=r"must lie in \[-10, 10\]"):
        outcome_value(WIDE, value, None, None)


@pytest.mark.parametrize("value", [10.0, -10.0])
def test_the_ends_of_the_range_belong_to_it(value: float) -> None:
    assert outcome_value(WIDE, value, None, None) == value
