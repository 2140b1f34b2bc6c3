"""Messages that cannot be stored, and what a writer does with its neighbours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import redis
from sqlalchemy.exc import DataError, OperationalError

from adapters.installation import Installation
from adapters.locks import WriterConnection
from adapters.streams import StreamReader
from contextual_bandit.stored_decisions import ReadMessage
from learner.run import Runner


class Orig(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class FussyWriter:
    """Stores everything but one message, as PostgreSQL would refuse it."""

    stream = "events:{fussy}"

    def __init__(self, seen: list[bytes], skipped: list[bytes], fail: Callable[[bytes], Exception | None]) -> None:
        self.position = "0-0" if not (seen or skipped) else FussyWriter.last
        self._seen, self._skipped, self._fail = seen, skipped, fail

    last = "0-0"

    @staticmethod
    def read(messages: Sequence[tuple[str, bytes]]) -> dict[str, ReadMessage]:
        return {}

    def handle(self, messages: Sequence[tuple[str, bytes]], read: Mapping[str, ReadMessage]) -> None:
        for _, data in messages:
            error = self._fail(data)
            if error is not None:
                raise error
        self._seen.extend(data for _, data in messages)
        self.position = FussyWriter.last = messages[-1][0]

    def skip(self, message: tuple[str, bytes], error: str) -> None:
        assert "54000" in error or "DataError" in error
        self._skipped.append(message[1])
        self.position = FussyWriter.last = message[0]

    def follow(self, version: int) -> None: ...

    def idle(self) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


def run(installation: Installation, fail: Callable[[bytes], Exception | None], until: Callable[..., bool]) -> Any:
    FussyWriter.last = "0-0"
    seen: list[bytes] = []
    skipped: list[bytes] = []
    client: redis.Redis = installation.client
    client.delete(FussyWriter.stream)
    reader = StreamReader(client)
    for number in range(20):
        reader.append(FussyWriter.stream, b"%d" % number)
    stop = threading.Event()
    writers = WriterConnection(installation.engine)
    runner = Runner(
        reader, client, lambda _: FussyWriter(seen, skipped, fail), lambda: {"fussy": 1}, writers, 8, activity=False
    )
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    for _ in range(400):
        if until(seen, skipped):
            break
        stop.wait(0.05)
    stop.set()
    thread.join(10)
    client.delete(FussyWriter.stream, "heartbeat:learn")
    return seen, skipped


@pytest.mark.timeout(60)
def test_only_the_message_that_cannot_be_stored_is_set_aside(installation: Installation) -> None:
    def fail(data: bytes) -> Exception | None:
        return DataError("COPY", {}, Orig("54000")) if data == b"11" else None

    seen, skipped = run(installation, fail, lambda seen, skipped: len(seen) + len(skipped) == 20)
    assert skipped == [b"11"]
    assert seen == [b"%d" % number for number in range(20) if number != 11]


@pytest.mark.timeout(60)
def test_an_unwell_store_blames_no_message(installation: Installation) -> None:
    calls = [0]

    def fail(data: bytes) -> Exception | None:
        calls[0] += 1
        return OperationalError("COPY", {}, Orig("53100")) if calls[0] <= 12 else None

    seen, skipped = run(installation, fail, lambda seen, skipped: len(seen) == 20)
    assert skipped == []
    assert seen == [b"%d" % number for number in range(20)]
