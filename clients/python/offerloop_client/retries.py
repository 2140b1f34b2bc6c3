"""When a call is tried again, and how long it may take; no network and no clock of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, fields

from offerloop_client.errors import OfferloopError


@dataclass(frozen=True, slots=True)
class Retry:
    """How a call is repeated.

    Attributes:
        attempts: how often a call is tried at most, 1 or more.
        timeout_seconds: how long one attempt may wait for the service.
        budget_seconds: after so long no attempt begins, and none waits longer.
        first_pause_seconds: the longest pause after the first attempt; it doubles with each.
        longest_pause_seconds: what it doubles up to.
    """

    attempts: int = 4
    timeout_seconds: float = 1.0
    budget_seconds: float = 3.0
    first_pause_seconds: float = 0.05
    longest_pause_seconds: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"{field.name} must be more than 0, got {value!r}")


class Attempts:
    """The attempts of one call: what is left of its time, and whether another is worth it."""

    def __init__(
        self, retry: Retry, clock: Callable[[], float], patience_seconds: float = 0.0,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:  # fmt: skip
        """Begin a call now; ``patience_seconds`` is what the service may take by the caller's own wish."""
        self._retry = retry
        self._clock = clock
        self._patience = patience_seconds
        self._draw = draw
        self._ends_at = clock() + retry.budget_seconds + patience_seconds
        self.count = 0

    def begin(self) -> float:
        """Count an attempt; how long it may wait, in seconds."""
        self.count += 1
        return max(min(self._retry.timeout_seconds + self._patience, self._ends_at - self._clock()), 0.001)

    def pause_seconds(self, failure: OfferloopError) -> float:
        """How long to wait before the next attempt: what the service asks for, and a random part that grows.

        The random part ("full jitter") keeps clients that failed together from coming back together.

        Raises:
            OfferloopError: the failure itself, when there is to be no other attempt.
        """
        failure.attempts = self.count
        longest = min(self._retry.first_pause_seconds * 2.0 ** (self.count - 1), self._retry.longest_pause_seconds)
        pause = (failure.retry_after_seconds or 0.0) + self._draw(0.0, longest)
        is_last = self.count >= self._retry.attempts or self._clock() + pause >= self._ends_at
        if is_last or not failure.is_worth_another_attempt:
            raise failure
        return pause
