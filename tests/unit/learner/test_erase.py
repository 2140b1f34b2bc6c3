"""What tells an erasure from other messages, whom it names, and what it leaves of sums."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.erasure import mentions
from adapters.receipts import customer_mark
from contextual_bandit import events
from contextual_bandit.profile import Activity, Population, Profile
from learner.erase import ACTION, split_at_erasures, without

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_a_population_of_one_is_nobody() -> None:
    profile, population = Profile(), Population()
    activity = Activity("a", "c", "purchase", NOW, "garden", None, 5.0)
    population.customers = 1
    for category, day in profile.apply(activity):
        population.add_day(category, day)
    population.move_first(None, profile.first_purchase_day)
    assert population.buyers == 1
    empty = without(population, profile)
    assert (empty.customers, empty.buyers, empty.firsts, empty.days) == (0, 0, 0.0, {})
    assert population.customers == 1, "the one before is not touched"


def test_runs_begin_at_erasures() -> None:
    def control(action: str) -> bytes:
        payload = {"action": action, "customer_id": "c", "receipt_id": "r", "actor": "a"}
        return events.encode(events.CONTROL, NOW, payload)

    plain = [("1-0", events.encode(events.TICK, NOW, {})), ("2-0", control("loop_changed"))]
    # A client's text is no order.
    told = ("3-0", events.encode(events.OUTCOME, NOW, {"action": ACTION, "customer_id": "c"}))
    broken = ("4-0", b'{"action": "erase_customer"')
    asked = ("5-0", control(ACTION))
    runs = list(split_at_erasures([*plain, told, broken, asked, *plain, asked]))
    assert [(erasure is not None, len(run)) for erasure, run in runs] == [(False, 4), (True, 3), (True, 1)]
    assert runs[1][0] is not None
    assert runs[1][0].position == "5-0"
    assert [len(run) for _, run in split_at_erasures([asked])] == [1]
    assert list(split_at_erasures(plain)) == [(None, plain)]


@pytest.mark.parametrize(
    ("data", "is_named"),
    [
        (b'{"customer_id": "c-1"}', True),
        (b'{"customer_id": "c-10"}', False),
        (b'{"a": [{"b": {"c-1": 1}}]}', True),
        (b'{"a": "the c-1 customer"}', False),
        (b'{"a": "\\u0063-1"}', True),
        (b"broken c-1 broken", True),
        (b"broken c-10 broken", False),
        (b'{"broken": "c-1"', True),
        (b"\xff\xfe c-1", True),
        (b"[" * 500 + b'"c-1"' + b"]" * 500, True),
        (b"", False),
    ],
)
def test_who_is_mentioned(data: bytes, is_named: bool) -> None:
    assert mentions(data, frozenset({"c-1", "d-1"})) is is_named


def test_marks_tell_customers_and_receipts_apart() -> None:
    marks = {customer_mark(customer, receipt) for customer in "ab" for receipt in "xy"}
    assert len(marks) == 4
    assert customer_mark("a", "x") == customer_mark("a", "x")
    assert all(len(mark) == len("blake2b:") + 64 for mark in marks)
