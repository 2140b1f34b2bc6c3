"""``offerloop evaluate search``: look for a better learning setting on a log and write a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from adapters.engines import make_engine
from adapters.interaction_log import find_settings, read_interactions
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.vowpal import BadArguments
from evaluation import search_report
from evaluation.chunks import LogSource
from evaluation.interactions import Interactions
from evaluation.lightgbm_rewards import BoostingUnavailable
from evaluation.logs import open_log
from evaluation.reward_choice import REWARD_MODELS, reward_model
from evaluation.row_faults import LogUnusable
from evaluation.search import DEFAULT_PLAN, BadPlan, SearchPlan, search
from evaluation.spooled_log import NothingToLearn

Databases: TypeAlias = Callable[[str | None], AbstractContextManager[str]]
"""Opens the database that is given, or else the settings' one, and gives its address."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="offerloop evaluate search",
        description="look for learning settings that earn more than the current one, judged on held-out decisions",
    )
    arguments.add_argument("--loop", default="default", help="the loop whose log is read (default: %(default)s)")
    arguments.add_argument("--log", type=Path, help="read this file instead: Parquet, dsjson or JSON lines")
    arguments.add_argument("--out", type=Path, required=True, help="folder for search.html, search.json and search.png")
    arguments.add_argument("--arguments", help="the current setting; default: the loop's")
    arguments.add_argument(
        "--trials", type=int, default=DEFAULT_PLAN.trials, help="settings to draw and try (default: %(default)s)"
    )
    arguments.add_argument(
        "--try", dest="settings", action="append", metavar="ARGUMENTS",
        help="try this setting, and no drawn ones; may be repeated",
    )  # fmt: skip
    arguments.add_argument(
        "--rewards", type=float, nargs=2, default=(0.0, 1.0), metavar=("LOW", "HIGH"),
        help="range of the file's rewards (default: 0 1); a loop has its own",
    )  # fmt: skip
    arguments.add_argument("--seed", type=int, default=DEFAULT_PLAN.seed, help="of the drawn settings")
    arguments.add_argument(
        "--held-out", type=float, default=DEFAULT_PLAN.held_out, metavar="SHARE",
        help="the last share of the log, on which finalists are judged (default: %(default)s)",
    )  # fmt: skip
    arguments.add_argument(
        "--finalists", type=int, default=DEFAULT_PLAN.finalists, help="judged at most (default: %(default)s)"
    )
    arguments.add_argument(
        "--level", type=float, default=DEFAULT_PLAN.level, help="of intervals (default: %(default)s)"
    )
    arguments.add_argument(
        "--most-decisions", type=int, default=DEFAULT_PLAN.most_decisions,
        help="use only so many of the newest (default: %(default)s)",
    )  # fmt: skip
    arguments.add_argument("--processes", type=int, help="how many at once (default: one for each processor)")
    arguments.add_argument(
        "--reward-model", choices=list(REWARD_MODELS), default="default", help="of the estimates (default: %(default)s)"
    )
    arguments.add_argument("--database-url", help="PostgreSQL; default: the settings', else the embedded one")
    return arguments


def main(argv: Sequence[str], databases: Databases) -> int:
    """Run the command; 0 when a report with a verdict was written, 1 when the log supports none, 2 on bad input."""
    given = parser().parse_args(argv)
    try:
        plan = SearchPlan(
            given.trials,
            given.seed,
            given.held_out,
            given.finalists,
            given.level,
            given.processes,
            given.most_decisions,
        )
        with ExitStack() as stack:
            log, loop = _opened(given, databases, stack)
            if given.arguments:
                loop = replace(loop, arguments=given.arguments)
            progress = stack.enter_context(_progress())
            model = None if given.reward_model == "default" else reward_model(given.reward_model)
            result = search(log, loop, given.settings, plan=plan, model=model, progress=progress)
    except (BadArguments, BadPlan, BoostingUnavailable, LogUnusable, NothingToLearn) as error:
        print(error, file=sys.stderr)
        return 2
    page = search_report.write(result, given.out)
    print(search_report.in_words(result))
    print(page)
    return 1 if result.verdict == "refused" else 0


def _opened(given: argparse.Namespace, databases: Databases, stack: ExitStack) -> tuple[LogSource, LoopConfig]:
    if given.log is not None:
        low, high = given.rewards
        if not low < high:
            raise BadPlan(f"the rewards' range {low:g} to {high:g} is empty")
        return open_log(given.log), LoopConfig(given.log.name, reward=RewardDefinition(low, high))
    engine = make_engine(stack.enter_context(databases(given.database_url)))
    stack.callback(engine.dispose)
    loop = find_settings(engine, given.loop)
    if loop is None:
        raise NothingToLearn(f"there is no loop {given.loop!r}")
    return Interactions(read_interactions(engine, given.loop, latest=True)), loop


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading the log", total=None)
        yield lambda what, count: bar.update(task, description=f"{count:,} {what}")
