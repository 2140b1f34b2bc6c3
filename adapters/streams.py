"""Event streams on the Redis protocol: an async group-committing writer for services, a sync reader for learners."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, cast

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

ACTIVITY_STREAM = "events:activity"
VERSIONS_KEY = "versions"
FIELD = b"e"

# One atomic step: answer a known id with what was logged, else log it and remember where.
_LOG_ONCE = """
local known = redis.call('HMGET', KEYS[2], 'hash', 'position')
if known[1] then return {1, known[1], known[2]} end
local position = redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
redis.call('HSET', KEYS[2], 'hash', ARGV[2], 'position', position)
redis.call('EXPIRE', KEYS[2], ARGV[3])
return {0, ARGV[2], position}
"""


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


@dataclass(frozen=True, slots=True)
class Logged:
    """What the stream answered: ``known`` when the id had been decided before, with that decision's hash."""

    known: bool
    request_hash: str
    position: str


def connect(url: str) -> redis.Redis:
    """A sync client that survives a restart of the server."""
    return redis.Redis.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), 8),
        retry_on_error=[RedisConnectionError, RedisTimeoutError, redis.exceptions.BusyLoadingError],
        socket_connect_timeout=2.0,
    )


def connect_async(url: str) -> redis.asyncio.Redis:
    """The async twin of connect, for the hot path."""
    return redis.asyncio.Redis.from_url(
        url,
        retry=redis.asyncio.retry.Retry(ExponentialBackoff(cap=0.5, base=0.02), 8),
        retry_on_error=[RedisConnectionError, RedisTimeoutError, redis.exceptions.BusyLoadingError],
        socket_connect_timeout=2.0,
    )


class StreamWriter:
    """Appends messages; those that wait while a round trip is under way go out together in the next one.

    The server syncs its log once per round trip (``appendfsync always``), so a reply means that the message is on disk.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._log_once = sha1(_LOG_ONCE.encode()).hexdigest()
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the sender; call from the running event loop."""
        self._task = asyncio.create_task(self._send_forever(), name="stream-writer")

    async def stop(self) -> None:
        """Send what waits, then stop."""
        while self._waiting:
            await asyncio.sleep(0.005)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def append(self, stream: str, message: bytes) -> str:
        """Append one message; returns its position once it is durable."""
        position: bytes = await self._enqueue(("add", stream, message))
        return position.decode()

    async def log_decision(
        self, loop: str, decision_id: str, message: bytes, request_hash: str, ttl_seconds: int
    ) -> Logged:
        """Append a decision unless its id is known; then say what was logged under it."""
        keys = (loop_stream(loop), decided_key(loop, decision_id))
        known, stored_hash, position = await self._enqueue(("once", keys, (message, request_hash, ttl_seconds)))
        return Logged(bool(known), stored_hash.decode(), position.decode())

    async def _enqueue(self, call: tuple[Any, ...]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, future))
        self._wake.set()
        return await future

    async def _send_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            if batch:
                await self._send(batch)

    async def _send(self, batch: Sequence[tuple[tuple[Any, ...], asyncio.Future[Any]]]) -> None:
        calls = [call for call, _ in batch]
        try:
            replies = await self._execute(calls)
            # A restarted server has forgotten the script; what it refused was not done.
            refused = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if refused:
                await self._client.script_load(_LOG_ONCE)
                again = await self._execute([calls[index] for index in refused])
                for index, reply in zip(refused, again, strict=True):
                    replies[index] = reply
        except asyncio.CancelledError:
            raise
        except Exception as error:
            replies = [error] * len(batch)
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def _execute(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            if call[0] == "add":
                pipeline.xadd(call[1], {FIELD: call[2]})
            else:
                pipeline.evalsha(self._log_once, len(call[1]), *call[1], *call[2])
        return await pipeline.execute(raise_on_error=False)


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
