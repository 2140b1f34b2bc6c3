"""``offerloop simulate``: play a simulated market whose truth is known, over the public API, as a shop would.

Without --url it starts an installation of its own under --out. Redemptions are calibrated to published retail data;
effects of weather and season, and more, are assumed (docs/SIMULATOR.md). The market's offers stay in the catalogue, and
its loops are named for its seed: on an installation that is not its own, take a new seed for each run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adapters.running import DidNotStart, running_installation
from simulator import play_charts
from simulator.assumed import ASSUMED
from simulator.calls import Caller, CallRefused
from simulator.drift import Drift
from simulator.play import Contender, Market
from simulator.scores import NothingServed, Series, make_series, scores
from simulator.seattle import REGION, seattle_days
from simulator.shelf import draw_offers
from simulator.targets import SOURCE
from simulator.world import DAY, START, Objective, World, make_world

LATE_SHARE = 0.15
NEWCOMERS = 2
UNITS: dict[Objective, str] = {"clicks": "true click probability", "margin": "expected money per visit"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a market; write simulate.json and, with the extra ``charts``, its charts. 0 when nothing went missing."""
    chosen = _parse(arguments)
    # The summary goes to standard output, everything else beside it.
    console = Console(stderr=True)
    end = chosen.start + chosen.days * DAY
    if end + DAY > datetime.now(UTC):
        console.print(f"the market would end on {end.date()}; it must lie in the past, as its activity does")
        return 2
    started = time.monotonic()
    try:
        world = build_world(chosen)
        with ExitStack() as stack:
            url = chosen.url or _own_installation(chosen.out, stack, console)
            market, statuses = asyncio.run(_play(world, url, chosen, console))
        series = score(world, market.contenders)
    except (CallRefused, NothingServed, DidNotStart, ModuleNotFoundError) as error:
        console.print(f"simulate: {error}")
        return 1
    summary = summarize(world, market, series, statuses)
    summary["seconds"] = round(time.monotonic() - started, 1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    written = [chosen.out / "simulate.json"]
    written[0].write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))
    try:
        unit = UNITS[world.objective]
        written += play_charts.save(series, chosen.out, unit=unit, shift_day=world.drift.shift_day, start=world.start)
    except ModuleNotFoundError:
        console.print("no charts: install offerloop[charts]")
    console.print("written:", *map(str, written), soft_wrap=True)
    return 0 if is_sound(summary) else 1


def build_world(chosen: argparse.Namespace) -> World:
    """The market that the arguments ask for."""
    days = chosen.days
    shift = days / 2 if chosen.shift_day is None else chosen.shift_day
    weather = {REGION: seattle_days(chosen.start, days)} if chosen.weather == "seattle" else None
    is_margin = chosen.reward == "margin"
    return make_world(
        chosen.seed,
        chosen.customers,
        days,
        chosen.start,
        objective=chosen.reward,
        drift=Drift(turn_days=chosen.turn_days or None, shift_day=shift if 0 < shift < days else None),
        offers=draw_offers(chosen.seed, newcomers=NEWCOMERS, days=days, with_none=is_margin),
        late_share=LATE_SHARE,
        weather=weather,
    )


def score(world: World, contenders: Sequence[Contender]) -> Series:
    """The run's series, without bots.

    Raises:
        NothingServed: no human came.
    """
    first = contenders[0].served
    numbers = [number for number in sorted(first) if not first[number].is_bot]
    if not numbers:
        raise NothingServed("no customer came; more days or a higher rate are needed")
    rows = [first[number] for number in numbers]
    without = None
    if len(contenders) > 1:
        others = [contenders[1].served[number] for number in numbers]
        without = np.array([row.truth[row.chosen] for row in others])
    manager = np.stack([row.manager for row in rows if row.manager is not None])
    truth = np.stack([row.truth for row in rows])
    return make_series(world.start, [row.at for row in rows], [row.chosen for row in rows], truth, manager, without)


