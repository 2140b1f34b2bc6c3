"""The services' side of the stream: group commit, decisions logged once per id, and the spool when it is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, NamedTuple, cast

import orjson
import redis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from adapters.redis_pipe import RedisPipe, encoded
from adapters.sessions import SessionMark
from adapters.spool import SPOOLED, Call, Spool, Spooled
from adapters.streams import AWAY, FIELD, decided_key, loop_stream
from adapters.units import LOG_ONCE, LimitedDraw
from contextual_bandit import events
from contextual_bandit.limits import Draw

log = logging.getLogger(__name__)
RETRY_SECONDS = 0.5
DRAIN_BATCH = 500
# The script's answers when the counts of units are not whole, and when another session has begun.
COUNTS_LOST, OTHER_SESSION = 2, 3

# Redis names scripts by SHA-1; nothing secret rests on it.
_SCRIPT = sha1(LOG_ONCE.encode(), usedforsecurity=False).hexdigest().encode()
# Connections: some for decisions, one for what must keep its order, one for reads.
DECISION_PIPES = 4
OTHERS, READS = DECISION_PIPES, DECISION_PIPES + 1
PIPES = DECISION_PIPES + 2


@dataclass(frozen=True, slots=True)
class Logged:
    """What the stream answered: ``known`` when the id had been decided before, with that decision's hash.

    ``position`` is SPOOLED while the decision waits on disk. ``draws`` are a limited decision's, one for each slot.
    """

    known: bool
    request_hash: str
    position: str
    draws: tuple[Draw, ...] = ()


class _Waiting(NamedTuple):
    """A call that goes the careful way; ``was_sent``: the server may have done it already."""

    call: Call
    future: asyncio.Future[Any]
    was_sent: bool


class DrawUnknown(redis.RedisError):
    """The stream went away while a limited draw was on its way: what was drawn, if anything, only the log will tell."""


class SessionBegun(RuntimeError):
    """Since the customer's session was looked up another call has begun one: nothing was logged."""


class UnitsUnknown(RuntimeError):
    """The store has lost its counts of units; they must be made anew from the log before a limited draw."""


