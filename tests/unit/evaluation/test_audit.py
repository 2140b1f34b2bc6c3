"""Propensity audit: passes an honest log and catches every kind of lie."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from contextual_bandit.policy import pick, uniform_number, with_floor
from contextual_bandit.types import Action, Context, Decision, Distribution, SlotDecision
from evaluation.audit import AuditResult, audit, inverse_cdf

POLICY = (0.7, 0.2, 0.1)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def floor(probabilities: tuple[float, ...]) -> tuple[float, ...]:
    return with_floor(probabilities, 0.02)


def honest(number: int) -> Decision:
    name = f"d{number}"
    served = floor(POLICY)
    draw = uniform_number("homepage", name)
    chosen = pick(served, draw)
    return Decision(
        loop="homepage",
        decision_id=name,
        decided_at=AT,
        occurred_at=AT,
        customer_id=None,
        context=Context({}),
        actions=tuple(Action(offer, {}) for offer in "abc"),
        removed=(),
        slots=(SlotDecision(chosen, Distribution(POLICY, served), served[chosen], draw),),
        policy_id="p",
        snapshot_id="s",
        learning_mode="online",
        use="learn",
        deferred=False,
        request_hash="h",
    )


def audited(*decisions: Decision, tolerance: float = 0.0) -> AuditResult:
    return audit(
        decisions, lambda _: POLICY, serve=lambda _, given: floor(given), draw=uniform_number, tolerance=tolerance
    )


def with_slot(decision: Decision, **changes: Any) -> Decision:
    return replace(decision, slots=(replace(decision.slots[0], **changes),))


def test_an_honest_log_passes_exactly() -> None:
    result = audited(*(honest(number) for number in range(300)))
    assert result == AuditResult(300, 0, ())
    assert result.passed


def test_nothing_checked_is_no_pass() -> None:
    fallback = replace(honest(0), slots=(SlotDecision(0, None, None, None),), use="fallback")
    assert audited(fallback) == AuditResult(0, 0, ())
    assert not audited(fallback).passed


def other_choice(decision: Decision) -> int:
    return (decision.slots[0].chosen + 1) % 3


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda one: with_slot(one, propensity=one.slots[0].propensity * 1.01), "propensity"),
        (lambda one: with_slot(one, propensity=None), "propensity None"),
        (lambda one: with_slot(one, draw=0.123456), "draw logged 0.123456, recomputed"),
        (lambda one: with_slot(one, draw=None), "draw logged None"),
        (lambda one: with_slot(one, chosen=other_choice(one)), "picks action"),
        (lambda one: with_slot(one, chosen=7), "chose 7 of 3"),
        (
            lambda one: with_slot(one, distribution=Distribution((0.6, 0.3, 0.1), one.slots[0].distribution.served)),
            "policy distribution of action",
        ),
        (lambda one: with_slot(one, distribution=Distribution(POLICY, POLICY)), "served distribution of action"),
        (lambda one: with_slot(one, distribution=Distribution(POLICY, (0.7, 0.2, 0.2))), "sum to 1.1"),
        (lambda one: with_slot(one, distribution=Distribution((0.7, 0.3), (0.7, 0.3))), "2 probabilities logged, 3"),
    ],
)
def test_every_lie_is_caught(corrupt: Any, message: str) -> None:
    result = audited(honest(1), corrupt(honest(2)), honest(3))
    assert (result.checked, result.mismatches) == (3, 1)
    assert "homepage/d2" in result.examples[0]
    assert message in result.examples[0]


def test_tolerance_and_number_of_examples() -> None:
    policy = (0.7 + 1e-9, 0.2 - 1e-9, 0.1)
    off = [
        with_slot(one, distribution=Distribution(policy, one.slots[0].distribution.served))  # type: ignore[union-attr]
        for one in map(honest, range(20))
    ]
    assert audited(*off).mismatches == 20
    assert len(audited(*off).examples) == 10
    assert audited(*off, tolerance=1e-8).passed


def test_inverse_cdf_agrees_with_the_service() -> None:
    for served in ((0.5, 0.0, 0.5), (0.0, 1.0), (0.1,) * 10):
        for number in (0.0, 0.3, 0.5, 0.9999999999999999):
            assert inverse_cdf(served, number) == pick(served, number)
