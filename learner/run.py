"""The learner process: takes every loop and the activity stream that nobody else writes, and keeps them going."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import Protocol

import redis
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from adapters.locks import AnotherWriter, LockLost, WriterConnection
from adapters.streams import ACTIVITY_STREAM, StreamReader
from contextual_bandit.stored_decisions import ReadMessage
from learner.ahead import Found, Messages, ReadAhead

log = logging.getLogger(__name__)
HEARTBEAT_KEY = "heartbeat:learn"
LOOK_EVERY_SECONDS = 1.0
RETRY_SECONDS = 2.0
# SQLSTATE classes that blame what was to be stored: bad data, a broken constraint, a value too large for its index.
DATA_FAULTS = frozenset({"22", "23", "54"})


class Writer(Protocol):
    """The one writer of a stream."""

    stream: str

    @property
    def position(self) -> str:
        """The last message that was committed."""

    def read(self, messages: Messages) -> Mapping[str, ReadMessage]:
        """Read messages that will be handled, by position; called in another thread, it changes nothing."""

    def handle(self, messages: Messages, read: Mapping[str, ReadMessage]) -> None:
        """Apply and commit a run of messages, some of which may have been ``read`` already."""

    def skip(self, message: tuple[str, bytes], error: str) -> None:
        """Set a message aside that cannot be applied."""

    def follow(self, version: int) -> None:
        """Take a newer version of the loop's settings over."""

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
        loops: Callable[[], dict[str, int]],
        writers: WriterConnection,
        batch_size: int,
        *,
        activity: bool = True,
    ) -> None:
        """``open_writer`` takes a loop's name or the activity stream's; ``loops`` gives their settings' versions."""
        self._reader = reader
        self._client = client
        self._open = open_writer
        self._loops = loops
        self._connection = writers
        self._batch_size = batch_size
        self._ahead = ReadAhead(reader, batch_size)
        self._streams = [ACTIVITY_STREAM] if activity else []
        self._writers: dict[str, Writer] = {}
        self._not_before: dict[str, float] = {}
        self._limits: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._looked = self._beaten = 0.0

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
        self._ahead.close()

    def _look_for_work(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_SECONDS:
            return
        self._looked = now
        versions = self._loops()
        wanted = [*self._streams, *versions]
        for name in self._writers.keys() - set(wanted):
            log.info("the loop is gone", extra={"writer": name})
            self._writers.pop(name).close()
        for name in wanted:
            if name in self._writers:
                # The control event may have been lost with the service that wanted to send it.
                self._guard(name, methodcaller("follow", versions.get(name, 0)))
                continue
            if now < self._not_before.get(name, 0.0):
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
        self._beaten = 0.0
        self._beat()

    def _beat(self) -> None:
        """Say that this process lives and what it writes, also between many long batches."""
        now = time.monotonic()
        if now - self._beaten >= LOOK_EVERY_SECONDS:
            self._beaten = now
            self._client.set(HEARTBEAT_KEY, ",".join(sorted(self._writers)), ex=10)

    def _step(self) -> None:
        if not self._writers:
            time.sleep(0.2)
            return
        names = {writer.stream: name for name, writer in self._writers.items()}
        positions = {writer.stream: writer.position for writer in self._writers.values()}
        found = self._ahead.take(positions)
        others = {stream: position for stream, position in positions.items() if stream not in found}
        if others:
            new = self._reader.read(others, self._batch_size, block_ms=0 if found else 200)
            found |= {stream: Found(messages, {}) for stream, messages in new.items()}
        self._read_on(found, names)
        for stream, (messages, read) in found.items():
            self._apply(names[stream], messages, read)
            self._beat()
        for name in list(self._writers):
            self._guard(name, methodcaller("idle"))

    def _read_on(self, found: Mapping[str, Found], names: Mapping[str, str]) -> None:
        """Where whole batches come, begin to read what is behind them, while they are worked on."""
        behind = {
            stream: one.messages[-1][0] for stream, one in found.items()
            if len(one.messages) == self._limits.get(names[stream], self._batch_size) == self._batch_size
        }  # fmt: skip
        self._ahead.begin(behind, {stream: self._writers[names[stream]].read for stream in behind})

    def _apply(self, name: str, messages: Messages, read: Mapping[str, ReadMessage]) -> None:
        """Hand messages to their writer: after a failure half as many, until the one that cannot be stored is alone."""
        limit = self._limits.get(name, self._batch_size)
        if limit == 0:
            log.error("a message is set aside", extra={"writer": name, "position": messages[0][0]})
            if self._guard(name, methodcaller("skip", messages[0], self._errors.get(name, ""))):
                self._limits[name] = 1
            return
        if self._guard(name, methodcaller("handle", messages[:limit], read)):
            self._limits[name] = min(limit * 2, self._batch_size)
        else:
            self._limits[name] = len(messages[:limit]) // 2

    def _guard(self, name: str, action: Callable[[Writer], None]) -> bool:
        """Let a writer act; one that fails is dropped. True when it did not fail."""
        writer = self._writers.get(name)
        if writer is None:
            return False
        try:
            action(writer)
        except Exception as error:
            if _is_store_trouble(error):
                raise
            self._errors[name] = repr(error)
            log.exception("writer dropped; taking it again", extra={"writer": name})
            del self._writers[name]
            self._not_before[name] = time.monotonic() + 0.2
            self._looked = 0.0
            writer.abandon()
            return False
        return True

    def _drop_all(self) -> None:
        """Every lock was on the one connection."""
        self._ahead.forget()
        for writer in self._writers.values():
            writer.abandon()
        self._writers.clear()
        self._connection.close()
        self._looked = 0.0


def _is_store_trouble(error: Exception) -> bool:
    """Whether an error says that a store is away or unwell, so that no message is to blame."""
    if isinstance(error, DBAPIError):
        return (getattr(error.orig, "sqlstate", None) or "")[:2] not in DATA_FAULTS
    return isinstance(error, redis.RedisError | SQLAlchemyError | LockLost | OSError)
