"""A connection with many commands under way: each gets its own answer, however the answers arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from adapters.installation import Installation
from adapters.redis_pipe import RedisPipe, encoded
from adapters.streams import connect_async

T = TypeVar("T")
Piped = Callable[[Callable[[RedisPipe], Awaitable[T]]], T]
ANSWERS = b"+OK\r\n:7\r\n$5\r\na\r\nbc\r\n$-1\r\n_\r\n*3\r\n:0\r\n$0\r\n\r\n*1\r\n$1\r\nx\r\n>2\r\n+note\r\n:1\r\n-ERR no such\r\n"


@pytest.fixture
def piped(installation: Installation) -> Piped[T]:
    """Run something with a pipe to the real server."""

    def run(work: Callable[[RedisPipe], Awaitable[T]]) -> T:
        async def inside() -> T:
            client = connect_async(installation.redis_url)
            pipe = await RedisPipe.open(client)
            try:
                return await work(pipe)
            finally:
                pipe.close()
                await client.aclose()

        return asyncio.run(inside())

    return run


class _Silent(asyncio.Transport):
    """Takes what is written, and says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Remember it."""
        self.written.append(bytes(data))

    def abort(self) -> None:
        """Nobody is there."""


async def _read(pieces: Sequence[bytes]) -> list[Any]:
    pipe = RedisPipe(10.0)
    pipe._transport = _Silent()
    asked = [pipe.ask(encoded(b"PING")) for _ in range(7)]
    for piece in pieces:
        pipe.data_received(piece)
    found = await asyncio.gather(*asked, return_exceptions=True)
    pipe.close()
    return found


def test_commands_of_one_turn_go_out_together_and_in_order() -> None:
    async def go() -> None:
        pipe, silent = RedisPipe(10.0), _Silent()
        pipe._transport = silent
        first = [encoded(b"SET", b"a", b"%d" % number) for number in range(3)]
        asked = [pipe.ask(one) for one in first]
        await asyncio.sleep(0)
        asked.append(pipe.ask(encoded(b"GET", b"a")))
        await asyncio.sleep(0)
        assert silent.written == [b"".join(first), encoded(b"GET", b"a")]
        asked.append(pipe.ask(encoded(b"GET", b"b")))
        pipe.close()
        await asyncio.sleep(0)
        assert len(silent.written) == 2, "who hangs up sends nothing more"
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, RedisConnectionError) for one in found)

    asyncio.run(go())


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(ANSWERS)])
def test_answers_are_read_in_whatever_pieces_they_come(size: int) -> None:
    pieces = [ANSWERS[at : at + size] for at in range(0, len(ANSWERS), size)]
    *found, refusal = asyncio.run(_read(pieces))
    assert found == [b"OK", 7, b"a\r\nbc", None, None, [0, b"", [b"x"]]]
    assert isinstance(refusal, redis.ResponseError)


def test_nobody_is_left_waiting_when_an_answer_cannot_be_read() -> None:
    found = asyncio.run(_read([b"+OK\r\n", b"?what\r\n"]))
    assert found[0] == b"OK"
    assert all(isinstance(one, RedisConnectionError) for one in found[1:])


def test_commands_under_way_get_their_own_answers(piped: Piped[list[Any]]) -> None:
    key = uuid4().hex.encode()

    async def work(pipe: RedisPipe) -> list[Any]:
        asked = [pipe.ask(encoded(b"INCR", key)) for _ in range(500)]
        asked += [pipe.ask(encoded(b"MGET", key, b"nothing")), pipe.ask(encoded(b"NOSUCH"))]
        return await asyncio.gather(*asked, return_exceptions=True)

    *numbers, pair, refusal = piped(work)
    assert numbers == list(range(1, 501))
    assert pair == [b"500", None]
    assert isinstance(refusal, redis.ResponseError)


def test_who_waits_is_told_when_the_server_hangs_up(piped: Piped[list[Any]], installation: Installation) -> None:
    async def work(pipe: RedisPipe) -> list[Any]:
        number = await pipe.ask(encoded(b"CLIENT", b"ID"))
        waiting = pipe.ask(encoded(b"BLPOP", uuid4().hex.encode(), b"10"))
        # Its answer, or at least its end, comes only after the server took the command.
        await asyncio.sleep(0.05)
        installation.client.client_kill_filter(_id=str(number))
        return await asyncio.gather(waiting, pipe.ask(encoded(b"PING")), return_exceptions=True)

    assert [isinstance(one, RedisConnectionError) for one in piped(work)] == [True, True]
