"""Event streams on the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest

from adapters.installation import Installation
from adapters.spool import Spool
from adapters.stream_writer import Logged, StreamWriter
from adapters.streams import StreamReader, applied_key, connect_async, decided_key, loop_stream

T = TypeVar("T")
Write = Callable[[Callable[[StreamWriter], Awaitable[T]]], T]
TTL = 3600


@pytest.fixture
def loop() -> str:
    """A loop that no other test knows."""
    return uuid4().hex


@pytest.fixture
def reader(installation: Installation) -> StreamReader:
    return StreamReader(installation.client)


@pytest.fixture
def write(installation: Installation, tmp_path: Path) -> Write[T]:
    """Run something with a writer that is started and stopped around it."""

    def run(work: Callable[[StreamWriter], Awaitable[T]]) -> T:
        async def inside() -> T:
            client = connect_async(installation.redis_url)
            writer = StreamWriter(client, Spool(tmp_path / "spool"))
            await writer.start()
            try:
                return await work(writer)
            finally:
                await writer.stop()
                await client.aclose()

        return asyncio.run(inside())

    return run


def all_of(reader: StreamReader, stream: str, after: str = "0-0", count: int = 10_000) -> list[tuple[str, bytes]]:
    return reader.read({stream: after}, count, block_ms=1).get(stream, [])


def test_keys_of_a_loop_share_a_shard() -> None:
    assert loop_stream("a") == "events:{a}"
    assert decided_key("a", "d1") == "decided:{a}:d1"
    assert applied_key(loop_stream("a")) == "applied:events:{a}"


def test_messages_are_read_in_the_order_in_which_they_were_appended(reader: StreamReader, loop: str) -> None:
    stream = loop_stream(loop)
    positions = [reader.append(stream, f"m{number}".encode()) for number in range(5)]
    assert all_of(reader, stream) == [(position, f"m{number}".encode()) for number, position in enumerate(positions)]
    assert all_of(reader, stream, positions[2]) == [(positions[3], b"m3"), (positions[4], b"m4")]
    assert [data for _, data in all_of(reader, stream, count=2)] == [b"m0", b"m1"]
    assert reader.last(stream) == positions[-1]


def test_any_bytes_come_back(reader: StreamReader, loop: str) -> None:
    data = bytes(range(256)) * 100
    position = reader.append(loop_stream(loop), data)
    assert reader.at(loop_stream(loop), position) == data


def test_nothing_is_nothing(reader: StreamReader, loop: str) -> None:
    stream = loop_stream(loop)
    assert all_of(reader, stream) == []
    assert reader.last(stream) == "0-0"
    assert reader.at(stream, "5-5") is None
    assert reader.applied(stream) == "0-0"


def test_several_streams_are_read_at_once(reader: StreamReader, loop: str) -> None:
    one, other, empty = (loop_stream(f"{loop}-{name}") for name in ("one", "other", "empty"))
    reader.append(one, b"1")
    reader.append(other, b"2")
    found = reader.read(dict.fromkeys((one, other, empty), "0-0"), 10, block_ms=1)
    assert {stream: [data for _, data in messages] for stream, messages in found.items()} == {
        one: [b"1"],
        other: [b"2"],
    }


def test_what_is_behind_a_position_can_be_trimmed(reader: StreamReader, loop: str) -> None:
    stream = loop_stream(loop)
    positions = [reader.append(stream, b"x" * 100) for _ in range(1000)]
    reader.trim(stream, positions[900])
    left = [position for position, _ in all_of(reader, stream)]
    assert left[-100:] == positions[900:]
    assert len(left) < 1000
    assert reader.at(stream, positions[0]) is None


def test_how_far_a_consumer_came_is_remembered(reader: StreamReader, loop: str) -> None:
    reader.mark_applied(loop_stream(loop), "17-3")
    assert reader.applied(loop_stream(loop)) == "17-3"


def test_a_decision_is_logged_once(write: Write[list[Logged]], reader: StreamReader, loop: str) -> None:
    async def work(writer: StreamWriter) -> list[Logged]:
        first = await writer.log_decision(loop, "d1", b"one", "hash-1", TTL)
        return [first, *[await writer.log_decision(loop, "d1", b"two", f"hash-{n}", TTL) for n in (1, 2)]]

    first, same, other = write(work)
    assert first == Logged(False, "hash-1", first.position)
    assert same == other == Logged(True, "hash-1", first.position)
    assert all_of(reader, loop_stream(loop)) == [(first.position, b"one")]


def test_a_decision_id_is_known_for_its_time_and_in_its_loop(
    write: Write[Logged], installation: Installation, reader: StreamReader, loop: str
) -> None:
    async def work(writer: StreamWriter) -> Logged:
        await writer.log_decision(loop, "d1", b"one", "h", TTL)
        return await writer.log_decision(loop + "2", "d1", b"two", "h", TTL)

    assert not write(work).known
    ttl = installation.client.ttl(decided_key(loop, "d1"))
    assert TTL - 5 < ttl <= TTL  # type: ignore[operator]


def test_of_many_at_once_one_is_logged(write: Write[list[Logged]], reader: StreamReader, loop: str) -> None:
    async def work(writer: StreamWriter) -> list[Logged]:
        return await asyncio.gather(
            *(writer.log_decision(loop, "d1", f"m{n}".encode(), f"hash-{n}", TTL) for n in range(50))
        )

    found = write(work)
    assert sum(not logged.known for logged in found) == 1
    assert len({(logged.request_hash, logged.position) for logged in found}) == 1
    assert len(all_of(reader, loop_stream(loop))) == 1


def test_messages_that_come_together_keep_their_order(write: Write[list[str]], reader: StreamReader, loop: str) -> None:
    async def work(writer: StreamWriter) -> list[str]:
        return await asyncio.gather(*(writer.append(loop_stream(loop), f"{n}".encode()) for n in range(500)))

    positions = write(work)
    assert all_of(reader, loop_stream(loop)) == [(position, f"{n}".encode()) for n, position in enumerate(positions)]


def test_a_server_that_forgot_the_script_is_told_again(
    write: Write[Logged], installation: Installation, reader: StreamReader, loop: str
) -> None:
    async def work(writer: StreamWriter) -> Logged:
        await writer.log_decision(loop, "d1", b"one", "h", TTL)
        installation.client.script_flush()
        found = await asyncio.gather(
            writer.log_decision(loop, "d2", b"two", "h", TTL), writer.append(loop_stream(loop), b"three")
        )
        assert found[0].position
        return found[0]

    assert not write(work).known
    assert sorted(data for _, data in all_of(reader, loop_stream(loop))) == [b"one", b"three", b"two"]


def test_stopping_sends_what_waits(write: Write[list[str]], reader: StreamReader, loop: str) -> None:
    tasks = []

    async def work(writer: StreamWriter) -> list[str]:
        tasks.extend(asyncio.create_task(writer.append(loop_stream(loop), b"x")) for _ in range(20))
        await asyncio.sleep(0)
        return []

    write(work)
    assert len(all_of(reader, loop_stream(loop))) == 20


def test_a_refused_message_is_an_error_of_its_own(
    write: Write[list[object]], installation: Installation, reader: StreamReader, loop: str
) -> None:
    """One stream's key holds something else; the others' messages go through."""
    installation.client.set(loop_stream(loop + "-bad"), "no stream")

    async def work(writer: StreamWriter) -> list[object]:
        return await asyncio.gather(
            writer.append(loop_stream(loop), b"good"),
            writer.append(loop_stream(loop + "-bad"), b"bad"),
            return_exceptions=True,
        )

    good, bad = write(work)
    assert isinstance(good, str)
    assert isinstance(bad, Exception)
    assert [data for _, data in all_of(reader, loop_stream(loop))] == [b"good"]


def test_what_is_under_way_when_connections_break_is_logged(
    write: Write[list[Logged]], installation: Installation, reader: StreamReader, loop: str
) -> None:
    """Every decision is acknowledged, and stands in the stream once."""

    async def work(writer: StreamWriter) -> list[Logged]:
        async def many(name: str) -> list[Logged]:
            calls = (writer.log_decision(loop, f"{name}-{n}", f"{name}-{n}".encode(), "h", TTL) for n in range(100))
            return await asyncio.gather(*calls)

        first = asyncio.create_task(many("first"))
        await asyncio.sleep(0)
        installation.client.client_kill_filter(_type="normal", skipme=True)
        return [*await first, *await many("second")]

    found = write(work)
    logged = all_of(reader, loop_stream(loop))
    assert {position for position, _ in logged} == {one.position for one in found}
    assert len(logged) == len({data for _, data in logged}) == 200
