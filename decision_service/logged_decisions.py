"""Decisions that were made before: found by their ids, and by ids that callers gave to repeated answers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import redis.asyncio
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.interaction_log import find_decision, known_hashes
from adapters.sessions import FIRST, Sessions
from adapters.spool import SPOOLED
from adapters.stream_writer import StreamWriter
from adapters.streams import FIELD, decided_key, loop_stream
from contextual_bandit import events
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Decision
from decision_service.checks import repeated_id
from decision_service.sticky import SessionDecision, session_decision
from decision_service.together import Together

# How much longer than its decision can be rewarded a caller's own id stands for it.
MARGIN_SECONDS = 3600


class LoggedDecisions:
    """The decisions of all loops, in the spool, the streams and PostgreSQL."""

    def __init__(self, client: redis.asyncio.Redis, writer: StreamWriter, engine: Engine, ttl_seconds: int) -> None:
        self._client = client
        self._writer = writer
        self._engine = engine
        self._ttl_seconds = ttl_seconds
        self._sessions = Sessions(client)
        self._known_hashes = Together[tuple[str, str], str](lambda keys: known_hashes(engine, keys))

    async def at(self, loop: str, decision_id: str, position: str) -> Decision | None:
        """The decision at a stream position, or from PostgreSQL when the stream was trimmed."""
        waiting = self._writer.spooled_decision(loop, decision_id)
        if waiting is not None:
            return events.decision_from(events.decode(SPOOLED, waiting.message).payload)
        entries = cast("list[Any]", await self._client.xrange(loop_stream(loop), position, position))
        if entries:
            return events.decision_from(events.decode(position, entries[0][1][FIELD]).payload)
        stored = await asyncio.to_thread(find_decision, self._engine, loop, decision_id)
        return stored.decision if stored else None

    async def find(self, loop: str, decision_id: str, request_hash: str) -> Decision | None:
        """What a request was answered under this id, if it was.

        Raises:
            RepeatedId: the id stands for another request.
        """
        known, position, first_id = await self._remembered(loop, decision_id)
        if known is None:
            # Older than Redis remembers, perhaps: the log knows every id.
            try:
                found = await self._known_hashes.get((loop, decision_id))
            except SQLAlchemyError:
                return None
            if found is None:
                return None
            known, position = found, "0-0"
        if known != request_hash:
            raise repeated_id(decision_id)
        if not first_id:
            return await self.at(loop, decision_id, position)
        first = await self.at(loop, first_id, position)
        if first is None:
            # It was deleted: the id is free again.
            await self._client.delete(decided_key(loop, decision_id))
            return None
        return session_decision(first, position)

    async def name(self, loop: LoopConfig, decision: SessionDecision, own_id: str, request_hash: str) -> Decision:
        """Let a caller's own id stand for a session's decision; returns what it stands for, if it did before.

        Raises:
            RepeatedId: the id stands for another request.
        """
        window = int(loop.reward.wait_seconds + loop.grace_seconds) + MARGIN_SECONDS
        known, first_id = await self._sessions.stand_for(
            loop.loop, own_id, request_hash, decision.decision_id, decision.position, max(window, self._ttl_seconds)
        )
        if known != request_hash:
            raise repeated_id(own_id)
        if first_id == decision.decision_id:
            return decision
        return await self.find(loop.loop, own_id, request_hash) or decision

    async def first_of(self, loop: LoopConfig, decision_id: str) -> str:
        """The decision that an outcome or activation is about: a session's, where its id is a caller's own for that."""
        if not loop.sticky_seconds or self._writer.is_away:
            return decision_id
        found = None
        with self._writer.noting_absence():
            found = await self._sessions.first_of(loop.loop, decision_id)
        return found or decision_id

    async def _remembered(self, loop: str, decision_id: str) -> tuple[str | None, str, str]:
        """The hash and position of an id that was decided lately, and the session's decision that it stands for."""
        waiting = self._writer.spooled_decision(loop, decision_id)
        if waiting is not None:
            return waiting.request_hash, SPOOLED, ""
        if self._writer.is_away:
            return None, "", ""
        known = position = first = None
        with self._writer.noting_absence():
            found = await self._client.hmget(decided_key(loop, decision_id), ["hash", "position", FIRST])
            known, position, first = cast("list[bytes | None]", found)
        return (known.decode(), position.decode(), (first or b"").decode()) if known and position else (None, "", "")
