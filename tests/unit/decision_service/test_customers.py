"""What a process remembers of customers: no longer than it may be used, and never more than a bound."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from decision_service import customers
from decision_service.customers import Customers


class Stores:
    """Redis, which knows everybody, and the stream that is there; counts the reads of each customer."""

    is_away = False

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.asked = 0
        self.gone: set[str] = set()
        self.record = b"{}"

    def noting_absence(self) -> AbstractContextManager[None]:
        """Nothing is absent."""
        return nullcontext()

    async def ask(self, command: bytes, *keys: bytes) -> list[bytes | None]:
        """No profile, and an empty record, of everybody who is not ``gone``."""
        assert command == b"MGET"
        names = [key.decode().partition(":")[2] for key in keys[::2]]
        self.reads += names
        self.asked += 1
        return [part for name in names for part in ((None, None) if name in self.gone else (b"", self.record))]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock; its last entry is now."""
    at = [100.0]
    # Not the event loop's.
    monkeypatch.setattr(customers, "time", SimpleNamespace(monotonic=lambda: at[-1]))
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


def test_who_is_asked_for_again_is_read_with_others_before_the_time_is_over(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customers, "READ_AT_A_TIME", 4)
    stores = Stores()
    asked = known(stores, 0.05)
    names = [f"c{number}" for number in range(6)]

    async def run() -> None:
        first = [await asked.known(name) for name in names]
        clock.append(clock[-1] + 0.03)
        for name in names[:5]:
            await asked.known(name)
        stores.gone = {"c1"}
        await asyncio.sleep(0.03)
        # Five of them in two reads, beside the six calls' own.
        assert stores.asked == 8
        assert stores.reads[6:] == names[:5]
        clock.append(clock[-1] + 0.03)
        # Of whom nothing was found, and who was not asked for again, is read by their calls.
        assert [await asked.known(name) for name in ("c0", "c2", "c3", "c4")] == [first[0], *first[2:5]]
        assert stores.asked == 8
        stores.gone = set()
        await asked.known("c1")
        await asked.known("c5")
        assert stores.asked == 10
        await asked.stop()

    asyncio.run(run())


def test_what_has_changed_is_seen_when_it_is_read_ahead(clock: list[float]) -> None:
    stores = Stores()
    asked = known(stores, 0.05)

    async def run() -> None:
        before = await asked.known("a")
        clock.append(clock[-1] + 0.03)
        stores.record = b'{"region": "north"}'
        assert await asked.known("a") is before
        await asyncio.sleep(0.03)
        after = await asked.known("a")
        assert (before.record.region, after.record.region) == (None, "north")
        await asked.stop()

    asyncio.run(run())


def test_while_redis_is_away_nothing_is_read_ahead(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Stores()
    asked = known(stores, 0.05)

    async def run() -> None:
        await asked.known("a")
        clock.append(clock[-1] + 0.03)
        await asked.known("a")
        monkeypatch.setattr(stores, "is_away", True)
        await asyncio.sleep(0.03)
        assert stores.asked == 1
        await asked.stop()

    asyncio.run(run())
