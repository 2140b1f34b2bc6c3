"""What a process remembers of customers: no longer than it may be used, and never more than a bound."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from decision_service import customers
from decision_service.customers import Customers


class Stores:
    """Redis, which knows everybody, and the stream that is there; counts the reads of each customer."""

    is_away = False

    def __init__(self) -> None:
        self.reads: list[str] = []

    def noting_absence(self) -> AbstractContextManager[None]:
        """Nothing is absent."""
        return nullcontext()

    async def ask(self, command: bytes, profile: bytes, record: bytes) -> list[bytes]:
        """No profile, and an empty record."""
        assert command == b"MGET"
        self.reads.append(profile.decode().partition(":")[2])
        return [b"", b"{}"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock; its last entry is now."""
    at = [100.0]
    monkeypatch.setattr("decision_service.customers.time.monotonic", lambda: at[-1])
    return at


def known(stores: Stores, cache_seconds: float = 1.0) -> Customers:
    parts: Any = stores
    return Customers(parts, parts, cache_seconds)


def ask(asked: Customers, *names: str) -> None:
    async def each() -> None:
        for name in names:
            await asked.known(name)

    asyncio.run(each())


def test_a_customer_is_read_again_when_what_was_read_is_too_old(clock: list[float]) -> None:
    stores = Stores()
    asked = known(stores)
    ask(asked, "a", "a")
    clock.append(100.9)
    ask(asked, "a")
    assert stores.reads == ["a"]
    clock.append(101.1)
    ask(asked, "a")
    assert stores.reads == ["a", "a"]


def test_nothing_is_kept_that_is_too_old_to_be_used(clock: list[float]) -> None:
    asked = known(Stores())
    ask(asked, *(f"c{number}" for number in range(50)))
    clock.append(100.5)
    ask(asked, "late")
    assert len(asked._cache) == 51
    clock.append(101.2)
    ask(asked, "new")
    assert list(asked._cache) == ["late", "new"]


def test_with_no_time_to_keep_nothing_is_kept(clock: list[float]) -> None:
    stores = Stores()
    asked = known(stores, 0.0)
    ask(asked, "a", "a", "b")
    assert stores.reads == ["a", "a", "b"]
    assert len(asked._cache) == 0


def test_the_bound_holds_and_who_was_read_last_stays(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(customers, "MOST_CACHED", 3)
    stores = Stores()
    asked = known(stores)
    ask(asked, "a", "b", "c", "d")
    assert list(asked._cache) == ["b", "c", "d"]
    ask(asked, "d")
    assert stores.reads == ["a", "b", "c", "d"]
