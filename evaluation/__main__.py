"""``offerloop evaluate``: evaluate standard policies on a loop's log and write a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from adapters import embedded
from adapters.interaction_log import read_interactions
from adapters.settings import load_settings
from adapters.tables import make_engine
from evaluation import report
from evaluation.evaluate import evaluate


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = argparse.ArgumentParser(prog="offerloop evaluate", description=__doc__)
    arguments.add_argument("--loop", default="default", help="the loop whose log is read (default: %(default)s)")
    arguments.add_argument("--out", type=Path, required=True, help="folder for report.html, report.json and the charts")
    arguments.add_argument("--database-url", help="PostgreSQL; default: the settings', else the embedded one")
    arguments.add_argument("--json", type=Path, help="also write the result as JSON to this file")
    arguments.add_argument(
        "--fixed-offers", type=int, default=20, help="most served offers to evaluate as policies (default: %(default)s)"
    )
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
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    with database_url(arguments.database_url) as url, _progress(console) as progress:
        engine = make_engine(url)
        try:
            interactions = read_interactions(engine, arguments.loop)
            evaluation = evaluate(interactions, fixed_offers=arguments.fixed_offers, progress=progress)
        finally:
            engine.dispose()
    page = report.write(evaluation, arguments.out)
    if arguments.json:
        report.write_json(evaluation, arguments.json)
    print(report.verdict_in_words(evaluation))
    print(page)
    return 0 if evaluation.n else 1


if __name__ == "__main__":
    sys.exit(main())
