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

from contextual_bandit.events import from_text, to_text

SPOOLED = "spooled"


@dataclass(frozen=True, slots=True)
class Call:
    """One write to a stream. A decision has ``decided_key`` and is logged once under it; other messages do not."""

    stream: str
    message: bytes
    decided_key: str | None = None
    request_hash: str = ""
    ttl_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Spooled:
    """A call that waits on disk, and when it was acknowledged."""

    call: Call
    at: datetime


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
        if self._file is None:
            self._file = self._path.open("ab")
            fcntl.flock(self._file, fcntl.LOCK_EX)
        for call in calls:
            self._file.write(_encode(call, now) + b"\n")
            if call.decided_key is not None:
                self._decided.setdefault(call.decided_key, call)
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

    def adopt(self, now: datetime) -> int:
        """Take over what dead processes left behind; returns how many calls."""
        adopted = 0
        for path in sorted(self._folder.glob("*.jsonl")):
            if path == self._path:
                continue
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if not path.exists():
                    continue
                # Written to this process's file before the other is removed: a crash between doubles, never loses.
                for spooled in _read(path):
                    self.append([spooled.call], spooled.at)
                    adopted += 1
                path.unlink()
        return adopted


def _encode(call: Call, at: datetime) -> bytes:
    return orjson.dumps(
        [to_text(at), call.stream, call.message.decode(), call.decided_key, call.request_hash, call.ttl_seconds]
    )


def _read(path: Path) -> Iterator[Spooled]:
    with path.open("rb") as file:
        for line in file:
            # A line without its end was being written when the process died, and was never acknowledged.
            if not line.endswith(b"\n"):
                return
            at, stream, message, decided_key, request_hash, ttl_seconds = orjson.loads(line)
            yield Spooled(Call(stream, message.encode(), decided_key, request_hash, ttl_seconds), from_text(at))
