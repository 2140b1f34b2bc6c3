"""``offerloop evaluate``: evaluate policies on a loop's log, or on a file, and write a report.

``offerloop evaluate search`` looks for better learning settings, ``fairness`` compares what groups of customers were
shown, and ``open-bandit`` writes a published log as a file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from adapters.engines import make_engine
from adapters.installation import NoInstallation, existing_database
from adapters.interaction_log import read_interactions
from adapters.settings import load_settings
from evaluation import fairness_report, open_bandit, report, search_command
from evaluation.bootstrap import REPLICATES
from evaluation.columns import DEFAULT_HYPERPARAMETERS, Hyperparameters
from evaluation.estimators import ESTIMATORS
from evaluation.evaluate import Choices, Evaluation
from evaluation.fairness import ITEM_KEYS, FairnessUnavailable, TooManyGroups, compare_groups
from evaluation.lightgbm_rewards import BoostingUnavailable
from evaluation.policy_names import FORMS
from evaluation.request import FIXED_OFFERS, EvaluationRequest
from evaluation.reward_choice import REWARD_MODELS
from evaluation.run import evaluate_file, evaluate_loop

INTERVALS = ("default", "normal", "bootstrap")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="offerloop evaluate",
        description="evaluate policies on a loop's log, or on a file, and write a report",
        epilog="more: offerloop evaluate search|fairness|open-bandit --help",
    )
    arguments.add_argument("--loop", default="default", help="the loop whose log is read (default: %(default)s)")
    arguments.add_argument("--log", type=Path, help="read this file instead: Parquet, dsjson or JSON lines")
    arguments.add_argument("--from", dest="closed_from", type=_time, help="decisions that closed then or later")
    arguments.add_argument("--to", dest="closed_to", type=_time, help="decisions that closed before")
    arguments.add_argument(
        "--policy", "--target", dest="policies", action="append", default=[], metavar="POLICY",
        help=f"evaluate this policy, and no standard ones; may be repeated: {', '.join(FORMS)}",
    )  # fmt: skip
    arguments.add_argument("--against", default="logged", metavar="POLICY", help="compare with it (default: logged)")
    arguments.add_argument(
        "--q", "--reward-model", dest="reward_model", default="default", metavar="MODEL",
        help=f"the reward model: {', '.join(REWARD_MODELS)}, or column:NAME of a file (default: %(default)s)",
    )  # fmt: skip
    arguments.add_argument("--slice", dest="slices", action="append", default=[], metavar="PATH",
        help="slice by offer, week, or a feature such as H.segment or D.*; may be repeated",
    )  # fmt: skip
    arguments.add_argument(
        "--features", action="store_true", help="also tell what each namespace is worth (reads the log once more)"
    )
    arguments.add_argument(
        "--rewards", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="range of a file's rewards (default: 0 1, or what the file has if that is wider); a loop has its own",
    )  # fmt: skip
    arguments.add_argument(
        "--estimators", default=",".join(ESTIMATORS), metavar="KEYS", help="with commas between (default: %(default)s)"
    )
    arguments.add_argument(
        "--fixed-offers", type=int, default=FIXED_OFFERS,
        help="most served offers to evaluate as policies, unless policies are named (default: %(default)s)",
    )  # fmt: skip
    arguments.add_argument("--level", type=float, default=0.95, help="of the intervals (default: %(default)s)")
    arguments.add_argument(
        "--interval", choices=INTERVALS, default="default",
        help="the interval shown as low and high in --json; verdicts rest on the default one",
    )  # fmt: skip
    arguments.add_argument("--replicates", type=int, default=REPLICATES, help="of the bootstrap (default: %(default)s)")
    arguments.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    known = DEFAULT_HYPERPARAMETERS
    arguments.add_argument("--clip", type=float, default=known.clip, help="of clipped_ips (default: %(default)s)")
    arguments.add_argument("--switch-tau", type=float, default=known.switch_tau, help="of switch_dr (%(default)s)")
    arguments.add_argument("--dros-lambda", type=float, default=known.dros_lambda, help="of dros (%(default)s)")
    arguments.add_argument("--out", type=Path, help="folder for report.html, report.json and the charts")
    arguments.add_argument("--json", type=Path, help="write the result as JSON to this file")
    arguments.add_argument("--database-url", help="PostgreSQL; default: the settings', else the embedded one")
    return arguments


def _time(text: str) -> datetime:
    """A date or a time; without an offset it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-23 or 2026-11-23T08:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


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
    with existing_database(load_settings(), given or None) as url:
        yield url


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading the log", total=None)
        yield lambda n: bar.update(task, description=f"{n:,} decisions evaluated")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when a report was written, 1 when the log holds nothing to evaluate, 2 on bad input."""
    words = list(sys.argv[1:] if argv is None else argv)
    other = _COMMANDS.get(words[0]) if words else None
    try:
        return _evaluate(words) if other is None else other(words[1:])
    except NoInstallation as error:
        print(error, file=sys.stderr)
        return 2


def _evaluate(words: list[str]) -> int:
    given = parser().parse_args(words)
    if given.out is None and given.json is None:
        parser().error("say where the result goes: --out FOLDER or --json FILE")
    try:
        evaluation = _evaluated(given)
    except (ValueError, BoostingUnavailable) as error:
        print(error, file=sys.stderr)
        return 2
    if given.json:
        report.write_json(evaluation, given.json, given.interval)
    print(report.verdict_in_words(evaluation))
    if given.out:
        print(report.write(evaluation, given.out))
    return 0 if evaluation.n else 1


def _evaluated(given: argparse.Namespace) -> Evaluation:
    request = EvaluationRequest(
        loop=given.loop,
        closed_from=given.closed_from,
        closed_to=given.closed_to,
        policies=tuple(given.policies),
        reward_model=given.reward_model,
        rewards=tuple(given.rewards) if given.rewards else None,
        choices=Choices(
            against=given.against,
            level=given.level,
            fixed_offers=given.fixed_offers,
            estimators=tuple(given.estimators.split(",")),
            slices=tuple(given.slices),
            hyperparameters=Hyperparameters(given.clip, given.switch_tau, given.dros_lambda),
            replicates=given.replicates,
            seed=given.seed,
        ),
    )
    with _progress(Console(stderr=True)) as progress:
        if given.log is not None:
            if request.closed_from or request.closed_to:
                raise ValueError("--from and --to are for a loop's log; a file is read whole")
            return evaluate_file(given.log, request, features=given.features, progress=progress)
        with database_url(given.database_url) as url:
            engine = make_engine(url)
            try:
                return evaluate_loop(engine, request, features=given.features, progress=progress)
            finally:
                engine.dispose()


def _fairness(words: list[str]) -> int:
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


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "fairness": _fairness,
    "search": lambda words: search_command.main(words, database_url),
    "open-bandit": open_bandit.main,
}


if __name__ == "__main__":
    sys.exit(main())
