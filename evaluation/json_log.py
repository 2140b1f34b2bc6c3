"""A log of JSON lines as chunks (docs/LOG_FORMATS.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from evaluation.chunks import Chunk, LogNotes
from evaluation.log_decisions import DecisionMaker, action_id
from evaluation.log_layout import ONLY_CHOSEN, PROBABILITIES, LogLayout
from evaluation.log_rows import UNKNOWN_TIME, Row, chunk_of, read_lines, utc
from evaluation.row_faults import (
    BadRow,
    LogUnusable,
    RowFaults,
    check_probabilities,
    check_served,
    index_of,
    number_of,
    numbers_of,
    propensity_of,
)

# Fields that the first lines do not have, the log does not have.
LINES_LOOKED_AT = 200
# A chunk ends when it holds so many rows, (decision, action) pairs, or bytes of lines.
MOST_ROWS = 8192
MOST_PAIRS = 200_000
MOST_BYTES = 16 * 2**20

RowReader = Callable[[dict[str, Any], int], Row]


class JsonLog:
    """JSON lines as a ``LogSource``; lines that cannot be used are counted, never fatal."""

    def __init__(self, path: Path, columns: Sequence[str] = ()) -> None:
        """Look at the file's first lines.

        Args:
            path: the file.
            columns: further columns of numbers that it must have.

        Raises:
            LogUnusable: it cannot be read, holds no JSON objects, or lacks a field.
        """
        self.path = path
        self.layout = _layout(path, columns)
        self.found = LogNotes(loop=path.name, notes=self.layout.notes())

    def chunks(self) -> Iterator[Chunk]:
        """The usable decisions.

        Raises:
            LogUnusable: there are none.
        """
        maker = None if self.layout.flat else DecisionMaker(self.found.loop)
        yield from chunks_of_lines(self.path, self.found, lambda raw, number: read_row(raw, self.layout, number), maker)


def chunks_of_lines(path: Path, found: LogNotes, read: RowReader, maker: DecisionMaker | None) -> Iterator[Chunk]:
    """Chunks of the rows that ``read`` makes of a file's lines; what it refuses is counted.

    Raises:
        LogUnusable: no line is usable.
    """
    faults = RowFaults(found, "line")
    codes: dict[str, int] = {}
    rows: list[Row] = []
    pairs = size = used = 0
    for row, length in _rows(path, read, faults):
        rows.append(row)
        pairs += len(row.ids)
        size += length
        used += 1
        if len(rows) >= MOST_ROWS or pairs >= MOST_PAIRS or size >= MOST_BYTES:
            yield chunk_of(rows, codes, maker)
            rows, pairs, size = [], 0, 0
    if rows:
        yield chunk_of(rows, codes, maker)
    faults.finish()
    if maker is not None:
        maker.finish(found)
    if not used:
        raise LogUnusable(path, f"no line can be used: {nothing_usable(found)}")


def nothing_usable(found: LogNotes) -> str:
    """Why no row of a file was usable: the reasons, most frequent first."""
    return ", ".join(f"{reason} ({count:,})" for reason, count in found.skipped.most_common(5)) or "it holds none"


def read_row(raw: dict[str, Any], layout: LogLayout, number: int) -> Row:
    """Read one line's object.

    Raises:
        BadRow: it cannot be used.
    """
    reward = number_of(raw.get("reward"), "reward")
    propensity = propensity_of(raw.get("propensity")) if layout.propensity else math.nan
    actions: Sequence[Any] = () if layout.flat else _actions(raw, layout)
    ids = [ONLY_CHOSEN] if layout.flat else [action_id(one, index) for index, one in enumerate(actions)]
    chosen = 0 if layout.flat else index_of(raw.get("chosen"), len(ids))
    served = None
    if layout.probs:
        served = numbers_of(raw.get("probs"), "probs", len(ids))
        if not layout.propensity:
            propensity = propensity_of(served[chosen])
        check_served(served, chosen, propensity)
    return Row(
        event_id=event_id_of(raw.get("event_id")) if layout.event_id else f"line-{number}",
        at=_time(raw.get("ts")) if layout.ts else UNKNOWN_TIME,
        chosen=chosen,
        propensity=propensity,
        reward=reward,
        ids=ids,
        served=served,
        columns={name: _column(raw.get(name), name, len(ids), layout.flat) for name in layout.columns},
        context=raw.get("context"),
        actions=actions,
    )


def event_id_of(value: Any) -> str:
    """The id of an event.

    Raises:
        BadRow: it is missing, or neither text nor a whole number.
    """
    if value is None or value == "":
        raise BadRow("event_id", "missing")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRow("event_id", "neither text nor a whole number", value)
    return str(value)


def _actions(raw: dict[str, Any], layout: LogLayout) -> Sequence[Any]:
    """What is known of the actions; how many there are is told by any list of numbers if not by themselves."""
    if not layout.actions:
        lists = (raw.get(name) for name in ("probs", *layout.columns))
        count = next((len(one) for one in lists if isinstance(one, list)), 0)
        actions: Sequence[Any] = (None,) * count
    else:
        given = raw.get("actions")
        if isinstance(given, str):
            given = _parsed(given)
        if given is None:
            raise BadRow("actions", "missing")
        if isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= MOST_PAIRS:
            given = [None] * given
        if not isinstance(given, list) or not all(one is None or isinstance(one, str | int | dict) for one in given):
            raise BadRow("actions", "neither objects, ids nor their number", given)
        actions = given
    if not actions:
        raise BadRow("actions", "none")
    return actions


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        raise BadRow("actions", "no JSON", text) from None


def _time(value: Any) -> datetime:
    at = utc(value)
    if at is None:
        raise BadRow("ts", "missing or no time", value)
    return at


def _column(value: Any, name: str, actions: int, flat: bool) -> list[float]:
    numbers = [number_of(value, name)] if flat else numbers_of(value, name, actions)
    if name in PROBABILITIES:
        check_probabilities(numbers, name)
        numbers = [min(one, 1.0) for one in numbers]
    return numbers


def _rows(path: Path, read: RowReader, faults: RowFaults) -> Iterator[tuple[Row, int]]:
    """Usable rows, each with the length of its line."""
    for number, line in read_lines(path):
        try:
            row = read(object_of(line), number)
        except BadRow as fault:
            faults.add(fault, number)
            continue
        yield row, len(line or b"")


def object_of(line: bytes | None) -> dict[str, Any]:
    """The object that a line holds; None is a line that is too long.

    Raises:
        BadRow: it holds none.
    """
    if line is None:
        raise BadRow("line", "too long")
    try:
        raw = orjson.loads(line)
    except ValueError:
        raise BadRow("line", "no JSON", line[:40].decode(errors="replace")) from None
    if not isinstance(raw, dict):
        raise BadRow("line", "no JSON object", raw)
    return raw


def first_objects(path: Path) -> list[dict[str, Any]]:
    """The objects among the first lines of a file.

    Raises:
        LogUnusable: it cannot be read, or there are none.
    """
    found = []
    for _, line in islice(read_lines(path), LINES_LOOKED_AT):
        try:
            found.append(object_of(line))
        except BadRow:
            continue
    if not found:
        raise LogUnusable(path, f"no JSON object in its first {LINES_LOOKED_AT} lines")
    return found


def _layout(path: Path, columns: Sequence[str]) -> LogLayout:
    objects = first_objects(path)
    names = {name for one in objects for name, value in one.items() if value is not None}
    lists = {name for one in objects for name, value in one.items() if isinstance(value, list)}
    return LogLayout.of(path, names, lists, columns)
