"""Rows of a log file that is read line by line, and the chunks that are made of them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.hashing import hash_ids
from evaluation.log_decisions import DecisionMaker, LazyDecisions
from evaluation.row_faults import LogUnusable

LONGEST_LINE = 16 * 2**20
GZIP_MAGIC = b"\x1f\x8b"
# Stands where a log does not say when: a decision must have a time.
UNKNOWN_TIME = datetime(1970, 1, 1)  # noqa: DTZ001  # UTC and naive, as numpy has it


@dataclass(frozen=True, slots=True)
class Row:
    """A usable row; lists have one entry per action.

    Attributes:
        event_id: its id.
        at: UTC, naive; UNKNOWN_TIME where the log does not say.
        chosen: index of the chosen action.
        propensity: its logged probability; nan where it must be estimated.
        reward: as logged.
        ids: of the actions.
        served: all logged probabilities; None where only the propensity is known.
        columns: further numbers by name.
        context: as it was written.
        actions: as they were written.
    """

    event_id: str
    at: datetime
    chosen: int
    propensity: float
    reward: float
    ids: Sequence[str]
    served: Sequence[float] | None = None
    columns: Mapping[str, Sequence[float]] = field(default_factory=dict)
    context: Any = None
    actions: Sequence[Any] = ()


def chunk_of(rows: Sequence[Row], codes: dict[str, int], maker: DecisionMaker | None) -> Chunk:
    """Make a chunk of rows that all hold the same fields.

    Args:
        rows: at least one.
        codes: number of each offer id; grows.
        maker: makes their decisions; None when the log tells of the chosen actions alone.
    """
    sizes = np.array([len(row.ids) for row in rows], dtype=np.int64)
    first = np.cumsum(sizes) - sizes

    def decision_at(index: int) -> Any:
        assert maker is not None
        row = rows[index]
        return maker.make(
            row.event_id, row.at.replace(tzinfo=UTC), row.context, row.actions, row.chosen, row.propensity, row.served
        )

    offers = (codes.setdefault(one, len(codes)) for row in rows for one in row.ids)
    return Chunk(
        hashes=hash_ids([row.event_id for row in rows]),
        reward=np.array([row.reward for row in rows], dtype=np.float64),
        propensity=np.array([row.propensity for row in rows], dtype=np.float64),
        at=np.array([row.at for row in rows], dtype="datetime64[us]"),
        row=np.repeat(np.arange(len(rows), dtype=np.int64), sizes),
        first=first,
        chosen=first + np.array([row.chosen for row in rows], dtype=np.int64),
        offer=np.fromiter(offers, np.int64, int(sizes.sum())),
        codes=codes,
        served=_served(rows),
        decisions=() if maker is None else LazyDecisions(len(rows), decision_at),
        columns={name: np.concatenate([np.asarray(row.columns[name]) for row in rows]) for name in rows[0].columns},
    )


def _served(rows: Sequence[Row]) -> FloatArray | None:
    """All rows' served probabilities, (m,); None as soon as one row does not know its own."""
    known = [row.served for row in rows if row.served is not None]
    return np.concatenate([np.asarray(one) for one in known]) if len(known) == len(rows) else None


def read_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Lines that hold something, with their numbers from 1; None for one that is too long to be a row.

    A file that is compressed with gzip is read as it is.

    Raises:
        LogUnusable: the file cannot be read, or not to its end.
    """
    number = 0
    try:
        with _opened(path) as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                too_long = len(line) == LONGEST_LINE and not line.endswith(b"\n")
                while too_long and (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                    continue
                if too_long:
                    yield number, None
                elif line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise LogUnusable(path, f"cannot be read after line {number}: {error}") from None


def utc(value: Any) -> datetime | None:
    """A time as logs write it: ISO 8601 text (UTC unless it says otherwise) or seconds since 1970; None if it is none.

    The result is UTC and naive, as numpy has it.
    """
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value.strip())
        elif isinstance(value, int | float) and not isinstance(value, bool):
            at = datetime.fromtimestamp(value, UTC)
        else:
            return None
        return at.replace(tzinfo=None) if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError):
        return None


def _opened(path: Path) -> BufferedReader | gzip.GzipFile:
    file = path.open("rb")
    if file.peek(2)[:2] != GZIP_MAGIC:
        return file
    file.close()
    return gzip.open(path, "rb")
