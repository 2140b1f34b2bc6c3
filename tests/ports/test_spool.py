"""The spool: what was acknowledged while the stream was away comes to the stream, also after its process died."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.installation import Installation
from adapters.spool import Call, Spool
from adapters.stream_writer import StreamWriter
from adapters.streams import FIELD, connect_async
from contextual_bandit import events
from contextual_bandit.types import Event

STREAM = "events:{spool-test}"
AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def message(number: int) -> bytes:
    return events.encode(events.OUTCOME, AT + timedelta(seconds=number), {"number": number})


def die(spool: Spool) -> None:
    """As the kernel does at kill -9: the file stays, its lock goes."""
    assert spool._file is not None
    spool._file.close()


async def drained(installation: Installation, spool: Spool) -> None:
    client = connect_async(installation.redis_url)
    writer = StreamWriter(client, spool)
    await writer.start()
    try:
        for _ in range(100):
            if spool.is_empty:
                return
            await asyncio.sleep(0.02)
    finally:
        await writer.stop()
        await client.aclose()


@pytest.fixture
def stream(installation: Installation) -> str:
    installation.client.delete(STREAM)
    return STREAM


def read(installation: Installation) -> list[Event]:
    entries = installation.client.xrange(STREAM)
    return [events.decode(position.decode(), fields[FIELD]) for position, fields in entries]  # type: ignore[union-attr]


def test_a_dead_processes_spools_are_announced_and_closed_under_their_own_names(
    installation: Installation, stream: str, tmp_path: Path
) -> None:
    first, second = Spool(tmp_path), Spool(tmp_path)
    second.append([Call(stream, message(2))], AT + timedelta(seconds=60))
    first.append([Call(stream, message(0)), Call(stream, message(1))], AT)
    die(first)
    die(second)
    heir = Spool(tmp_path)
    asyncio.run(drained(installation, heir))
    assert heir.is_empty
    assert not list(tmp_path.iterdir())
    found = read(installation)
    opened = {e.payload["spool_id"]: e for e in found if e.type == events.SPOOL and e.payload["open"]}
    closed = {e.payload["spool_id"] for e in found if e.type == events.SPOOL and not e.payload["open"]}
    assert set(opened) == closed == {first.spool_id, second.spool_id}
    assert opened[first.spool_id].spooled_at == AT
    assert opened[second.spool_id].spooled_at == AT + timedelta(seconds=60)
    assert sorted(e.payload["number"] for e in found if e.type == events.OUTCOME) == [0, 1, 2]
    assert all(e.spooled_at is not None for e in found)
    # Announcements frame what they announce.
    types = [e.type for e in found]
    assert types == [events.SPOOL] * 2 + [events.OUTCOME] * 3 + [events.SPOOL] * 2


def test_a_living_processes_spool_is_left_alone(tmp_path: Path) -> None:
    living = Spool(tmp_path)
    living.append([Call(STREAM, message(0))], AT)
    other = Spool(tmp_path)
    assert other.adopt() == 0
    assert len(living.waiting()) == 1
    living.clear()


def test_a_line_that_was_being_written_at_death_was_never_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([Call(STREAM, message(0))], AT)
    die(spool)
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes() + b'["half a li')
    heir = Spool(tmp_path)
    assert heir.adopt() == 1
    assert [spooled.call.message for spooled in heir.waiting()] == [message(0)]
    heir.clear()


def test_what_the_server_refuses_goes_on_waiting(installation: Installation, stream: str, tmp_path: Path) -> None:
    installation.client.set(stream, "no stream")
    spool = Spool(tmp_path)
    spool.append([Call(stream, message(0))], AT)
    asyncio.run(drained(installation, spool))
    assert len(spool.waiting()) == 1
    installation.client.delete(stream)
    asyncio.run(drained(installation, spool))
    assert [e.payload["number"] for e in read(installation) if e.type == events.OUTCOME] == [0]
