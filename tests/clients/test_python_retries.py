"""What both Python clients share: when a call is tried again, by a clock of the test's own, and the calls there are."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime

import pytest
from offerloop_client import AsyncClient, Client
from offerloop_client.errors import BadRequest, ServiceAway, seconds_of
from offerloop_client.retries import Attempts, Retry

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def away(retry_after=None):
    return ServiceAway("Away", "nobody there", status=503, retry_after_seconds=retry_after)


def test_pauses_double_up_to_the_longest_and_are_drawn_below_it(clock):
    retry = Retry(attempts=6, budget_seconds=100, first_pause_seconds=0.1, longest_pause_seconds=0.5)
    asked = []
    attempts = Attempts(retry, clock, draw=lambda low, high: asked.append((low, high)) or high)
    for _ in range(5):
        attempts.begin()
        attempts.pause_seconds(away())
    assert [low for low, _ in asked] == [0.0] * 5
    assert [high for _, high in asked] == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_the_draw_spreads_what_failed_together(clock):
    pauses = set()
    for _ in range(50):
        attempts = Attempts(Retry(first_pause_seconds=0.1), clock)
        attempts.begin()
        pauses.add(attempts.pause_seconds(away()))
    assert len(pauses) > 40
    assert all(0.0 <= pause <= 0.1 for pause in pauses)


def test_no_attempt_begins_before_the_service_asks_for_it(clock):
    attempts = Attempts(Retry(budget_seconds=10), clock)
    attempts.begin()
    assert 2.0 <= attempts.pause_seconds(away(retry_after=2.0)) <= 2.05


def test_the_last_attempt_fails_with_its_own_error(clock):
    attempts = Attempts(Retry(attempts=2), clock)
    attempts.begin()
    attempts.pause_seconds(away())
    attempts.begin()
    last = away()
    with pytest.raises(ServiceAway) as found:
        attempts.pause_seconds(last)
    assert found.value is last
    assert last.attempts == 2


def test_an_attempt_waits_for_no_longer_than_what_is_left(clock):
    attempts = Attempts(Retry(timeout_seconds=1.0, budget_seconds=3.0), clock)
    assert attempts.begin() == 1.0
    clock.now += 2.25
    assert attempts.begin() == pytest.approx(0.75)
    clock.now += 0.75
    with pytest.raises(ServiceAway):
        attempts.pause_seconds(away())


def test_a_pause_beyond_the_budget_is_not_begun(clock):
    attempts = Attempts(Retry(budget_seconds=3.0), clock)
    attempts.begin()
    with pytest.raises(ServiceAway):
        attempts.pause_seconds(away(retry_after=3.0))


def test_what_the_caller_waits_for_by_wish_is_not_taken_from_the_budget(clock):
    attempts = Attempts(Retry(timeout_seconds=1.0, budget_seconds=3.0), clock, patience_seconds=35.0)
    assert attempts.begin() == 36.0


def test_a_refusal_is_not_repeated(clock):
    attempts = Attempts(Retry(), clock)
    attempts.begin()
    with pytest.raises(BadRequest):
        attempts.pause_seconds(BadRequest("Bad request", "wrong", status=400))


@pytest.mark.parametrize("name", ["attempts", "timeout_seconds", "budget_seconds", "first_pause_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        Retry(**{name: value})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("7", 7.0), ("0", 0.0), ("Mon, 02 Mar 2026 09:30:30 GMT", 30.0),
        ("Mon, 02 Mar 2026 09:29:00 GMT", 0.0), ("soon", None), ("-5", None),
    ],
)  # fmt: skip
def test_both_forms_of_retry_after_are_read(header, seconds):
    assert seconds_of(header, NOW) == seconds


def test_both_clients_have_the_same_calls():
    def calls(kind):
        return {name: inspect.signature(call) for name, call in vars(kind).items() if name[0] != "_"}

    assert {"rank", "rank_batch", "reward", "activate", "activity", "decision", "offers", "customer"} < set(
        calls(Client)
    )
    assert calls(AsyncClient) == calls(Client)
    assert all(inspect.iscoroutinefunction(vars(AsyncClient)[name]) for name in calls(AsyncClient))