class StreamWriter:
    """Appends messages: each goes out as it comes, over connections on which many are under way at once.

    The server takes what has come, syncs its log once for all of it (``appendfsync always``) and then answers, so that
    an answer means that the message is on disk, and whoever comes meanwhile is in the next sync.

    What the server refuses or does not answer goes the careful way, one batch at a time, and so does all that comes
    meanwhile: it is tried again, and while the server is away it is synced to the spool instead, and sent when it is
    back, announced so that no decision closes before what waited has arrived.
    """

    def __init__(self, client: redis.asyncio.Redis, spool: Spool) -> None:
        self._client = client
        self._spool = spool
        self._pipes: list[RedisPipe] = []
        self._turn = 0
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._sending = asyncio.Lock()
        self._away_until = 0.0
        self._was_away = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_away(self) -> bool:
        """The server did not answer a moment ago; reads need not try."""
        return time.monotonic() < self._away_until

    @contextmanager
    def noting_absence(self) -> Iterator[None]:
        """Around a read that can be done without: no answer is no error, and for a moment nobody tries again."""
        try:
            yield
        except AWAY:
            self._note_away()

    def _note_away(self) -> None:
        self._away_until = time.monotonic() + RETRY_SECONDS
        self._was_away = True

    async def start(self) -> None:
        """Take over what dead processes left, and start sending."""
        await asyncio.to_thread(self._spool.adopt)
        await self._open_pipes()
        self._task = asyncio.create_task(self._send_forever(), name="stream-writer")

    async def stop(self) -> None:
        """Send what waits, then stop; what cannot be sent stays in the spool."""
        while self._waiting or any(pipe.is_waiting for pipe in self._pipes):
            await asyncio.sleep(0.005)
        async with self._sending:
            self._close_pipes()
            if self._task is not None:
                self._task.cancel()
                with suppress(asyncio.CancelledError):
                    await self._task

    async def append(self, stream: str, message: bytes) -> str:
        """Append one message; returns its position once it is durable."""
        position: bytes = await self._enqueue(Call(stream, message))
        return position.decode()

    async def log_decision(
        self, loop: str, decision_id: str, message: bytes, request_hash: str, ttl_seconds: int,
        limited: LimitedDraw | None = None, session: SessionMark | None = None,
    ) -> Logged:  # fmt: skip
        """Append a decision unless its id is known; then say what was logged under it. It begins the ``session``.

        With ``limited`` the draw happens in the same step, where units are counted; while the stream is away,
        limited offers count as exhausted.

        Raises:
            UnitsUnknown: the counts are lost; nothing was logged.
            SessionBegun: the customer has another session by now; nothing was logged.
            DrawUnknown: the stream went away meanwhile; asking again with the same id tells what was drawn.
        """
        decided = decided_key(loop, decision_id)
        call = Call(loop_stream(loop), message, decided, request_hash, ttl_seconds, limited, session)
        known, stored_hash, position, *drawn = await self._enqueue(call)
        if known == COUNTS_LOST:
            raise UnitsUnknown("the counts of units are lost")
        if known == OTHER_SESSION:
            raise SessionBegun(f"another session of the customer on loop {loop!r} has begun")
        draws = events.draws_from(orjson.loads(drawn[0])) if drawn else ()
        return Logged(bool(known), stored_hash.decode(), position.decode(), draws)

    def spooled_decision(self, loop: str, decision_id: str) -> Call | None:
        """A decision that waits on disk."""
        return self._spool.decided(decided_key(loop, decision_id))

    async def ask(self, *parts: bytes) -> Any:
        """Ask the server for something that is read, such as (b"GET", key).

        Raises:
            redis.RedisError: the server is away, or refuses.
        """
        if self._is_direct():
            # The library has an error of its own for each refusal, and connects anew.
            with suppress(redis.ResponseError, RedisConnectionError):
                return await self._pipes[READS].ask(encoded(*parts))
        return await cast("Any", self._client).execute_command(*parts)

    async def _enqueue(self, call: Call) -> Any:
        was_sent = False
        if self._is_direct():
            try:
                return await self._ask_directly(call)
            except redis.RedisError as error:
                was_sent = True
                if isinstance(error, RedisTimeoutError):
                    self._note_away()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(call, future, was_sent))
        self._wake.set()
        return await future

    async def _ask_directly(self, call: Call) -> Any:
        return await self._pipe_for(call).ask(encoded(*_command(call)))

    def _is_direct(self) -> bool:
        """Whether messages go out at once: nothing waits before them, and all was well."""
        return (
            bool(self._pipes)
            and not self._waiting
            and not self._was_away
            and not self._sending.locked()
            and self._spool.is_empty
        )

    def _pipe_for(self, call: Call) -> RedisPipe:
        # Other messages keep their order, and so do draws that take units of the same offers.
        if call.decided_key is None or call.limited is not None:
            return self._pipes[OTHERS]
        # Decisions are independent of each other. The server reads so much of a connection at a time and syncs then, so
        # that several connections have more in one sync.
        self._turn = (self._turn + 1) % DECISION_PIPES
        return self._pipes[self._turn]

    async def _open_pipes(self) -> None:
        self._close_pipes()
        try:
            await self._client.script_load(LOG_ONCE)
            for _ in range(PIPES):
                self._pipes.append(await RedisPipe.open(self._client))
        except redis.RedisError as error:
            # Until they can be opened all goes the careful way.
            log.warning("no direct connections to the stream", extra={"error": repr(error)})
            self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        self._pipes = []

    async def _send_forever(self) -> None:
        while True:
            # What waits on disk is tried again even when nothing new comes.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), None if self._spool.is_empty else RETRY_SECONDS)
            self._wake.clear()
            async with self._sending:
                batch, self._waiting = self._waiting, []
                await self._send(batch)
                if not self.is_away and not (self._pipes and all(pipe.is_open for pipe in self._pipes)):
                    await self._open_pipes()

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        calls = [one.call for one in batch]
        try:
            replies, is_sent = await self._try(calls)
            if replies is None:
                # A limited draw that may have happened is not made again: the two could differ.
                unknown = [bool(one.call.limited) and (is_sent or one.was_sent) for one in batch]
                waiting = [
                    _without_units(call) for call, is_unknown in zip(calls, unknown, strict=True) if not is_unknown
                ]
                if waiting:
                    await asyncio.to_thread(self._spool.append, waiting, datetime.now(UTC))
                replies = [
                    DrawUnknown() if is_unknown else _spooled_reply(call)
                    for call, is_unknown in zip(calls, unknown, strict=True)
                ]
        except Exception as error:
            log.exception("messages refused")
            replies = [error] * len(calls)
        for one, reply in zip(batch, replies, strict=True):
            if one.future.done():
                continue
            if isinstance(reply, Exception):
                one.future.set_exception(reply)
            else:
                one.future.set_result(reply)

    async def _try(self, calls: Sequence[Call]) -> tuple[list[Any] | None, bool]:
        """Send what waits on disk and then ``calls``; no replies while the server is away.

        Also says whether ``calls`` may have reached the server.
        """
        if self.is_away:
            return None, False
        is_sent = False
        try:
            if self._was_away:
                await self._client.ping()
                self._was_away = False
            if not self._spool.is_empty:
                try:
                    await self._drain()
                except redis.ResponseError:
                    # New messages queue up behind what the server refuses, so that their order stays.
                    log.exception("the stream refuses what waited")
                    self._note_away()
                    return None, False
            is_sent = bool(calls)
            replies = await self._execute(calls) if calls else []
        except AWAY as error:
            log.warning("the stream is away; messages go to the spool", extra={"error": repr(error)})
            self._note_away()
            return None, is_sent
        return replies, is_sent

    async def _drain(self) -> None:
        """Announce what waited, send it, and say that it has come; done again from the start if it fails between.

        Raises:
            redis.RedisError: the server is away, or refused a message, which then goes on waiting.
        """
        waiting = await asyncio.to_thread(self._spool.waiting)
        # A spool that was taken over from a dead process may stand announced under its own name.
        groups: dict[tuple[str, str], list[Spooled]] = {}
        for spooled in waiting:
            groups.setdefault((spooled.call.stream, spooled.spool_id), []).append(spooled)
        for is_open in (True, False):
            for (stream, spool_id), group in groups.items():
                await self._client.xadd(stream, {FIELD: _announcement(spool_id, group, is_open=is_open)})
            for start in range(0, len(waiting) if is_open else 0, DRAIN_BATCH):
                replies = await self._execute([_late(spooled) for spooled in waiting[start : start + DRAIN_BATCH]])
                for reply in replies:
                    if isinstance(reply, Exception):
                        raise reply
        self._spool.clear()
        log.info("the spool is drained", extra={"messages": len(waiting)})

    async def _execute(self, calls: Sequence[Call]) -> list[Any]:
        """Replies in order; a refusal by the server stands in its place, an absent server raises."""
        replies = await self._pipeline(calls)
        # A restarted server has forgotten the script; what it refused was not done.
        refused = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if refused:
            await self._client.script_load(LOG_ONCE)
            again = await self._pipeline([calls[index] for index in refused])
            for index, reply in zip(refused, again, strict=True):
                replies[index] = reply
        for reply in replies:
            if isinstance(reply, AWAY):
                raise reply
        return replies

    async def _pipeline(self, calls: Sequence[Call]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*_command(call))
        return await pipeline.execute(raise_on_error=False)


