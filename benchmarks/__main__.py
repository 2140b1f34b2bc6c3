"""``python -m benchmarks``: speed as ratios; writes var/bench/results.json and prints a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from adapters.installation import Installation, open_installation
from adapters.settings import Settings
from benchmarks import learn, memory, ope, quality, rank, rules, scale
from benchmarks.processes import CannotMeasure
from contextual_bandit.loops import DEFAULT_ARGUMENTS
from contextual_bandit.vowpal import BadArguments

Measure: TypeAlias = Callable[[Installation, int, float, Callable[[str], None]], dict[str, Any]]
BENCHMARKS: Mapping[str, Measure] = {
    "rank": rank.measure, "rules": rules.measure, "learn": learn.measure, "ope": ope.measure,
    "memory": memory.measure, "scale": scale.measure, "quality": quality.measure,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("which", nargs="*", help=f"some of {', '.join(BENCHMARKS)}; all unless given")
    parser.add_argument("--pairs", type=int, default=5, help="A B pairs per ratio")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run")
    parser.add_argument("--million", action="store_true", help="learning also drains a million decisions: many minutes")
    parser.add_argument("--decisions", type=int, default=memory.DECISIONS, help="how many the soak of memory makes")
    parser.add_argument("--seeds", type=int, default=quality.SEEDS, help="seeds that policies are compared over")
    parser.add_argument("--rounds", type=int, help="rounds of 100 decisions for each seed, of that comparison")
    parser.add_argument("--arguments", default=DEFAULT_ARGUMENTS, help="the learning setting that it serves")
    parser.add_argument("--out", type=Path, default=Path("var/bench"))
    chosen = parser.parse_args(arguments)
    if chosen.pairs < 1 or chosen.seconds < 1.0:
        parser.error(f"--pairs and --seconds must be at least 1, got {chosen.pairs} and {chosen.seconds:g}")
    unknown = [name for name in chosen.which if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if chosen.seeds < quality.LEAST_SEEDS or (chosen.rounds is not None and chosen.rounds < 1):
        parser.error(f"--seeds must be at least {quality.LEAST_SEEDS}, --rounds 1, got {chosen.seeds}, {chosen.rounds}")
    out: Path = chosen.out.absolute()
    measures: dict[str, Measure] = {
        **BENCHMARKS,
        "learn": partial(learn.measure, million=chosen.million),
        "memory": partial(memory.measure, decisions=chosen.decisions),
        "quality": partial(
            quality.measure, seeds=chosen.seeds, rounds=chosen.rounds, arguments=chosen.arguments, out=out
        ),
    }
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    results: dict[str, Any] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    path = out / "results.json"
    try:
        for name in chosen.which or BENCHMARKS:
            began = time.monotonic()
            console.print(f"{name}: begins at {datetime.now(UTC):%H:%M:%S} UTC")
            with tempfile.TemporaryDirectory(prefix="installation-", dir=out) as folder:
                # Stores of its own, whatever the environment names.
                settings = Settings(database_url=None, redis_url=None, data_dir=Path(folder))
                with open_installation(settings) as installation:
                    results |= measures[name](installation, chosen.pairs, chosen.seconds, console.print)
            results[f"{name}_bench_seconds"] = round(time.monotonic() - began, 1)
            results["measured_at"] = datetime.now(UTC).isoformat(timespec="seconds")
            # After each: what took minutes is not lost when a later one cannot be measured.
            path.write_text(json.dumps(results, indent=2) + "\n")
    except (CannotMeasure, BadArguments) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    table = Table("figure", "value")
    for name, value in results.items():
        table.add_row(name, str(value))
    console.print(table)
    console.print(f"written: {path}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
