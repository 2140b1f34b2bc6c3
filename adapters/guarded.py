"""Asking sources that may be slow or away: a memory, a breaker, and a wait that ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# An answer that comes after its callers left is still worth having, but not for ever.
LONGEST_SECONDS = 5.0


class Unavailable(RuntimeError):
    """A source gave no answer: it failed, took too long, or is not asked because it lately did."""


class Remembered(Generic[Key, Value]):
    """Values with an age at which they are forgotten; the least used go first when there are too many."""

    def __init__(self, most: int, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._clock = clock
        self._entries: OrderedDict[Key, tuple[float, Value]] = OrderedDict()

    def get(self, key: Key) -> tuple[Value] | None:
        """The value (in a tuple, because it may be None) while it is fresh."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        forgotten_at, value = entry
        if self._clock() >= forgotten_at:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return (value,)

    def put(self, key: Key, value: Value, seconds: float) -> None:
        """Keep a value for so long."""
        self._entries[key] = (self._clock() + seconds, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)


class Breaker:
    """Open after so many failures on end: then nobody asks for a while, and after that one caller tries."""

    def __init__(
        self, name: str, failures: int = 3, open_seconds: float = 30.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._name = name
        self._failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._failed = 0
        self._open_until = 0.0

    def allows(self) -> bool:
        """Whether to ask now. Half open, the first caller may, and the others wait for what becomes of it."""
        if self._failed < self._failures:
            return True
        if self._clock() < self._open_until:
            return False
        self._open_until = self._clock() + self._open_seconds
        return True

    def succeeded(self) -> None:
        """An answer came: closed."""
        if self._failed >= self._failures:
            log.info("asked again", extra={"source": self._name})
        self._failed = 0

    def failed(self, failures: int = 1) -> None:
        """No answer came."""
        was_open = self._failed >= self._failures
        self._failed += failures
        if self._failed >= self._failures:
            self._open_until = self._clock() + self._open_seconds
            if not was_open:
                log.warning("not asked for a while", extra={"source": self._name, "seconds": self._open_seconds})

    def overran(self) -> None:
        """Callers stopped waiting: open at once, so that no other waits as long. A late answer closes it."""
        self.failed(self._failures)


class Guarded(Generic[Key, Value]):
    """Asks for each key once at a time, in the background; callers wait only so long."""

    def __init__(self, name: str, ask: Callable[[Key], Awaitable[Value]], breaker: Breaker) -> None:
        self._name = name
        self._ask = ask
        self._breaker = breaker
        self._flights: dict[Key, asyncio.Task[Value | Unavailable]] = {}

    async def get(self, key: Key, deadline: float) -> Value:
        """The source's answer, at the latest at ``deadline`` (by the clock of the event loop).

        Raises:
            Unavailable: there is none.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            raise Unavailable(f"no time left to ask {self._name}")
        flight = self._flights.get(key)
        if flight is None:
            if not self._breaker.allows():
                raise Unavailable(f"{self._name} is not asked for a while")
            flight = self._flights[key] = loop.create_task(self._fly(key), name=f"ask {self._name}")
        try:
            async with asyncio.timeout_at(deadline):
                # One caller that gives up must not cancel the answer of the others.
                answer = await asyncio.shield(flight)
        except TimeoutError:
            self._breaker.overran()
            raise Unavailable(f"{self._name} did not answer in time") from None
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    async def close(self) -> None:
        """Stop what is still under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, key: Key) -> Value | Unavailable:
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                answer = await self._ask(key)
        except Exception as error:
            self._breaker.failed()
            log.warning("no answer", extra={"source": self._name, "why": f"{type(error).__name__}: {error}"})
            return Unavailable(f"{self._name} failed: {error}")
        else:
            self._breaker.succeeded()
            return answer
        finally:
            del self._flights[key]
