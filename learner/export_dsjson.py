"""``offerloop export dsjson``: a loop's log as lines that Vowpal Wabbit and its tools read."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from rich.console import Console
from rich.progress import Progress

from adapters.installation import Installation
from adapters.interaction_log import count_loop, find_settings
from adapters.recorded_interactions import RecordedInteraction, read_recorded
from contextual_bandit.loops import DEFAULT_LOOP
from learner.dsjson_lines import line_of


def add_command(commands: Any) -> None:
    """Add the command to a parser's."""
    words = commands.add_parser("export", help="export a loop's log", description=__doc__)
    kinds = words.add_subparsers(metavar="KIND", required=True)
    dsjson = kinds.add_parser("dsjson", help="dsjson lines, one for each closed decision, in the order of closing")
    dsjson.add_argument("--loop", default=DEFAULT_LOOP, metavar="L", help="the loop (default: %(default)s)")
    dsjson.add_argument("--from", dest="since", type=_time, metavar="T", help="decisions of this time or later (UTC)")
    dsjson.add_argument("--to", dest="until", type=_time, metavar="T", help="decisions before this time (UTC)")
    dsjson.add_argument("--out", type=Path, metavar="FILE", help="where to (default: standard output)")
    dsjson.set_defaults(run=run)


def run(installation: Installation, chosen: argparse.Namespace) -> int:
    """Export; 0 when all of it was written, 1 when the file could not be, 2 for a loop that there never was."""
    if find_settings(installation.engine, chosen.loop) is None:
        print(f"unknown loop {chosen.loop!r}; nothing was exported", file=sys.stderr)
        return 2
    total = count_loop(installation.engine, chosen.loop).interactions
    counts: Counter[str] = Counter()
    try:
        with _opened(chosen.out) as out, Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("exporting", total=total)
            for one in read_recorded(installation.engine, chosen.loop):
                bar.advance(task)
                for line in lines([one], chosen.since, chosen.until, counts):
                    out.write(line)
    except OSError as error:
        print(f"{chosen.out}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{counts['written']:,} decisions exported", file=sys.stderr)
    if counts["undrawn"]:
        print(f"{counts['undrawn']:,} left out: nothing was drawn, so they have no probability", file=sys.stderr)
    return 0


def lines(
    recorded: Iterable[RecordedInteraction], since: datetime | None, until: datetime | None, counts: Counter[str]
) -> Iterator[bytes]:
    """Lines of the interactions whose decisions occurred in [since, until), each with its end.

    ``counts`` is counted into: ``written``, and ``undrawn`` for those without a probability.
    """
    for one in recorded:
        at = one.interaction.decision.occurred_at
        if (since is not None and at < since) or (until is not None and at >= until):
            continue
        line = line_of(one.interaction, one.given)
        counts["undrawn" if line is None else "written"] += 1
        if line is not None:
            yield orjson.dumps(line) + b"\n"


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that takes its name when it is complete."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an ISO 8601 date or time, got {text!r}") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
