"""Synthetic logs with a known truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from contextual_bandit.types import Action, Context, Decision, Distribution, LoggedInteraction, SlotDecision, Use

STARTED_AT = datetime(2026, 3, 1, tzinfo=UTC)

SyntheticLog = Callable[..., list[LoggedInteraction]]


def _interaction(
    number: int, offers: Sequence[str], served: tuple[float, ...], chosen: int, draw: float, reward: float, use: Use
) -> LoggedInteraction:
    at = STARTED_AT + timedelta(seconds=30 * number)
    decision = Decision(
        loop="homepage",
        decision_id=f"d{number}",
        decided_at=at,
        occurred_at=at,
        customer_id=None,
        context=Context({}),
        actions=tuple(Action(offer, {"category": offer[0]}) for offer in offers),
        removed=(),
        slots=(SlotDecision(chosen, Distribution(served, served), served[chosen], draw),),
        policy_id="p",
        snapshot_id="s",
        learning_mode="online",
        use=use,
        deferred=False,
        request_hash="h",
    )
    return LoggedInteraction(number + 1, decision, reward, use, at + timedelta(minutes=10))


@pytest.fixture
def synthetic_log() -> SyntheticLog:
    """Make a log: offers drawn from ``true`` probabilities, ``logged`` ones written down (default: the true ones)."""

    def make(
        n: int,
        rates: Sequence[float],
        true: Sequence[float],
        *,
        logged: Sequence[float] | None = None,
        seed: int = 0,
        use: Use = "learn",
    ) -> list[LoggedInteraction]:
        rng = np.random.default_rng(seed)
        draws = rng.random(n)
        chosen = np.minimum(np.searchsorted(np.cumsum(true), draws, side="right"), len(true) - 1)
        rewards = (rng.random(n) < np.asarray(rates)[chosen]).astype(float)
        offers = [f"{'ab'[index % 2]}{index}" for index in range(len(rates))]
        served = tuple(float(one) for one in (logged or true))
        return [
            _interaction(number, offers, served, int(chosen[number]), float(draws[number]), float(rewards[number]), use)
            for number in range(n)
        ]

    return make
