"""Synthetic logs with a known truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
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


AGES = ("young", "middle", "old")


@pytest.fixture(scope="session")
def contextual_log() -> SyntheticLog:
    """Make a log in which each age likes one of three offers; ``W.band`` says nothing. Offers are shown by ``shown``."""

    def make(
        n: int,
        *,
        liked: float = 0.5,
        other: float = 0.1,
        seed: int = 0,
        shown: Sequence[float] = (1 / 3, 1 / 3, 1 / 3),
    ) -> list[LoggedInteraction]:
        rng = np.random.default_rng(seed)
        ages, bands = rng.integers(0, 3, n), rng.integers(0, 5, n)
        chosen = rng.choice(3, size=n, p=shown)
        rewards = (rng.random(n) < np.where(chosen == ages, liked, other)).astype(float)
        made = []
        for number in range(n):
            one = _interaction(
                number, ("a0", "b1", "a2"), tuple(shown), int(chosen[number]), 0.5, float(rewards[number]), "learn"
            )
            context = Context({"D": {"age_band": AGES[ages[number]]}, "W": {"band": f"w{bands[number]}"}})
            decision = replace(one.decision, decision_id=f"s{seed}-{number}", context=context)
            made.append(replace(one, decision=decision))
        return made

    return make