def summarize(
    world: World, market: Market, series: Series, statuses: Sequence[dict[str, Any]]
) -> dict[str, Any]:  # fmt: skip
    """The run's figures; values are means per decision of humans.

    Args:
        world: The market's truth.
        market: The run.
        series: Its decisions, scored.
        statuses: Where the service says each loop stands.
    """
    served = [contender.served.values() for contender in market.contenders]
    seen = [sum(row.is_seen for row in rows) for rows in served]
    sent = market.sent
    return {
        "seed": world.seed,
        "reward": world.objective,
        "start": world.start.isoformat(),
        "days": world.days,
        "customers": len(world.customers),
        "offers": len(world.offers),
        "calibrated_to": SOURCE,
        "assumed": list(ASSUMED),
        "loops": [
            {
                "loop": contender.loop, "decisions": len(rows), "seen": count,
                "interactions": status["interactions"], "lost": count - status["interactions"],
                "open": status["open"], "duplicated": status["duplicated"], "snapshots": status["snapshots"],
                "mean_reward": round(sum(row.reward for row in rows if row.is_seen) / max(count, 1), 5),
            }
            for contender, rows, count, status in zip(market.contenders, served, seen, statuses, strict=True)
        ],
        "bot_decisions": sum(row.is_bot for row in served[0]),
        "sent": {
            "outcomes": sent.outcomes, "outcomes_doubled": sent.doubled, "outcomes_late": sent.late,
            "outcomes_after_the_end": sent.never, "activations": sent.activations, "never_seen": sent.unseen,
            "repeated_ranks": sent.repeated_ranks, "activities": sent.activities,
        },
        **scores(world, series),
    }  # fmt: skip


def is_sound(summary: dict[str, Any]) -> bool:
    """Whether every decision that was seen became exactly one interaction."""
    return not any(loop["lost"] or loop["open"] for loop in summary["loops"])


def _own_installation(out: Path, stack: ExitStack, console: Console) -> str:
    store = out / "store"
    shutil.rmtree(store, ignore_errors=True)
    url = stack.enter_context(running_installation(store))
    console.print(f"The service runs at {url}")
    return url


async def _play(
    world: World, url: str, chosen: argparse.Namespace, console: Console
) -> tuple[Market, list[dict[str, Any]]]:
    headers = {"authorization": f"Bearer {chosen.key}"} if chosen.key else {}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    async with Caller(url, chosen.concurrency, headers) as caller:
        market = Market(
            caller, world, days=chosen.days, visits_per_day=chosen.rate, ablation=not chosen.no_ablation
        )  # fmt: skip
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("simulated days", total=chosen.days)

            def show(days: float) -> None:
                today = world.start + timedelta(days=days)
                bar.update(task, completed=days, description=f"simulated {today.date()}")

            return market, await market.run(show)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="offerloop simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="address of a running service; absent = start one and stop it at the end")
    parser.add_argument("--key", help="an admin's API key, when the service has keys")
    parser.add_argument("--customers", type=_positive, default=500)
    parser.add_argument("--days", type=_positive, default=28)
    parser.add_argument("--rate", type=_positive, default=250, help="visits per day, all customers together")
    parser.add_argument("--seed", type=_natural, default=1)
    parser.add_argument("--start", type=_day, default=START, help="first simulated day (UTC)")
    parser.add_argument("--reward", choices=("clicks", "margin"), default="clicks", help="what the loops learn to get")
    parser.add_argument("--weather", choices=("generated", "seattle"), default="generated",
                        help="seattle: real days for the region coast (needs offerloop[demo])")  # fmt: skip
    parser.add_argument("--shift-day", type=float, metavar="D",
                        help="day of the sudden shift of tastes (default: half of the run; 0 = none)")  # fmt: skip
    parser.add_argument("--turn-days", type=float, default=0.0, metavar="D",
                        help="days in which all tastes turn wholly (default: 0 = never)")  # fmt: skip
    parser.add_argument("--no-ablation", action="store_true",
                        help="leave the second loop out, which sees neither weather nor season")  # fmt: skip
    parser.add_argument("--concurrency", type=_positive, default=16, help="calls in flight")
    parser.add_argument("--out", type=Path, default=Path("var/simulate"))
    chosen = parser.parse_args(arguments)
    for name in ("shift_day", "turn_days"):
        value = getattr(chosen, name)
        if value is not None and not value >= 0.0:
            parser.error(f"--{name.replace('_', '-')} must be at least 0, got {value:g}")
    return chosen


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {value}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
