"""``offerloop evaluate``: evaluate standard policies on a loop's log and write a report.

``offerloop evaluate fairness`` compares what groups of customers were shown, and what came of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from adapters import embedded
from adapters.interaction_log import find_settings, read_interactions
from adapters.settings import load_settings
from adapters.tables import make_engine
from evaluation import fairness_report, report
from evaluation.evaluate import evaluate
from evaluation.fairness import ITEM_KEYS, FairnessUnavailable, TooManyGroups, compare_groups
from evaluation.interactions import Interactions
from evaluation.targets import STANDARD_TARGETS, baseline


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="offerloop evaluate",
        description="evaluate standard policies on a loop's log and write a report",
        epilog="'offerloop evaluate fairness --help' is about groups of customers",
    )
    arguments.add_argument("--loop", default="default", help="the loop whose log is read (default: %(default)s)")
    arguments.add_argument("--out", type=Path, required=True, help="folder for report.html, report.json and the charts")
    arguments.add_argument("--database-url", help="PostgreSQL; default: the settings', else the embedded one")
    arguments.add_argument("--json", type=Path, help="also write the result as JSON to this file")
    arguments.add_argument(
        "--fixed-offers", type=int, default=20, help="most served offers to evaluate as policies (default: %(default)s)"
    )
    return arguments


def fairness_parser() -> argparse.ArgumentParser:
    """The arguments of ``offerloop evaluate fairness``."""
    arguments = argparse.ArgumentParser(
        prog="offerloop evaluate fairness", description="compare exposure and reward of groups of customers"
    )
    arguments.add_argument("--loop", default="default", help="the loop whose log is read (default: %(default)s)")
    arguments.add_argument("--by", required=True, help="the demographic feature that makes the groups, as age_band")
    arguments.add_argument(
        "--per", choices=list(ITEM_KEYS), default="offer", help="what exposure is counted by (default: %(default)s)"
    )
    arguments.add_argument(
        "--out", type=Path, default=Path("fairness"),
        help="folder for fairness.html, fairness.json and the charts (default: %(default)s)",
    )  # fmt: skip
    arguments.add_argument("--database-url", help="PostgreSQL; default: the settings', else the embedded one")
    return arguments


@contextmanager
def database_url(given: str | None) -> Iterator[str]:
    """The database to read: the one given, the settings' one, or the embedded one while it is used."""
    settings = load_settings()
    url = given or settings.database_url
    if url:
        yield url
        return
    with embedded.join(settings.data_dir) as membership:
        yield membership.urls.database_url


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading the log", total=None)
        yield lambda n: bar.update(task, description=f"{n:,} decisions evaluated")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when a report was written, 1 when the loop's log holds nothing to evaluate."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["fairness"]:
        return _fairness(words[1:])
    arguments = parser().parse_args(words)
    console = Console(stderr=True)
    with database_url(arguments.database_url) as url, _progress(console) as progress:
        engine = make_engine(url)
        try:
            targets, settings = dict(STANDARD_TARGETS), find_settings(engine, arguments.loop)
            if settings is not None:
                targets["baseline"] = baseline(settings.baseline)
            # Late outcomes count here, where the loop lets them: what an offer was worth in the end.
            interactions = read_interactions(engine, arguments.loop, latest=True)
            evaluation = evaluate(
                Interactions(interactions), targets, fixed_offers=arguments.fixed_offers, progress=progress
            )
        finally:
            engine.dispose()
    page = report.write(evaluation, arguments.out)
    if arguments.json:
        report.write_json(evaluation, arguments.json)
    print(report.verdict_in_words(evaluation))
    print(page)
    return 0 if evaluation.n else 1


def _fairness(words: Sequence[str]) -> int:
    arguments = fairness_parser().parse_args(words)
    with database_url(arguments.database_url) as url, _progress(Console(stderr=True)) as progress:
        engine = make_engine(url)
        try:
            interactions = read_interactions(engine, arguments.loop, latest=True)
            found = compare_groups(interactions, arguments.by, per=arguments.per, progress=progress)
        except (FairnessUnavailable, TooManyGroups) as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            engine.dispose()
    page = fairness_report.write(found, arguments.out)
    print(fairness_report.in_words(found))
    print(page)
    return 0 if found.compared else 1


if __name__ == "__main__":
    sys.exit(main())
