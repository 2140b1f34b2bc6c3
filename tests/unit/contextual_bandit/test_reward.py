from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.loops import OutcomeKind, RewardDefinition
from contextual_bandit.reward import RewardOutOfRange, UnknownOutcomeKind, UnusableAmount, aggregate, outcome_value
from contextual_bandit.types import Action, Aggregation, Outcome

AT = datetime(2026, 3, 2, tzinfo=UTC)
SPRING = Action("spring", {"category": "garden", "margin": 0.5, "discount": 0.1}, cost=2.0)
PLAIN = Action("plain", {"category": "garden"})
AGGREGATIONS: tuple[Aggregation, ...] = ("earliest", "sum", "average", "median", "min", "max")
WIDE = RewardDefinition(
    low=-10.0, high=10.0, default=-1.0, kinds={"click": OutcomeKind(0.5), "refund": OutcomeKind(-2.0)}
)
MONEY = RewardDefinition(
    low=-100.0,
    high=100.0,
    default=0.0,
    aggregation="sum",
    kinds={
        "click": OutcomeKind(0.25),
        "sale": OutcomeKind(measure="revenue"),
        "half": OutcomeKind(0.5, measure="margin"),
        "profit": OutcomeKind(measure="margin"),
        "refund": OutcomeKind(-1.0, measure="revenue", correction=True),
        "profit_refund": OutcomeKind(-1.0, measure="margin", correction=True),
        "complaint": OutcomeKind(-3.0, correction=True),
    },
)


def outcomes(*values: float) -> list[Outcome]:
    return [Outcome(f"o{number}", "d1", "click", value, AT) for number, value in enumerate(values)]


def told(*sent: tuple[str, float | None], definition: RewardDefinition = MONEY) -> list[Outcome]:
    """Outcomes as the door lets them in: (kind, amount)."""
    return [
        Outcome(f"o{number}", "d1", kind, outcome_value(definition, None, kind, amount), AT)
        for number, (kind, amount) in enumerate(sent)
    ]


def reward(*sent: tuple[str, float | None], action: Action = SPRING, definition: RewardDefinition = MONEY) -> float:
    return aggregate(definition, told(*sent, definition=definition), action)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("earliest", 3.0), ("sum", 6.5), ("average", 1.625), ("median", 2.0), ("min", -0.5), ("max", 3.0)],
)
def test_outcomes_become_one_reward(aggregation: Aggregation, expected: float) -> None:
    assert aggregate(replace(WIDE, aggregation=aggregation), outcomes(3.0, -0.5, 3.0, 1.0), PLAIN) == expected


def test_no_outcome_gives_the_default() -> None:
    assert aggregate(WIDE, [], PLAIN) == -1.0


@pytest.mark.parametrize(("values", "expected"), [((9.0, 8.0), 10.0), ((-9.0, -8.0), -10.0)])
def test_a_sum_stays_in_range(values: tuple[float, ...], expected: float) -> None:
    assert aggregate(replace(WIDE, aggregation="sum"), outcomes(*values), PLAIN) == expected


@given(st.sampled_from(AGGREGATIONS), st.lists(st.floats(-1.7e308, 1.7e308), max_size=8))
def test_a_reward_is_always_in_range(aggregation: Aggregation, values: list[float]) -> None:
    definition = replace(WIDE, aggregation=aggregation)
    assert -10.0 <= aggregate(definition, outcomes(*values), PLAIN) <= 10.0


@given(st.sampled_from(["sum", "average", "median", "min", "max"]), st.permutations([1.0, 2.0, 4.0, 0.5]))
def test_only_the_earliest_depends_on_the_order(aggregation: Aggregation, values: list[float]) -> None:
    definition = replace(WIDE, aggregation=aggregation)
    expected = aggregate(definition, outcomes(1.0, 2.0, 4.0, 0.5), PLAIN)
    assert aggregate(definition, outcomes(*values), PLAIN) == expected


# What one outcome is worth


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


@pytest.mark.parametrize("amount", [21.0, -21.0, math.nan, math.inf])
def test_a_count_that_is_worth_too_much_is_refused(amount: float) -> None:
    with pytest.raises(RewardOutOfRange, match=r"must lie in \[-10, 10\]"):
        outcome_value(WIDE, None, "click", amount)


@pytest.mark.parametrize("value", [10.0, -10.0])
def test_the_ends_of_the_range_belong_to_it(value: float) -> None:
    assert outcome_value(WIDE, value, None, None) == value


@pytest.mark.parametrize("kind", ["sale", "profit", "refund", "profit_refund"])
def test_money_may_exceed_the_range_but_must_be_told(kind: str) -> None:
    assert abs(outcome_value(MONEY, None, kind, 1e9)) == 1e9
    with pytest.raises(UnusableAmount, match="is needed"):
        outcome_value(MONEY, None, kind, None)
    for amount in (1.1e9, -1.1e9, math.nan, math.inf, -math.inf):
        with pytest.raises(UnusableAmount, match=r"must lie in \[-1e\+09, 1e\+09\]"):
            outcome_value(MONEY, None, kind, amount)