def _command(call: Call) -> list[bytes]:
    """What the server is asked to do."""
    if call.decided_key is None:
        return [b"XADD", call.stream.encode(), b"*", FIELD, call.message]
    keys = [call.stream, call.decided_key]
    arguments = [call.message, call.request_hash.encode(), b"%d" % call.ttl_seconds]
    if call.limited is not None:
        keys += call.limited.keys()
        arguments.append(call.limited.argument())
    if call.session is not None:
        keys.append(call.session.key)
        arguments += [b""] * (call.limited is None) + call.session.arguments()
    return [b"EVALSHA", _SCRIPT, b"%d" % len(keys), *[key.encode() for key in keys], *arguments]


def _announcement(spool_id: str, group: Sequence[Spooled], *, is_open: bool) -> bytes:
    """Says that messages as old as the oldest of these are on their way, or that they have come."""
    time = min(events.event_time(spooled.call.message) for spooled in group)
    payload = {"spool_id": spool_id, "open": is_open}
    return events.encode(events.SPOOL, time, payload, spooled_at=min(spooled.at for spooled in group))


def _late(spooled: Spooled) -> Call:
    """The call with the time of its acknowledgement in its message, for the join to count by."""
    call = spooled.call
    message = events.with_spooled_at(call.message, spooled.at)
    # A limited decision was drawn when it was spooled.
    return Call(call.stream, message, call.decided_key, call.request_hash, call.ttl_seconds)


def _without_units(call: Call) -> Call:
    """The call as it can wait on disk: a limited decision is drawn here, without its limited offers."""
    if call.limited is None:
        return call
    return replace(call, message=events.with_draws(call.message, call.limited.without_units()))


def _spooled_reply(call: Call) -> Any:
    position = SPOOLED.encode()
    if call.decided_key is None:
        return position
    reply: list[Any] = [0, call.request_hash.encode(), position]
    if call.limited is not None:
        reply.append(orjson.dumps(events.draws_payload(call.limited.without_units())))
    return reply
