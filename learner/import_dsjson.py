"""``offerloop import dsjson FILE...``: Personalizer's or Vowpal Wabbit's log of decisions into that of a loop."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import Progress

from adapters.catalogue import LoopStore
from adapters.imported_log import ImportedLog, NotTaken
from adapters.installation import Installation
from adapters.streams import AWAY
from contextual_bandit import events
from contextual_bandit.loops import DEFAULT_LOOP, LoopConfig
from evaluation.chunks import LogNotes
from evaluation.dsjson_rows import chosen_leads, was_thinned
from evaluation.json_log import object_of
from evaluation.log_rows import read_lines
from evaluation.row_faults import BadRow, LogUnusable, RowFaults
from learner.dsjson_decisions import Imported, imported_from
from learner.import_model import UnusableModel, begin_warm, first_decisions, read_warm_start

# A run of lines ends when it holds so many, or so many bytes.
MOST_LINES = 500
MOST_BYTES = 8 * 2**20


class Log(Protocol):
    """Where decisions are imported to."""

    def known(self, decision_ids: Sequence[str]) -> frozenset[str]:
        """Which of these decisions the log holds."""

    def append(self, messages: Sequence[bytes]) -> None:
        """Take these messages into the log."""


@dataclass(slots=True)
class ImportCounts:
    """What an import found, in lines; ``found`` has those that could not be used, by reason.

    ``unordered``: the ranking does not begin with the chosen action. ``undistributed``: only the chosen action's
    probability is told. ``outside``: rewards outside the loop's range. ``left_out``: features that say who somebody is.
    """

    lines: int = 0
    imported: int = 0
    repeated: int = 0
    unordered: int = 0
    undistributed: int = 0
    timeless: int = 0
    thinned: int = 0
    outside: int = 0
    left_out: int = 0
    found: LogNotes = field(default_factory=LogNotes)

    def shown(self) -> Iterator[str]:
        """The counts in words, a line each."""
        yield f"{self.imported:,} decisions imported, {self.repeated:,} already there, of {self.lines:,} lines"
        said = (
            (self.unordered, "have a ranking (a) that does not begin with the chosen action: _labelIndex is believed"),
            (self.undistributed, "tell the chosen action's probability alone: learned from, but not evaluated"),
            (self.timeless, "have no Timestamp: the time of the import stands for it"),
            (self.thinned, "have a pdrop above 0: others were dropped at random before them, which is not made up for"),
            (self.outside, "have a reward outside the loop's range, to which learning clips it"),
        )
        yield from (f"{count:,} {what}" for count, what in said if count)
        if self.left_out:
            yield f"{self.left_out:,} features say who somebody is and were left out"
        yield from self.found.notes


def add_command(commands: Any) -> None:
    """Add the command to a parser's."""
    words = commands.add_parser("import", help="import another service's log", description=__doc__)
    kinds = words.add_subparsers(metavar="KIND", required=True)
    dsjson = kinds.add_parser("dsjson", help="Personalizer's or Vowpal Wabbit's decision service log")
    dsjson.add_argument("files", nargs="+", type=Path, metavar="FILE", help="dsjson lines, plain or gzip")
    dsjson.add_argument("--loop", default=DEFAULT_LOOP, metavar="L", help="the loop (default: %(default)s)")
    dsjson.add_argument("--policy", type=Path, metavar="FILE", help="learning settings, as JSON or arguments")
    dsjson.add_argument(
        "--model", type=Path, metavar="FILE", help="Vowpal Wabbit's model that they trained: go on from it"
    )
    dsjson.set_defaults(run=run)