def test_a_correction_may_exceed_the_range_and_counts_as_one() -> None:
    assert outcome_value(MONEY, None, "complaint", None) == -3.0
    assert outcome_value(MONEY, None, "complaint", 50.0) == -150.0


def test_what_no_sum_could_hold_is_refused() -> None:
    dear = replace(MONEY, kinds={"sale": OutcomeKind(1e300, measure="revenue")})
    with pytest.raises(UnusableAmount, match=r"is worth 1e\+300 here, and may be worth 1e\+15"):
        outcome_value(dear, None, "sale", 1.0)


# Weights, margins, corrections


def test_kinds_are_weighed_against_each_other() -> None:
    assert reward(("click", None), ("click", 2.0), ("sale", 20.0)) == 20.75


def test_a_margin_is_what_discount_and_contact_cost_leave() -> None:
    assert reward(("profit", 50.0)) == pytest.approx(50.0 * (0.5 - 0.1) - 2.0)
    assert reward(("half", 50.0)) == pytest.approx(0.5 * (50.0 * (0.5 - 0.1) - 2.0))


def test_a_contact_costs_once_however_often_the_customer_buys() -> None:
    assert reward(("profit", 50.0), ("profit", 25.0)) == pytest.approx(75.0 * 0.4 - 2.0)
    average = replace(MONEY, aggregation="average")
    assert reward(("profit", 50.0), ("profit", 25.0), definition=average) == pytest.approx((18.0 + 10.0) / 2)


def test_a_discount_beyond_the_margin_loses_money() -> None:
    deep = Action("deep", {"margin": 0.2, "discount": 0.5})
    assert reward(("profit", 50.0), action=deep) == pytest.approx(-15.0)


def test_an_offer_without_a_margin_leaves_nothing() -> None:
    assert reward(("profit", 50.0), action=PLAIN) == 0.0
    assert reward(("profit", 50.0), action=Action("cut", {"discount": 0.1}, cost=1.0)) == pytest.approx(-6.0)


@pytest.mark.parametrize("odd", ["much", True, 1e9, -1e9])
def test_an_inline_offer_may_call_anything_a_margin(odd: str | bool | float) -> None:
    action = Action("odd", {"margin": odd, "discount": odd})
    assert -100.0 <= reward(("profit", 40.0), action=action) <= 100.0


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_refund_is_added_after_the_aggregation(aggregation: Aggregation) -> None:
    definition = replace(MONEY, aggregation=aggregation)
    before = reward(("sale", 60.0), ("sale", 20.0), definition=definition)
    assert reward(("sale", 60.0), ("refund", 15.0), ("sale", 20.0), definition=definition) == before - 15.0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_refund_corrects_whenever_it_comes(order: tuple[int, int]) -> None:
    sent = (("sale", 60.0), ("refund", 45.0))
    assert reward(*(sent[index] for index in order)) == 15.0


def test_only_the_corrected_reward_is_clipped() -> None:
    assert reward(("sale", 480.0), ("refund", 450.0)) == 30.0
    assert reward(("sale", 480.0)) == 100.0
    assert reward(("refund", 450.0)) == -100.0


def test_corrections_alone_correct_the_default() -> None:
    assert reward(("refund", 15.0), definition=replace(MONEY, default=5.0)) == -10.0


def test_a_refunded_margin_brings_no_contact_cost_back() -> None:
    assert reward(("profit", 50.0), ("profit_refund", 50.0)) == pytest.approx(-2.0)
    assert reward(("profit_refund", 50.0), ("profit", 50.0)) == pytest.approx(-2.0)


def test_values_and_kinds_that_are_gone_are_plain_numbers() -> None:
    kinds = {"value": OutcomeKind(measure="margin", correction=True)}
    direct = [Outcome("o1", "d1", "value", 7.0, AT), Outcome("o2", "d1", "forgotten", 3.0, AT)]
    assert aggregate(replace(MONEY, kinds=kinds), direct, SPRING) == 10.0


KINDS = st.sampled_from(sorted(set(MONEY.kinds) - {"click"}))
SHARES = st.floats(allow_nan=False, min_value=-1e9, max_value=1e9)


@given(
    st.sampled_from(AGGREGATIONS),
    st.lists(st.tuples(KINDS, st.floats(-1e9, 1e9))),
    SHARES,
    SHARES,
    st.floats(0.0, 1e9),
)
def test_whatever_is_told_the_reward_is_in_range(
    aggregation: Aggregation, sent: list[tuple[str, float]], margin: float, discount: float, cost: float
) -> None:
    action = Action("any", {"margin": margin, "discount": discount}, cost=cost)
    assert -100.0 <= reward(*sent, action=action, definition=replace(MONEY, aggregation=aggregation)) <= 100.0
