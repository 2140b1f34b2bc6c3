"""Decisions of other services on their way into a loop's log: appended to its stream, taken by its one writer."""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis
from sqlalchemy import Engine

from adapters.interaction_log import known_hashes, position_key
from adapters.streams import FIELD, StreamReader, loop_stream

POLL_SECONDS = 0.05


class NotTaken(RuntimeError):
    """Nobody took what was appended: the loop has no running writer."""


class ImportedLog:
    """Appends to a loop's stream and waits for its writer, so that the stream never holds more than one run."""

    def __init__(self, engine: Engine, client: redis.Redis, loop: str, patience_seconds: float = 120.0) -> None:
        """Take the stores, and for how long the writer may stand still."""
        self._engine = engine
        self._client = client
        self._reader = StreamReader(client)
        self._loop = loop
        self._stream = loop_stream(loop)
        self._patience_seconds = patience_seconds

    def known(self, decision_ids: Sequence[str]) -> frozenset[str]:
        """Which of these decisions the log holds."""
        found = known_hashes(self._engine, [(self._loop, decision_id) for decision_id in decision_ids])
        return frozenset(decision_id for _, decision_id in found)

    def append(self, messages: Sequence[bytes]) -> None:
        """Append messages, and return when they are committed.

        Raises:
            NotTaken: the writer stood still for too long; what was appended is taken when there is one again.
        """
        with self._client.pipeline(transaction=False) as pipeline:
            for message in messages:
                pipeline.xadd(self._stream, {FIELD: message})
            positions: list[bytes] = pipeline.execute()
        self._wait(positions[-1].decode())

    def _wait(self, position: str) -> None:
        applied, moved = self._reader.applied(self._stream), time.monotonic()
        while position_key(applied) < position_key(position):
            if time.monotonic() - moved > self._patience_seconds:
                raise NotTaken(
                    f"loop {self._loop!r}: nothing was taken from its stream for {self._patience_seconds:g} s; "
                    "is `offerloop learn` running? What was appended is taken when it is"
                )
            time.sleep(POLL_SECONDS)
            now = self._reader.applied(self._stream)
            if now != applied:
                applied, moved = now, time.monotonic()
