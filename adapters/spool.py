"""Messages on local disk while the stream is away: what was acknowledged survives both the outage and the process."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from adapters.sessions import SessionMark
from adapters.units import LimitedDraw
from contextual_bandit.events import from_text, to_text

SPOOLED = "spooled"


@dataclass(frozen=True, slots=True)
class Call:
    """One write to a stream. A decision has ``decided_key`` and is logged once under it; other messages do not.

    ``limited`` is a draw that is still to be made; it is made before a call is spooled. ``session`` is written with the
    decision that begins it; a spooled one begins none.
    """

    stream: str
    message: bytes
    decided_key: str | None = None
    request_hash: str = ""
    ttl_seconds: int = 0
    limited: LimitedDraw | None = None
    session: SessionMark | None = None


@dataclass(frozen=True, slots=True)
class Spooled:
    """A call that waits on disk, when it was acknowledged, and in which spool it was first kept."""

    call: Call
    at: datetime
    spool_id: str


class Spool:
    """One process's file of waiting calls; the lock on it tells the living from the dead."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.spool_id = uuid.uuid4().hex
        self._folder = folder
        self._path = folder / f"{self.spool_id}.jsonl"
        self._file: BinaryIO | None = None
        self._decided: dict[str, Call] = {}

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""
        return self._file is None

    def append(self, calls: Sequence[Call], now: datetime) -> None:
        """Keep calls; they are on disk when this returns."""
        self._keep([Spooled(call, now, self.spool_id) for call in calls])

    def _keep(self, waiting: Sequence[Spooled]) -> None:
        if self._file is None:
            self._file = self._path.open("ab")
            fcntl.flock(self._file, fcntl.LOCK_EX)
        for spooled in waiting:
            self._file.write(_encode(spooled) + b"\n")
            if spooled.call.decided_key is not None:
                self._decided.setdefault(spooled.call.decided_key, spooled.call)
        self._file.flush()
        os.fsync(self._file.fileno())

    def decided(self, decided_key: str) -> Call | None:
        """The decision that waits under a key."""
        return self._decided.get(decided_key)

    def waiting(self) -> list[Spooled]:
        """Everything that waits, in order."""
        return list(_read(self._path)) if self._file is not None else []

    def clear(self) -> None:
        """Forget what waited; call once all of it is in the stream."""
        if self._file is not None:
            self._path.unlink()
            self._file.close()
            self._file = None
        self._decided.clear()

    def adopt(self) -> int:
        """Take over what dead processes left behind; returns how many calls."""
        adopted = 0
        for path in sorted(self._folder.glob("*.jsonl")):
            if path == self._path or not path.stat().st_size:
                # An empty file is one that its process has not locked yet.
                continue
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if not path.exists():
                    continue
                # Written to this process's file before the other is removed: a crash between doubles, never loses.
                found = list(_read(path))
                if found:
                    self._keep(found)
                adopted += len(found)
                path.unlink()
        return adopted


def _encode(spooled: Spooled) -> bytes:
    call = spooled.call
    return orjson.dumps(
        [
            spooled.spool_id,
            to_text(spooled.at),
            call.stream,
            call.message.decode(),
            call.decided_key,
            call.request_hash,
            call.ttl_seconds,
        ]
    )


def _read(path: Path) -> Iterator[Spooled]:
    with path.open("rb") as file:
        for line in file:
            # A line without its end was being written when the process died, and was never acknowledged.
            if not line.endswith(b"\n"):
                return
            spool_id, at, stream, message, decided_key, request_hash, ttl_seconds = orjson.loads(line)
            call = Call(stream, message.encode(), decided_key, request_hash, ttl_seconds)
            yield Spooled(call, from_text(at), spool_id)
