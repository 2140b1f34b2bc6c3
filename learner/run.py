"""The learner process: takes every loop and the activity stream that nobody else writes, and keeps them going."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import redis
from sqlalchemy.exc import SQLAlchemyError

from adapters.locks import AnotherWriter, LockLost, WriterConnection
from adapters.streams import ACTIVITY_STREAM, StreamReader

log = logging.getLogger(__name__)
HEARTBEAT_KEY = "heartbeat:learn"
LOOK_EVERY_SECONDS = 1.0
RETRY_SECONDS = 2.0


class Writer(Protocol):
    """The one writer of a stream."""

    stream: str

    @property
    def position(self) -> str:
        """The last message that was committed."""

    def handle(self, messages: list[tuple[str, bytes]]) -> None:
        """Apply and commit a run of messages."""

    def idle(self) -> None:
        """Do what is due by the clock."""

    def close(self) -> None:
        """Finish and let go."""

    def abandon(self) -> None:
        """Let go at once."""


class Runner:
    """Runs writers side by side; one that fails is dropped and taken again from what was committed."""

    def __init__(
        self,
        reader: StreamReader,
        client: redis.Redis,
        open_writer: Callable[[str], Writer],
        loops: Callable[[], list[str]],
        writers: WriterConnection,
        batch_size: int,
        *,
        activity: bool = True,
    ) -> None:
        """``open_writer`` takes a loop's name, or the activity stream's; ``loops`` lists the loops there are."""
        self._reader = reader
        self._client = client
        self._open = open_writer
        self._loops = loops
        self._connection = writers
        self._batch_size = batch_size
        self._streams = [ACTIVITY_STREAM] if activity else []
        self._writers: dict[str, Writer] = {}
        self._not_before: dict[str, float] = {}
        self._looked = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set, then finish what was read and save."""
        while not stop.is_set():
            try:
                self._look_for_work()
                self._step()
            except (redis.RedisError, SQLAlchemyError, LockLost, OSError):
                log.exception("a store is away; trying again")
                self._drop_all()
                stop.wait(0.5)
        for name, writer in self._writers.items():
            try:
                writer.close()
            except Exception:
                log.exception("could not save on leaving", extra={"writer": name})
        self._writers.clear()
        self._connection.close()

    def _look_for_work(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_SECONDS:
            return
        self._looked = now
        wanted = [*self._streams, *self._loops()]
        for name in self._writers.keys() - set(wanted):
            log.info("the loop is gone", extra={"writer": name})
            self._writers.pop(name).close()
        for name in wanted:
            if name in self._writers or now < self._not_before.get(name, 0.0):
                continue
            try:
                self._writers[name] = self._open(name)
                log.info("took over", extra={"writer": name})
            except AnotherWriter:
                self._not_before[name] = now + RETRY_SECONDS
            except (redis.RedisError, SQLAlchemyError, LockLost, OSError):
                raise
            except Exception:
                log.exception("cannot take over", extra={"writer": name})
                self._not_before[name] = now + RETRY_SECONDS
        self._client.set(HEARTBEAT_KEY, ",".join(sorted(self._writers)), ex=10)

    def _step(self) -> None:
        if not self._writers:
            time.sleep(0.2)
            return
        names = {writer.stream: name for name, writer in self._writers.items()}
        positions = {writer.stream: writer.position for writer in self._writers.values()}
        found = self._reader.read(positions, self._batch_size, block_ms=200)
        for stream, messages in found.items():
            self._guard(names[stream], lambda writer, messages=messages: writer.handle(messages))  # type: ignore[misc]
        for name in list(self._writers):
            self._guard(name, lambda writer: writer.idle())

    def _guard(self, name: str, action: Callable[[Writer], None]) -> None:
        writer = self._writers.get(name)
        if writer is None:
            return
        try:
            action(writer)
        except LockLost:
            # All locks were on that connection.
            raise
        except Exception:
            log.exception("writer dropped; taking it again", extra={"writer": name})
            del self._writers[name]
            self._not_before[name] = time.monotonic() + 0.2
            self._looked = 0.0
            writer.abandon()

    def _drop_all(self) -> None:
        for writer in self._writers.values():
            writer.abandon()
        self._writers.clear()
        self._connection.close()
        self._looked = 0.0
