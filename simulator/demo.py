"""``offerloop demo``: the whole loop on published retail data, over HTTP against separate processes."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from adapters.catalogue import LoopStore
from adapters.installation import Installation, open_installation
from adapters.interaction_log import read_interactions
from adapters.running import STORE_SETTINGS, running_installation
from adapters.settings import Settings
from adapters.snapshots import SnapshotStore
from contextual_bandit.types import Decision
from contextual_bandit.vowpal import VowpalPolicy
from evaluation.audit import AuditResult
from evaluation.loop_audit import audit_loop
from simulator import demo_charts
from simulator.baskets import (
    CAMPAIGN_DECAY,
    Baskets,
    Ints,
    Plan,
    References,
    affinity_choices,
    first_decisions,
    last_half,
    load,
    plan,
    references,
    week_start,
)
from simulator.calls import Caller
from simulator.households import ASSUMED_REGION, REGION, load_demographics, write_assumed_weather
from simulator.replay import IN_FLIGHT, Driver, Record

AUDIT_EVERY = 12
COLD_DECISIONS = 4
LOOP = "baskets"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 0 when nothing was lost, doubled or logged with a wrong probability."""
    parser = argparse.ArgumentParser(prog="offerloop demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="stop everything at the end instead of staying up")
    parser.add_argument("--seed", type=int, default=1, help="which households are drawn each week")
    parser.add_argument("--households", type=int, default=600, help="decisions a week")
    parser.add_argument("--out", type=Path, default=Path("var/demo"), help="folder of the summary, chart and stores")
    parser.add_argument(
        "--apprentice", action="store_true",
        help="serve the campaign manager's choice (the household's highest own affinity); the model learns to match it",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=0, help="port of the decision service; 0 = any free one")
    chosen = parser.parse_args(arguments)
    console = Console()
    console.print("Reading The Complete Journey (published retail data) ...")
    baskets = load()
    demographics = load_demographics()
    decisions = plan(chosen.seed, baskets, chosen.households)
    expected = references(baskets, decisions)
    baseline = affinity_choices(baskets.bought, CAMPAIGN_DECAY) if chosen.apprentice else None
    store = chosen.out / "store"
    shutil.rmtree(store, ignore_errors=True)
    with running_installation(store, port=chosen.port) as address:
        console.print(f"The service runs at {address} (its API: {address}/docs)")
        started = time.perf_counter()
        _import_weather(store, baskets, console)
        summary, record = asyncio.run(_drive(address, baskets, decisions, demographics, baseline, console))
        with open_installation(Settings(data_dir=store, database_url=None, redis_url=None)) as installation:
            summary["propensity_audit"] = _audit(installation, console)
        summary["seconds"] = round(time.perf_counter() - started, 1)
        summary |= {"seed": chosen.seed, "hit_rate": _hit_rates(record, expected)}
        summary["hit_rate_cold"] = _cold_rates(record, expected, decisions)
        summary["assumed"] = {"weather": "Seattle 2015 by day of the year; the data hold none"}
        (chosen.out / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
        files = demo_charts.save(
            {
                "oracle": expected.oracle.rewards,
                "served policy": np.array(record.rewards),
                "highest own affinity": expected.affinity.rewards,
                "best fixed category": expected.best_fixed.rewards,
                "uniform": expected.uniform.rewards,
            },
            decisions.week,
            chosen.out,
        )
        _show(summary, [chosen.out / "summary.json", *files], console)
        if not chosen.exit:
            console.print(f"\nThe service stays up at {address} ({address}/docs). Ctrl-C stops it.")
            _wait_for_signal()
    return 0 if _is_sound(summary) else 1


def _import_weather(store: Path, baskets: Baskets, console: Console) -> None:
    """The assumed weather, by the command that a shop would use."""
    path = store / "assumed-weather.csv"
    last = week_start(baskets.weeks + 1) + timedelta(days=1)
    rows = write_assumed_weather(path, week_start(1).date(), last.date())
    words = ["weather", "import", str(path), "--region", ASSUMED_REGION, "--time-zone", REGION["time_zone"]]
    environment = {name: value for name, value in os.environ.items() if name not in STORE_SETTINGS}
    subprocess.run(
        [sys.executable, "-m", "offerloop", *words],
        env=environment | {"OFFERLOOP_DATA_DIR": str(store.absolute())}, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    console.print(f"Weather is [bold]assumed[/bold]: the data say nothing of it, so {rows} days of Seattle's stand in")


async def _drive(
    address: str, baskets: Baskets, decisions: Plan, demographics: Mapping[str, Mapping[str, str]],
    baseline: Ints | None, console: Console,
) -> tuple[dict[str, Any], Record]:  # fmt: skip
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    async with Caller(address, IN_FLIGHT) as caller:
        driver = Driver(caller, baskets, decisions, LOOP, demographics, baseline)
        await driver.set_up()
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("decisions", total=len(decisions.week))
            await driver.run(lambda count: progress.advance(task, count))
        status = await driver.status()
    made = len(driver.record.chosen)
    latencies = np.array(driver.record.rank_seconds) * 1000.0
    summary = {
        "decisions": made,
        "interactions": status["interactions"],
        "lost": made - (status["interactions"] - status["duplicated"]),
        "duplicated": status["duplicated"],
        "rank_ms": {
            "p50": round(float(np.percentile(latencies, 50)), 2),
            "p99": round(float(np.percentile(latencies, 99)), 2),
        },
        "snapshots": status["snapshots"],
    }
    if status["apprentice"] is not None:
        summary["apprentice"] = {"match_rate": status["apprentice"]["match_rate"], **status["apprentice"]["total"]}
    return summary, driver.record


def _hit_rates(record: Record, expected: References) -> dict[str, float]:
    rewards = np.array(record.rewards)
    rates = {
        "policy": float(rewards.mean()),
        "policy_last_half": last_half(rewards),
        "uniform": expected.uniform.mean,
        "uniform_last_half": expected.uniform.last_half,
        "best_fixed": expected.best_fixed.mean,
        "affinity": expected.affinity.mean,
        "affinity_last_half": expected.affinity.last_half,
        "oracle": expected.oracle.mean,
    }
    return {name: round(rate, 5) for name, rate in rates.items()}


def _cold_rates(record: Record, expected: References, decisions: Plan) -> dict[str, float]:
    """Over each household's first decisions, when its rewards have taught nothing yet."""
    cold = first_decisions(decisions, COLD_DECISIONS)
    rates = {
        "policy": np.array(record.rewards)[cold].mean(),
        "uniform": expected.uniform.rewards[cold].mean(),
        "best_fixed": expected.best_fixed.rewards[cold].mean(),
    }
    return {name: round(float(rate), 5) for name, rate in rates.items()}


def _audit(installation: Installation, console: Console) -> dict[str, int]:
    """Recompute the distributions of every twelfth decision from its snapshot and its logged features."""
    snapshots = SnapshotStore(installation.engine, installation.client)
    config = LoopStore(installation.engine, installation.client).get(LOOP)
    assert config is not None, f"the demo made the loop {LOOP!r}"
    policies: OrderedDict[str, VowpalPolicy] = OrderedDict()

    def distribution_for(decision: Decision) -> tuple[float, ...]:
        policy = policies.get(decision.snapshot_id)
        if policy is None:
            snapshot = snapshots.get(decision.snapshot_id)
            if snapshot is None:
                raise LookupError(f"snapshot {decision.snapshot_id!r} of decision {decision.decision_id!r} is gone")
            policy = policies[decision.snapshot_id] = VowpalPolicy(snapshot.setting, snapshot.model)
            if len(policies) > 8:
                policies.popitem(last=False)[1].close()
        return policy.distribution(decision.context, decision.actions)

    sample = (
        interaction.decision
        for interaction in read_interactions(installation.engine, LOOP)
        if interaction.sequence % AUDIT_EVERY == 0
    )
    with console.status("Recomputing logged probabilities ..."):
        found: AuditResult = audit_loop(sample, config, distribution_for)
    for message in found.examples:
        console.print(f"[red]{message}")
    return {"checked": found.checked, "mismatches": found.mismatches}


def _show(summary: dict[str, Any], files: Sequence[Path], console: Console) -> None:
    rates = summary["hit_rate"]
    table = Table(title="Share of decisions that hit", title_justify="left")
    for heading in ("policy", "all weeks", "last half"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    served = (
        "campaign manager's choice (served)"
        if "apprentice" in summary
        else "served policy (learns, exact propensities)"
    )
    for name, label in (("policy", served), ("affinity", "highest own affinity"),
                        ("best_fixed", "best fixed category (in hindsight)"), ("uniform", "uniform"),
                        ("oracle", "oracle (knows the baskets)")):  # fmt: skip
        half = rates.get(f"{name}_last_half")
        table.add_row(label, f"{rates[name]:.2%}", "" if half is None else f"{half:.2%}")
    console.print(table)
    console.print(
        f"{summary['decisions']:,} decisions, {summary['interactions']:,} interactions, {summary['lost']} lost, "
        f"{summary['duplicated']} duplicated, {summary['snapshots']} snapshots, {summary['seconds']:g} s"
    )
    if "apprentice" in summary:
        found = summary["apprentice"]
        console.print(
            f"Apprentice: its own choice was the campaign manager's in {found['match_rate']:.1%} of "
            f"{found['events']:,} decisions, with {found['imitated_reward_sum']:g} of {found['reward_sum']:g} hits"
        )
    cold = summary["hit_rate_cold"]
    console.print(
        f"First {COLD_DECISIONS} decisions of each household: served policy {cold['policy']:.2%}, "
        f"best fixed {cold['best_fixed']:.2%}, uniform {cold['uniform']:.2%}"
    )
    checked = summary["propensity_audit"]
    console.print(f"{checked['checked']:,} logged distributions recomputed, {checked['mismatches']} differ")
    console.print(f"rank: median {summary['rank_ms']['p50']:g} ms, p99 {summary['rank_ms']['p99']:g} ms "
                  f"({IN_FLIGHT} in flight)")  # fmt: skip
    for path in files:
        console.print(f"  {path}")


def _is_sound(summary: dict[str, Any]) -> bool:
    wrong = summary["lost"] or summary["duplicated"] or summary["propensity_audit"]["mismatches"]
    return not wrong and summary["interactions"] == summary["decisions"]


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


if __name__ == "__main__":
    sys.exit(main())
