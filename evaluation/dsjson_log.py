"""A log of Vowpal Wabbit's decision service (dsjson lines) as chunks (docs/LOG_FORMATS.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluation.chunks import Chunk, LogNotes
from evaluation.dsjson_rows import read_single, was_thinned
from evaluation.json_log import chunks_of_lines
from evaluation.log_decisions import DecisionMaker
from evaluation.log_layout import LogLayout
from evaluation.log_rows import UNKNOWN_TIME, Row

LAYOUT = LogLayout(
    event_id=True, ts=True, context=True, actions=True, propensity=True, probs=True, columns=(), flat=False
)


class DsjsonLog:
    """dsjson lines of single decisions as a ``LogSource``; lines that cannot be used are counted, never fatal.

    Rewards are negated costs, the actions stand in the order of ``c._multi``, and the served distribution is ``p``,
    whose entries belong to the actions named by ``a`` (from 1).
    """

    def __init__(self, path: Path) -> None:
        """Take the file."""
        self.path = path
        self.layout = LAYOUT
        self.found = LogNotes(loop=path.name)
        self._dropped = self._timeless = 0

    def chunks(self) -> Iterator[Chunk]:
        """The usable decisions.

        Raises:
            LogUnusable: there are none.
        """
        yield from chunks_of_lines(self.path, self.found, self._row, DecisionMaker(self.found.loop))
        if self._timeless:
            self.found.notes.append(f"{self._timeless:,} decisions have no Timestamp: 1970-01-01 stands for it")
        if self._dropped:
            self.found.notes.append(
                f"{self._dropped:,} decisions have a pdrop above 0: others were dropped at random before them and are "
                "not made up for"
            )

    def _row(self, raw: dict[str, Any], number: int) -> Row:
        row = read_single(raw)
        self._timeless += row.at is UNKNOWN_TIME
        self._dropped += was_thinned(raw)
        return row
