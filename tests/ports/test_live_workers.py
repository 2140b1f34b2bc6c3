"""Workers tell what they serve, and those that are gone are not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import redis.asyncio

from adapters.installation import Installation
from adapters.live_workers import WORKERS_KEY, LiveWorker, Served, served_by, worker_key
from adapters.snapshots import snapshot_generation, snapshot_id
from adapters.streams import connect_async

T = TypeVar("T")


@pytest.fixture
def run(installation: Installation) -> Callable[[Callable[[redis.asyncio.Redis], Awaitable[T]]], T]:
    """Run something with a client; no worker is known before."""
    installation.client.delete(WORKERS_KEY)

    def go(what: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
        async def with_client() -> T:
            client = connect_async(installation.redis_url)
            try:
                return await what(client)
            finally:
                await client.aclose()

        return asyncio.run(with_client())

    return go


def test_each_live_worker_says_what_it_serves(run: Callable[..., None]) -> None:
    async def go(client: redis.asyncio.Redis) -> None:
        assert await served_by(client, "shop") == []
        one, other = LiveWorker(client), LiveWorker(client)
        await one.tell({"shop": (3, "shop-g2-40"), "bar": (1, "bar-g1-0")})
        await other.tell({"bar": (1, "bar-g1-0")})
        assert sorted(await served_by(client, "shop"), key=lambda served: served.version) == [
            Served(0, 0),
            Served(3, 2),
        ]
        await one.tell({"shop": (4, "shop-g10-40")})
        await other.leave()
        assert await served_by(client, "shop") == [Served(4, 10)]

    run(go)


def test_one_that_died_is_forgotten_and_one_that_was_only_slow_comes_back(run: Callable[..., None]) -> None:
    async def go(client: redis.asyncio.Redis) -> None:
        slow, dead = LiveWorker(client), LiveWorker(client)
        for worker in (slow, dead):
            await worker.tell({"shop": (1, "shop-g1-0")})
            assert 0 < await client.ttl(worker_key(worker.worker_id)) <= 3
            await client.delete(worker_key(worker.worker_id))
        assert await served_by(client, "shop") == []
        assert await client.scard(WORKERS_KEY) == 0
        await slow.tell({"shop": (2, "shop-g1-9")})
        assert await served_by(client, "shop") == [Served(2, 1)]

    run(go)


@pytest.mark.parametrize("loop", ["shop", "my-g7-3", "a-g1-"])
def test_a_snapshots_generation_is_known_by_its_name(loop: str) -> None:
    assert snapshot_generation(snapshot_id(loop, 12, 4711)) == 12
