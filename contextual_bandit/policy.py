"""Policies, the probability floor and the seeded draw."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import fsum, inf
from typing import Protocol

from contextual_bandit.types import Action, Context, LoggedInteraction

# What float32 may leave of a probability of 0.
ROUNDING = 1e-6


class UnusableDistribution(ValueError):
    """A policy gave numbers that are no probabilities: its learning setting makes ranking impossible."""


class Policy(Protocol):
    """Gives every eligible action a probability, and learns from closed interactions."""

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        """Probabilities in the order of ``actions``; they sum to 1."""

    def learn(self, interactions: Sequence[LoggedInteraction]) -> None:
        """Update from interactions, in their order."""


class UniformPolicy:
    """Every eligible action alike."""

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        """1 / K for each of the K actions."""
        return (1.0 / len(actions),) * len(actions)

    def learn(self, interactions: Sequence[LoggedInteraction]) -> None:
        """Nothing to learn."""


class FirstActionPolicy:
    """Always the sender's first action: the baseline of a loop that only logs or is an apprentice."""

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        """All mass on the first action."""
        return (1.0,) + (0.0,) * (len(actions) - 1)

    def learn(self, interactions: Sequence[LoggedInteraction]) -> None:
        """Nothing to learn."""


def with_floor(probabilities: Sequence[float], floor: float) -> tuple[float, ...]:
    """Mix with the uniform distribution, so that each of K actions has at least ``floor`` / K.

    Args:
        probabilities: as the policy gave them; rounding errors are normalised away.
        floor: total mass in [0, 1] that is spread evenly.

    Raises:
        UnusableDistribution: one is negative or no number, or all are 0.

    >>> with_floor((1.0, 0.0), 0.5)
    (0.75, 0.25)
    """
    total = fsum(probabilities)
    # "not <" rather than ">=", so that nan counts too.
    if not 0.0 < total < inf or min(probabilities) < -ROUNDING:
        raise UnusableDistribution(f"probabilities sum to {total!r}, the least is {min(probabilities)!r}")
    kept, share = 1.0 - floor, floor / len(probabilities)
    return tuple([kept * (probability / total) + share for probability in probabilities])


def with_promotion(probabilities: Sequence[float], promoted: Sequence[bool], share: float) -> tuple[float, ...]:
    """Give ``share`` of the probability evenly to the promoted actions; without one, nothing changes.

    >>> with_promotion((0.5, 0.5), (True, False), 0.5)
    (0.75, 0.25)
    """
    count = sum(promoted)
    if not count or not share:
        return tuple(probabilities)
    extra = share / count
    return tuple(
        (1.0 - share) * one + (extra if is_promoted else 0.0)
        for one, is_promoted in zip(probabilities, promoted, strict=True)
    )


def uniform_number(loop: str, decision_id: str) -> float:
    """The decision's own number in [0, 1), the same in every process: 53 bits of BLAKE2b of loop and id."""
    digest = blake2b(f"{loop}\x00{decision_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 9007199254740992.0


def pick(probabilities: Sequence[float], number: float) -> int:
    """Index by the inverse cumulative distribution at ``number`` in [0, 1); never one of probability 0.

    >>> pick((0.2, 0.8), 0.19), pick((0.2, 0.8), 0.2)
    (0, 1)
    """
    cumulative = 0.0
    last = 0
    for index, probability in enumerate(probabilities):
        if probability > 0.0:
            cumulative += probability
            last = index
            if number < cumulative:
                return index
    return last
