"""Rules of many offers at once: whatever is decided for all of them together, each gets its own first reason."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.eligibility import prepare, prepare_rules, reason_against, situate, split
from contextual_bandit.types import Context, Offer, Removed, Rule

SITUATION = situate(datetime(2026, 3, 1, tzinfo=UTC), Context({"H": {"segment": "new"}}), channel="web")
# About the request: holds, does not, and cannot be told. About the offer: depends on its priority.
CONDITIONS: list[dict[str, Any]] = [
    {"fact": "request.channel", "is": "web"},
    {"fact": "request.channel", "is": "app"},
    {"fact": "weather.condition", "is": "rain"},
    {"fact": "offer.priority", "at_least": 1},
    {"fact": "offer.priority", "at_least": 2},
    {"any": [{"fact": "offer.priority", "at_least": 2}, {"fact": "request.channel", "is": "app"}]},
]


def holds(condition: int, priority: int) -> bool:
    return [True, False, False, priority >= 1, priority >= 2, priority >= 2][condition]


def first_reason(kind: str, conditions: list[int], priority: int) -> str | None:
    failing = (f"{kind}:r{place}" for place, one in enumerate(conditions) if not holds(one, priority))
    return next(failing, None)


def rules(conditions: list[int]) -> tuple[Rule, ...]:
    return tuple(Rule(f"r{place}", CONDITIONS[one]) for place, one in enumerate(conditions))


conditions = st.lists(st.integers(0, len(CONDITIONS) - 1), max_size=5)


@given(st.lists(st.tuples(conditions, st.integers(0, 2)), max_size=6), conditions)
def test_each_offer_gets_the_reason_of_its_first_rule_that_fails(
    wanted: list[tuple[list[int], int]], of_loop: list[int]
) -> None:
    offers = [
        Offer(f"offer-{number}", "x", priority=priority, rules=rules(asked))
        for number, (asked, priority) in enumerate(wanted)
    ]
    expected = [
        first_reason("rule", asked, priority) or first_reason("loop_rule", of_loop, priority)
        for asked, priority in wanted
    ]
    loop_rules = prepare_rules(rules(of_loop))
    kept, removed = split(map(prepare, offers), SITUATION, loop_rules)
    found = {entry.offer.offer_id: None for entry in kept} | {one.offer_id: one.reason for one in removed}
    assert found == {offer.offer_id: reason for offer, reason in zip(offers, expected, strict=True)}
    assert [reason_against(prepare(offer), SITUATION, loop_rules) for offer in offers] == expected


def test_a_list_of_another_order_or_code_is_another_list() -> None:
    web, app = CONDITIONS[0], CONDITIONS[1]
    offers = [
        Offer("one", "x", rules=(Rule("a", app), Rule("b", web))),
        Offer("two", "x", rules=(Rule("b", app), Rule("a", web))),
        Offer("three", "x", rules=(Rule("a", web), Rule("b", app))),
    ]
    _, removed = split(map(prepare, offers), SITUATION)
    assert removed == [Removed("one", "rule:a"), Removed("two", "rule:b"), Removed("three", "rule:b")]
