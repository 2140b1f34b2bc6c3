"""Which workers of the decision service live, and what each serves: written by all, read by who waits for them.

A worker's entry expires by itself, so that one that was killed is waited for no longer than that.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import cast

import orjson
import redis.asyncio

from adapters.snapshots import snapshot_generation

WORKERS_KEY = "workers"
LIVES_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Served:
    """What a worker serves of one loop: the version of its settings, and the generation of its model.

    ``switches`` is the version of all kill switches that it goes by.
    """

    version: int
    generation: int
    switches: int = 0


def worker_key(worker_id: str) -> str:
    """The key of a worker's entry."""
    return "worker:" + worker_id


class LiveWorker:
    """One worker's entry."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.worker_id = uuid.uuid4().hex
        self._client = client

    async def tell(self, served: Mapping[str, tuple[int, str]], switches: int = 0) -> None:
        """Say what is served: by loop, the version of its settings and the name of the snapshot; and live on.

        ``switches`` is the version of the kill switches.
        """
        entry = orjson.dumps({"loops": served, "switches": switches})
        pipeline = self._client.pipeline(transaction=False)
        pipeline.sadd(WORKERS_KEY, self.worker_id)
        pipeline.set(worker_key(self.worker_id), entry, ex=LIVES_SECONDS)
        await pipeline.execute()

    async def leave(self) -> None:
        """Nobody need wait for this worker any more."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.srem(WORKERS_KEY, self.worker_id)
        pipeline.delete(worker_key(self.worker_id))
        await pipeline.execute()


async def served_by(client: redis.asyncio.Redis, loop: str) -> list[Served]:
    """What every live worker serves of a loop; version 0 where it does not know the loop yet."""
    names = await cast("Awaitable[set[bytes]]", client.smembers(WORKERS_KEY))
    if not names:
        return []
    worker_ids = sorted(name.decode() for name in names)
    entries = cast("list[bytes | None]", await client.mget([worker_key(one) for one in worker_ids]))
    gone = [worker_id for worker_id, entry in zip(worker_ids, entries, strict=True) if entry is None]
    if gone:
        # One that was only slow enters itself again.
        await client.srem(WORKERS_KEY, *gone)
    found = []
    for entry in entries:
        if entry is not None:
            told = orjson.loads(entry)
            # A worker of an older release tells neither, and counts as behind.
            version, snapshot_id = told.get("loops", {}).get(loop, (0, ""))
            found.append(Served(version, snapshot_generation(snapshot_id), told.get("switches", 0)))
    return found