def run(installation: Installation, chosen: argparse.Namespace) -> int:
    """Import files; 0 when they were read to their end, 1 for trouble on the way, 2 when nothing could be begun."""
    config = LoopStore(installation.engine, installation.client).get(chosen.loop)
    if config is None:
        print(f"unknown loop {chosen.loop!r}; nothing was imported", file=sys.stderr)
        return 2
    start = None
    try:
        if chosen.model is not None and chosen.policy is None:
            raise UnusableModel(f"{chosen.model}: its arguments are needed too; name their file with --policy")
        sizes = [_size(path) for path in chosen.files]
        if chosen.policy is not None:
            shown = first_decisions(chosen.files, config.loop)
            start = read_warm_start(config, chosen.policy, chosen.model, shown)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; nothing was imported", file=sys.stderr)
        return 2
    except (UnusableModel, LogUnusable) as error:
        print(f"{error}; nothing was imported", file=sys.stderr)
        return 2
    status = _import_files(installation, config, chosen.files, sizes)
    if start is None or status:
        return status
    try:
        print(begin_warm(installation, config, start))
    except UnusableModel as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _import_files(installation: Installation, config: LoopConfig, paths: Sequence[Path], sizes: Sequence[int]) -> int:
    log = ImportedLog(installation.engine, installation.client, config.loop)
    status = 0
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for path, size in zip(paths, sizes, strict=True):
            task = bar.add_task(path.name, total=size)
            counts = ImportCounts()
            try:
                import_file(path, config, log, counts, datetime.now(UTC), partial(bar.advance, task))
            except (LogUnusable, NotTaken, *AWAY) as error:
                print(f"{error}; the same command goes on from there", file=sys.stderr)
                status = 1
            for line in counts.shown():
                bar.console.print(f"{path}: {line}", markup=False, highlight=False, soft_wrap=True)
            if status:
                break
    return status


def import_file(
    path: Path, config: LoopConfig, log: Log, counts: ImportCounts, now: datetime, advance: Callable[[int], object]
) -> None:
    """Import a file's closed decisions, each once however often it is imported; other lines are counted.

    Args:
        path: dsjson lines.
        config: the loop that takes them.
        log: its log.
        counts: counted into; true of what was done also when this raises.
        now: stands for the time of lines without one.
        advance: told how many bytes of the file more are done.

    Raises:
        LogUnusable: the file cannot be read to its end; what stands before is imported.
    """
    faults = RowFaults(counts.found, "line")
    try:
        for lines in _runs(read_lines(path)):
            _import_run(lines, config, log, counts, faults, now)
            advance(sum(len(line or b"") for _, line in lines))
    finally:
        faults.finish()


def _import_run(
    lines: Sequence[tuple[int, bytes | None]],
    config: LoopConfig,
    log: Log,
    counts: ImportCounts,
    faults: RowFaults,
    now: datetime,
) -> None:
    fresh: dict[str, tuple[Imported, dict[str, Any]]] = {}
    counts.lines += len(lines)
    for number, line in lines:
        try:
            raw = object_of(line)
            if b"\\u0000" in (line or b""):
                raise BadRow("line", "holds a NUL character")
            one = imported_from(raw, config.loop, now)
        except BadRow as fault:
            faults.add(fault, number)
            continue
        if one.decision.decision_id in fresh:
            counts.repeated += 1
        else:
            fresh[one.decision.decision_id] = one, raw
    for decision_id in log.known(list(fresh)):
        del fresh[decision_id]
        counts.repeated += 1
    if not fresh:
        return
    log.append([_message(one) for one, _ in fresh.values()])
    counts.imported += len(fresh)
    for one, raw in fresh.values():
        _count(one, raw, config, counts)


def _message(one: Imported) -> bytes:
    payload = events.imported_payload(one.decision, one.rewards, one.given)
    return events.encode(events.IMPORTED, one.decision.occurred_at, payload)


def _count(one: Imported, raw: dict[str, Any], config: LoopConfig, counts: ImportCounts) -> None:
    """Count what is remarkable about a line that was imported."""
    slots = one.decision.slots
    counts.unordered += not one.decision.has_slots and not chosen_leads(raw, slots[0].chosen)
    counts.undistributed += any(slot.distribution is None for slot in slots)
    counts.timeless += not raw.get("Timestamp")
    counts.thinned += was_thinned(raw)
    counts.outside += any(not config.reward.low <= reward <= config.reward.high for reward in one.rewards)
    counts.left_out += one.left_out


def _runs(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[list[tuple[int, bytes | None]]]:
    found: list[tuple[int, bytes | None]] = []
    size = 0
    for number, line in lines:
        found.append((number, line))
        size += len(line or b"")
        if len(found) >= MOST_LINES or size >= MOST_BYTES:
            yield found
            found, size = [], 0
    if found:
        yield found


def _size(path: Path) -> int:
    """The size of a file that can be read."""
    with path.open("rb"):
        return path.stat().st_size
