"""``offerloop simulate``: drive a running service with a simulated market whose truth is known.

Weather and season effects of this market are assumed, not measured. The market's offers stay in the catalogue, and its
loop is named for its seed, so play it on an installation of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from simulator.calls import Caller, CallRefused
from simulator.play import DAY, Market, NothingServed, Series, make_series, summarize
from simulator.world import START, World, make_world

COLOURS = {"optimal": "#333a45", "served": "#0072b2", "best fixed offer": "#d55e00", "uniform": "#009e73"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a market; write simulate.json and, with the extra ``charts``, its chart."""
    chosen = _parse(arguments)
    end = chosen.start + chosen.days * DAY
    if end + DAY > datetime.now(UTC):
        print(f"the market would end on {end.date()}; it must lie in the past, as its activity does", file=sys.stderr)
        return 2
    world = make_world(chosen.seed, chosen.customers, chosen.days, chosen.start)
    started = time.monotonic()
    try:
        market, status = asyncio.run(_play(world, chosen))
        series = make_series(market.played)
    except (CallRefused, NothingServed) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 1
    summary = summarize(world, market, series, status, started)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "simulate.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps({name: value for name, value in summary.items() if name != "regret_per_day"}, indent=2))
    written = [chosen.out / "simulate.json", *draw(series, chosen.out)]
    print("written:", *written)
    return 0


def draw(series: Series, out: Path) -> list[Path]:
    """Chart of the windowed value as PNG and self-contained HTML; nothing without the extra ``charts``."""
    try:
        altair = importlib.import_module("altair")
        importlib.import_module("vl_convert")  # altair imports it only when it saves
    except ImportError:
        print("no chart: install offerloop[charts]", file=sys.stderr)
        return []
    lines = zip(COLOURS, (series.optimal, series.served, series.best_fixed, series.uniform), strict=True)
    window = max(series.served.size // 20, 1)
    stride = max(window // 10, 1)
    rows: list[dict[str, Any]] = []
    for name, values in lines:
        sums = np.concatenate([[0.0], np.cumsum(values)])
        for stop in range(window, values.size + 1, stride):
            value = (sums[stop] - sums[stop - window]) / window
            rows.append({"policy": name, "at": series.at[stop - 1].isoformat(), "value": float(value)})
    colour = altair.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    chart = (
        altair.Chart(altair.Data(values=rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=altair.X("at:T", title="simulated date", axis=altair.Axis(grid=False)),
            y=altair.Y("value:Q", title="true click probability", axis=altair.Axis(format="%")),
            color=altair.Color("policy:N", scale=colour, legend=altair.Legend(title=None, orient="top")),
            tooltip=["policy:N", "at:T", altair.Tooltip("value:Q", format=".2%")],
        )
        .properties(
            width=880,
            height=320,
            padding=12,
            title={
                "text": "Value of the offers served in a simulated market",
                "subtitle": f"mean over the last {window:,} decisions; weather and season effects are assumed",
                "anchor": "start",
            },
        )
    )
    paths = [out / "simulate.png", out / "simulate.html"]
    chart.save(str(paths[0]), format="png", scale_factor=2)
    chart.save(str(paths[1]), format="html", inline=True)
    return paths


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="offerloop simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="address of the service, as `offerloop up` prints it")
    parser.add_argument("--key", help="an admin's API key, when the service has keys")
    parser.add_argument("--customers", type=_positive, default=500)
    parser.add_argument("--days", type=_positive, default=60)
    parser.add_argument("--rate", type=_positive, default=250, help="visits per day, all customers together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=_day, default=START, help="first simulated day (UTC)")
    parser.add_argument("--concurrency", type=_positive, default=16, help="calls in flight")
    parser.add_argument("--out", type=Path, default=Path("var/simulate"))
    chosen = parser.parse_args(arguments)
    if chosen.seed < 0:
        parser.error(f"--seed must not be negative, got {chosen.seed}")
    return chosen


async def _play(world: World, chosen: argparse.Namespace) -> tuple[Market, dict[str, Any]]:
    headers = {"authorization": f"Bearer {chosen.key}"} if chosen.key else {}
    columns = (TextColumn("simulated days"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    async with Caller(chosen.url, chosen.concurrency, headers) as caller:
        market = Market(
            caller, world, days=chosen.days, visits_per_day=chosen.rate
        )  # fmt: skip
        with Progress(*columns) as bar:
            task = bar.add_task("days", total=chosen.days)
            return market, await market.run(lambda days: bar.update(task, completed=days))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
