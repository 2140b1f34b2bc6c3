"""A backlog whose next messages are read while those before them are handled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from sqlalchemy.exc import DataError

from adapters.installation import Installation
from adapters.locks import WriterConnection
from adapters.streams import StreamReader
from contextual_bandit import events
from contextual_bandit.stored_decisions import ReadMessage
from learner.ahead import ReadAhead
from learner.loop import LoopWriter
from learner.run import Runner

STREAMS = ("events:{deep}", "events:{shallow}")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def message(number: int) -> bytes:
    return events.encode(events.OUTCOME, AT, events.outcome_payload(f"o-{number}", f"d-{number}", "direct", 1.0, False))


class CountingWriter:
    """Notes what it is given, and what of it was read before."""

    def __init__(
        self, stream: str, seen: list[tuple[str, bool]], fail: Callable[[int], bool] = lambda _: False
    ) -> None:
        self.stream, self.position = stream, seen[-1][0] if seen else "0-0"
        self._seen, self._fail = seen, fail

    read = staticmethod(LoopWriter.read)

    def handle(self, messages: Sequence[tuple[str, bytes]], read: Mapping[str, ReadMessage]) -> None:
        if self._fail(len(self._seen)):
            raise DataError("COPY", {}, Exception("22000"))
        for position, data in messages:
            if position in read:
                assert read[position].event.payload == events.decode(position, data).payload
        self._seen += [(position, position in read) for position, _ in messages]
        self.position = messages[-1][0]

    def skip(self, message: tuple[str, bytes], error: str) -> None:
        raise AssertionError(error)

    def follow(self, version: int) -> None: ...

    def idle(self) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


@pytest.fixture
def reader(installation: Installation) -> Iterator[StreamReader]:
    client: redis.Redis = installation.client
    client.delete(*STREAMS)
    yield StreamReader(client)
    client.delete(*STREAMS, "heartbeat:learn")


def drain(
    installation: Installation, reader: StreamReader, seen: Mapping[str, Any], wanted: int, fail: Callable[[int], bool]
) -> None:
    stop = threading.Event()

    def open_writer(loop: str) -> CountingWriter:
        return CountingWriter("events:{" + loop + "}", seen[loop], fail)

    runner = Runner(
        reader, installation.client, open_writer, lambda: dict.fromkeys(seen, 1), WriterConnection(installation.engine),
        10, activity=False,
    )  # fmt: skip
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    for _ in range(400):
        if sum(map(len, seen.values())) >= wanted:
            break
        stop.wait(0.05)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.timeout(60)
def test_a_backlog_is_handled_once_and_in_order_while_others_get_their_turn(
    installation: Installation, reader: StreamReader
) -> None:
    deep = [reader.append(STREAMS[0], message(number)) for number in range(57)]
    shallow = [reader.append(STREAMS[1], message(number)) for number in range(3)]
    seen: dict[str, list[tuple[str, bool]]] = {"deep": [], "shallow": []}
    drain(installation, reader, seen, 60, lambda _: False)
    assert [position for position, _ in seen["deep"]] == deep
    assert [position for position, _ in seen["shallow"]] == shallow
    # The first batch was waited for; what followed whole ones was read meanwhile.
    assert [was_read for _, was_read in seen["deep"]] == [False] * 10 + [True] * 47


@pytest.mark.timeout(60)
def test_what_was_read_ahead_of_a_failure_is_read_again(installation: Installation, reader: StreamReader) -> None:
    sent = [reader.append(STREAMS[0], message(number)) for number in range(40)]
    seen: dict[str, list[tuple[str, bool]]] = {"deep": []}
    failures: list[int] = []

    def fail(done: int) -> bool:
        if done == 20 and not failures:
            failures.append(done)
            return True
        return False

    drain(installation, reader, seen, 40, fail)
    assert failures
    assert [position for position, _ in seen["deep"]] == sent


def test_only_what_follows_the_reader_is_taken(reader: StreamReader) -> None:
    first, *_, last = (reader.append(STREAMS[0], message(number)) for number in range(5))
    ahead = ReadAhead(reader, 10)
    try:
        assert ahead.take({STREAMS[0]: "0-0"}) == {}
        ahead.begin({STREAMS[0]: first}, {STREAMS[0]: LoopWriter.read})
        found = ahead.take({STREAMS[0]: first})[STREAMS[0]]
        assert len(found.messages) == len(found.read) == 4
        assert found.messages[-1][0] == last
        ahead.begin({STREAMS[0]: first}, {STREAMS[0]: LoopWriter.read})
        assert ahead.take({STREAMS[0]: "0-0"}) == {}
        # It was begun once, and is taken once.
        assert ahead.take({STREAMS[0]: first}) == {}
    finally:
        ahead.close()


def test_a_store_that_is_away_is_told_to_whoever_takes(reader: StreamReader) -> None:
    def fail(_: Sequence[tuple[str, bytes]]) -> dict[str, ReadMessage]:
        raise redis.ConnectionError("away")

    reader.append(STREAMS[0], message(1))
    ahead = ReadAhead(reader, 10)
    try:
        ahead.begin({STREAMS[0]: "0-0"}, {STREAMS[0]: fail})
        with pytest.raises(redis.ConnectionError, match="away"):
            ahead.take({STREAMS[0]: "0-0"})
        assert ahead.take({STREAMS[0]: "0-0"}) == {}
    finally:
        ahead.close()
