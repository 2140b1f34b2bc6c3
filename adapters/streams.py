"""Event streams on the Redis protocol: names of keys, connections, and the reader of learners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

ACTIVITY_STREAM = "events:activity"
VERSIONS_KEY = "versions"
FIELD = b"e"
# What a client sees while the server is down, starting or frozen.
AWAY = (RedisConnectionError, RedisTimeoutError, redis.exceptions.BusyLoadingError)


def loop_stream(loop: str) -> str:
    """The key of a loop's stream; the braces keep a loop's keys on one shard of a cluster."""
    return "events:{" + loop + "}"


def decided_key(loop: str, decision_id: str) -> str:
    """The key under which a decision's request hash and stream position are remembered."""
    return "decided:{" + loop + "}:" + decision_id


def applied_key(stream: str) -> str:
    """The key that says how far a stream's consumer has come."""
    return "applied:" + stream


def profile_key(customer_id: str) -> str:
    """The key of a customer's cached profile."""
    return "profile:" + customer_id


def connect(url: str) -> redis.Redis:
    """A sync client that rides out a restart of the server (about 3 s)."""
    return redis.Redis.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), 8),
        retry_on_error=list(AWAY),
        socket_connect_timeout=2.0,
    )


def connect_async(url: str) -> redis.asyncio.Redis:
    """The async twin for the hot path; it gives up soon, because the spool takes over."""
    return redis.asyncio.Redis.from_url(
        url,
        retry=redis.asyncio.retry.Retry(
            ExponentialBackoff(cap=0.1, base=0.02), 2, supported_errors=(RedisConnectionError,)
        ),
        socket_connect_timeout=1.0,
        socket_timeout=1.0,
    )


class StreamReader:
    """Reads streams by position; the reader's owner remembers how far it came."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def read(self, positions: Mapping[str, str], count: int, block_ms: int) -> dict[str, list[tuple[str, bytes]]]:
        """Messages after each stream's position, at most ``count`` per stream; waits up to ``block_ms`` for one."""
        reply = cast(
            "list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]",
            self._client.xread(cast("Any", dict(positions)), count=count, block=block_ms or None),
        )
        return {
            stream.decode(): [(position.decode(), fields[FIELD]) for position, fields in entries]
            for stream, entries in _pairs(reply)
        }

    def append(self, stream: str, message: bytes) -> str:
        """Append one message (ticks and control events)."""
        return cast("bytes", self._client.xadd(stream, {FIELD: message})).decode()

    def at(self, stream: str, position: str) -> bytes | None:
        """The message at a position, or None when it was trimmed."""
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", self._client.xrange(stream, position, position))
        return entries[0][1][FIELD] if entries else None

    def trim(self, stream: str, position: str) -> None:
        """Forget messages before ``position``, which must be committed."""
        self._client.xtrim(stream, minid=position, approximate=True)

    def trim_through(self, stream: str, position: str) -> None:
        """Forget every message up to and including ``position``, which must be committed."""
        milliseconds, _, number = position.partition("-")
        self._client.xtrim(stream, minid=f"{milliseconds}-{int(number or 0) + 1}", approximate=False)

    def delete(self, keys: Sequence[str]) -> None:
        """Forget keys."""
        for start in range(0, len(keys), 1000):
            self._client.delete(*keys[start : start + 1000])

    def fields(self, keys: Sequence[str]) -> list[str]:
        """The names of all fields that these hashes have."""
        found: list[str] = []
        for start in range(0, len(keys), 1000):
            pipeline = self._client.pipeline(transaction=False)
            for key in keys[start : start + 1000]:
                pipeline.hkeys(key)
            found += [name.decode() for names in pipeline.execute() for name in names]
        return found

    def mark_applied(self, stream: str, position: str) -> None:
        """Tell callers that wait that everything up to ``position`` is applied."""
        self._client.set(applied_key(stream), position)

    def applied(self, stream: str) -> str:
        """The position last told by mark_applied, "0-0" before the first."""
        value = cast("bytes | None", self._client.get(applied_key(stream)))
        return value.decode() if value else "0-0"

    def last(self, stream: str) -> str:
        """The position of the newest message, "0-0" in an empty stream."""
        entries = cast("list[tuple[bytes, Any]]", self._client.xrevrange(stream, count=1))
        return entries[0][0].decode() if entries else "0-0"


def _pairs(reply: Any) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """The entries per stream in either form that the protocol's versions 2 and 3 give."""
    if not reply:
        return []
    if isinstance(reply, dict):
        return [(stream, entries[0] if entries and isinstance(entries[0], list) else entries)
                for stream, entries in reply.items()]  # fmt: skip
    return list(reply)
