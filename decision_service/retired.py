"""Policies that serve no more, kept until no call can still be using them."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from contextual_bandit.decide import ServingPolicy
from contextual_bandit.vowpal import VowpalPolicy

# Longer than a call waits for the stores, tries included: until then it may draw again from the policy it began with.
KEEP_SECONDS = 15.0


class Retired:
    """Policies to be freed, the oldest first; a workspace that is freed while a call draws from it would fail it."""

    def __init__(self, keep_seconds: float = KEEP_SECONDS) -> None:
        self._keep_seconds = keep_seconds
        self._waiting: list[tuple[float, ServingPolicy]] = []

    def add(self, serving: ServingPolicy) -> None:
        """Let a policy go that new calls are no longer given."""
        self._waiting.append((time.monotonic(), serving))

    async def free(self) -> None:
        """Free those that nobody uses any more."""
        now = time.monotonic()
        while self._waiting and now - self._waiting[0][0] >= self._keep_seconds:
            _, serving = self._waiting.pop(0)
            await asyncio.to_thread(cast("VowpalPolicy", serving.policy).close)
