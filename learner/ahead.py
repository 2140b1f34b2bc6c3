"""The next messages of a backlog, read while those before them are joined, committed and learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

from adapters.streams import StreamReader
from contextual_bandit.stored_decisions import ReadMessage

Messages: TypeAlias = Sequence[tuple[str, bytes]]


class Found(NamedTuple):
    """Messages of one stream, and by position what was read of them already."""

    messages: Messages
    read: Mapping[str, ReadMessage]


class ReadAhead:
    """Reads in one thread. What it reads changes nothing, so that whoever does not take it loses nothing."""

    def __init__(self, reader: StreamReader, count: int) -> None:
        """``count`` is the most messages of a stream that are read at a time."""
        self._reader = reader
        self._count = count
        self._thread = ThreadPoolExecutor(1, "read-ahead")
        self._pending: Future[dict[str, Found]] | None = None
        self._after: dict[str, str] = {}

    def begin(
        self, after: Mapping[str, str], read: Mapping[str, Callable[[Messages], Mapping[str, ReadMessage]]]
    ) -> None:
        """Begin to read what follows these positions; what was begun before and not taken is forgotten.

        Args:
            after: the position behind which to read, by stream.
            read: what reads a stream's messages; it is called in the thread, and must not change anything.
        """
        self.forget()
        if after:
            self._after = dict(after)
            self._pending = self._thread.submit(self._read, dict(after), dict(read))

    def take(self, after: Mapping[str, str]) -> dict[str, Found]:
        """What was begun, once it is there: of the streams whose readers are where reading began.

        Raises:
            redis.RedisError: the store is away.
        """
        pending, began = self._pending, self._after
        self._pending, self._after = None, {}
        if pending is None:
            return {}
        return {stream: found for stream, found in pending.result().items() if began.get(stream) == after.get(stream)}

    def forget(self) -> None:
        """Let go of what was begun."""
        if self._pending is not None:
            self._pending.cancel()
        self._pending, self._after = None, {}

    def close(self) -> None:
        """Wait for what is being read, and end the thread."""
        self.forget()
        self._thread.shutdown()

    def _read(
        self, after: dict[str, str], read: dict[str, Callable[[Messages], Mapping[str, ReadMessage]]]
    ) -> dict[str, Found]:
        found = self._reader.read(after, self._count, block_ms=0)
        return {stream: Found(messages, read[stream](messages)) for stream, messages in found.items()}
