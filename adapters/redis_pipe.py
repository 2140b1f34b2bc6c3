"""One connection to Redis over which commands go out as they come, and answers come back in their order.

The client library sends a command, or a pipeline, and waits for its answer before the next; whoever has many callers
then waits for the slowest of each batch. Here nobody waits for anybody else's answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, cast

import redis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

TEXT, ERROR, NUMBER, BULK, ARRAY, NULL, NOTICE = b"+-:$*_>"
END = b"\r\n"
# The rest of an answer has not come yet.
_MORE: Final = object()


class RedisPipe(asyncio.Protocol):
    """Commands and their answers; once it is broken it stays so."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._asked: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._received = b""
        # Commands of this turn of the event loop.
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._watch: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, client: redis.asyncio.Redis) -> RedisPipe:
        """A connection of its own, made and signed in as the client's are.

        Raises:
            redis.RedisError: the server is away, or refuses us.
        """
        pool = client.connection_pool
        connection: Any = cast("Any", pool).make_connection()
        await connection.connect()
        pipe = cls(float(pool.connection_kwargs.get("socket_timeout") or 1.0))
        # The library has no way to hand a connection over, so its parts are taken.
        pipe._writer, connection._writer, connection._reader = connection._writer, None, None
        pipe._transport = cast("asyncio.Transport", cast("asyncio.StreamWriter", pipe._writer).transport)
        pipe._transport.set_protocol(pipe)
        return pipe

    @property
    def is_open(self) -> bool:
        """Whether it takes commands."""
        return self._transport is not None

    @property
    def is_waiting(self) -> bool:
        """Whether answers are still to come."""
        return bool(self._asked)

    def ask(self, command: bytes) -> asyncio.Future[Any]:
        """Send a command (see ``encoded``); the future has its answer, or an error.

        Answers are bytes, integers, None, and lists of them; refusals are ``redis.ResponseError``. When the connection
        breaks, or no answer comes in time, everybody who waits gets the library's error of that.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._transport is None:
            future.set_exception(RedisConnectionError("the connection is closed"))
            return future
        self._out.append(command)
        if len(self._out) == 1:
            self._loop.call_soon(self._send)
        self._asked.append((self._loop.time(), future))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._check_time)
        return future

    def close(self) -> None:
        """Hang up; who still waits gets an error."""
        self._break(RedisConnectionError("the connection is closed"))

    def data_received(self, data: bytes) -> None:
        """Give answers to those who asked."""
        data = self._received + data if self._received else data
        at = 0
        try:
            while at < len(data):
                answer, after = _answer(data, at)
                if answer is _MORE:
                    break
                # A notice of the server's own answers nobody.
                if data[at] != NOTICE:
                    self._give(answer)
                at = after
        except (ValueError, IndexError) as error:
            self._break(RedisConnectionError(f"an answer cannot be read: {error!r}"))
            return
        self._received = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """The server, or the network, hung up."""
        self._break(RedisConnectionError(f"the connection was lost: {exc!r}"))

    def _send(self) -> None:
        """Send what was asked in one turn of the event loop in one piece: each piece wakes the server, which syncs."""
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(b"".join(out))

    def _give(self, answer: Any) -> None:
        _, future = self._asked.popleft()
        if future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _check_time(self) -> None:
        self._watch = None
        if not self._asked:
            return
        left = self._asked[0][0] + self._timeout - self._loop.time()
        if left <= 0.0:
            self._break(RedisTimeoutError(f"no answer within {self._timeout:g} s"))
        else:
            self._watch = self._loop.call_later(left, self._check_time)

    def _break(self, error: Exception) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        self._out = []
        waiting, self._asked = self._asked, deque()
        for _, future in waiting:
            if not future.done():
                future.set_exception(error)


def encoded(*parts: bytes) -> bytes:
    """A command as the server reads it."""
    pieces = [b"*%d\r\n" % len(parts)]
    for part in parts:
        pieces += (b"$%d\r\n" % len(part), part, END)
    return b"".join(pieces)


def _answer(data: bytes, at: int) -> tuple[Any, int]:
    """The answer that begins at a place, and where the next one begins.

    Raises:
        ValueError, IndexError: no answer of the kinds that commands here have.
    """
    end = data.find(END, at)
    if end < 0:
        return _MORE, at
    kind, after = data[at], end + 2
    if kind == BULK:
        size = int(data[at + 1 : end])
        if size < 0:
            return None, after
        return (data[after : after + size], after + size + 2) if len(data) >= after + size + 2 else (_MORE, at)
    if kind == NUMBER:
        return int(data[at + 1 : end]), after
    if kind in (ARRAY, NOTICE):
        return _array(data, after, int(data[at + 1 : end]))
    if kind == TEXT:
        return data[at + 1 : end], after
    if kind == ERROR:
        return redis.ResponseError(data[at + 1 : end].decode(errors="replace")), after
    if kind == NULL:
        return None, after
    raise ValueError(f"an answer begins with {data[at : at + 1]!r}")


def _array(data: bytes, at: int, count: int) -> tuple[Any, int]:
    if count < 0:
        return None, at
    found = []
    for _ in range(count):
        answer, at = _answer(data, at)
        if answer is _MORE:
            return _MORE, at
        found.append(answer)
    return found, at
