"""Bias and coverage on synthetic logs: ``python -m evaluation.coverage --runs 1000 --out docs/INTERVALS.md``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeAlias

import numpy as np

from contextual_bandit.types import Estimate
from evaluation.arrays import FloatArray, IntArray
from evaluation.bernstein import bernstein_interval
from evaluation.binomial import binomial_interval
from evaluation.confidence_sequences import confidence_bounds, squared_surprise
from evaluation.default_interval import default_difference, default_interval
from evaluation.empirical_likelihood import LikelihoodHistogram
from evaluation.estimators import ESTIMATORS, columns_of
from evaluation.interval_sums import IntervalSums, PairedIntervalSums
from evaluation.intervals import normal_interval
from evaluation.likelihood import cressie_read_interval
from evaluation.synthetic_logs import World
from evaluation.terms import Terms

RATES = (0.2, 0.01, 0.003)
EXPLORATIONS = (0.3, 0.05)
SIZES = (5_000, 20_000, 100_000)
TARGETS = ("explored", "moderate", "uniform")
BEGIN, END = "<!-- begin: python -m evaluation.coverage -->", "<!-- end -->"
_REPLICATES = 400
_LOOKS = 100

Cell: TypeAlias = tuple[float, float, int]
CELLS: tuple[Cell, ...] = tuple(product(RATES, EXPLORATIONS, SIZES))


@dataclass(frozen=True, slots=True)
class Measured:
    """What an interval did on many logs of one cell.

    Attributes:
        coverage: share of intervals that hold the truth.
        width: median width, over that of a normal interval with the true variance.
        unreliable: share of intervals that say that they are not to be believed.
        bias: mean of value - truth, over the truth.
        bias_error: standard error of that.
    """

    coverage: float
    width: float
    unreliable: float
    bias: float
    bias_error: float

    @classmethod
    def of(cls, estimates: Sequence[Estimate], truth: float, normal_width: float) -> Measured:
        """Of one estimate per log."""
        low, high, value = (np.array([getattr(one, name) for one in estimates]) for name in ("low", "high", "value"))
        error = (value - truth) / truth if truth else value - truth
        return cls(
            float(np.mean((low <= truth) & (truth <= high))),
            float(np.median(high - low)) / normal_width,
            float(np.mean([not one.reliable for one in estimates])),
            float(np.nanmean(error)),
            float(np.nanstd(error) / math.sqrt(len(error))),
        )


def measure_default(
    cell: Cell, actions: int, target: str, runs: int, seed: int, estimators: Sequence[str] = tuple(ESTIMATORS)
) -> dict[str, Measured]:
    """Measure the default interval of each estimator, and of ``dr difference`` to the logging policy.

    Widths are compared with the estimator's own true variance for ips, snips and dr, and with that of dr for others.
    """
    rate, exploration, n = cell
    world = World.of(rate, exploration, actions)
    policy, logged = world.target(target), world.target("logged")
    columns, dr = columns_of(estimators), columns_of(("dr",))
    found: dict[str, list[Estimate]] = {name: [] for name in (*estimators, "dr difference")}
    for counts in _logs(world, n, runs, seed):
        terms, repeats = world.terms(counts, policy)
        sums = IntervalSums.of(columns, terms, repeats=repeats)
        for name in estimators:
            found[name].append(default_interval(sums, name))
        against, _ = world.terms(counts, logged)
        paired = PairedIntervalSums.of(dr, terms, against, repeats=repeats)
        found["dr difference"].append(default_difference(paired, "dr"))
    truth = world.value(policy)
    known = {name: world.normal_width(n, name if name in ("ips", "snips") else "dr", policy) for name in estimators}
    measured = {name: Measured.of(found[name], truth, known[name]) for name in estimators}
    gap_width = world.normal_width(n, "dr", policy, logged)
    measured["dr difference"] = Measured.of(found["dr difference"], truth - world.value(logged), gap_width)
    return measured


def measure_methods(cell: Cell, actions: int, target: str, runs: int, seed: int) -> dict[str, Measured]:
    """Measure every kind of interval around ips (``cressie-read`` and ``empirical likelihood``: around snips)."""
    rate, exploration, n = cell
    world = World.of(rate, exploration, actions)
    policy, columns = world.target(target), columns_of(("ips", "snips"))
    rng = np.random.default_rng((seed, 1))
    found: dict[str, list[Estimate]] = {name: [] for name in METHODS}
    for counts in _logs(world, n, runs, seed):
        terms, repeats = world.terms(counts, policy)
        sums = IntervalSums.of(columns, terms, repeats=repeats)
        for name, method in METHODS.items():
            found[name].append(method(sums, terms, repeats, rng))
    truth, width = world.value(policy), world.normal_width(n, "ips", policy)
    return {name: Measured.of(estimates, truth, width) for name, estimates in found.items()}


def _bootstrap(terms: Terms, repeats: IntArray, rng: np.random.Generator) -> Estimate:
    """Percentiles over Poisson replicates of the decisions themselves, as ``PoissonBootstrap`` has them of buckets."""
    drawn = rng.poisson(repeats, (_REPLICATES, len(repeats)))
    values = drawn @ (terms.weight * terms.reward) / drawn.sum(axis=1)
    low, high = np.quantile(values, (0.025, 0.975))
    return Estimate("ips", float(values.mean()), float(low), float(high), int(repeats.sum()), math.nan, "bootstrap")


METHODS: Mapping[str, Callable[[IntervalSums, Terms, IntArray, np.random.Generator], Estimate]] = {
    "normal": lambda sums, *_: normal_interval(sums.point("ips"), "ips"),
    "bootstrap": lambda _, terms, repeats, rng: _bootstrap(terms, repeats, rng),
    "bernstein": lambda sums, *_: bernstein_interval(sums, "ips"),
    "clopper-pearson": lambda sums, *_: binomial_interval(sums),
    "cressie-read": lambda sums, *_: cressie_read_interval(sums),
    "empirical likelihood": lambda _, terms, repeats, __: LikelihoodHistogram.of(terms, repeats=repeats).interval(),
    "gamma (default)": lambda sums, *_: default_interval(sums, "ips"),
}


def measure_sequence(cell: Cell, actions: int, target: str, runs: int, seed: int) -> tuple[float, float, float]:
    """Look at a confidence sequence of ips terms after every 100 decisions.

    Returns:
        The share of logs where it missed the truth at any look; its median width at the end over that of the normal
        interval with the true variance; the same over the median width of the default interval.
    """
    rate, exploration, n = cell
    world = World.of(rate, exploration, actions)
    policy = world.target(target)
    truth, bound = world.value(policy), float((policy / world.logging).max())
    rng = np.random.default_rng((seed, 2))
    missed, widths, defaults = 0, [], []
    for counts in _logs(world, n, runs, seed):
        terms, repeats = world.terms(counts, policy)
        outcomes = rng.permutation(np.repeat(terms.weight * terms.reward, repeats))
        low, high = looks(outcomes, (0.0, 1.0), (0.0, bound))
        missed += bool(np.any((low > truth) | (high < truth)))
        widths.append(float(high[-1] - low[-1]))
        one = default_interval(IntervalSums.of(columns_of(("ips",)), terms, repeats=repeats), "ips")
        defaults.append(one.high - one.low)
    width = float(np.median(widths))
    return missed / runs, width / world.normal_width(n, "ips", policy), width / float(np.median(defaults))


def looks(
    outcomes: FloatArray, limits: tuple[float, float], reach: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Bounds of a confidence sequence after every 100 of the outcomes, whose shape is (..., n)."""
    squares = np.cumsum(squared_surprise(outcomes, *limits), axis=-1)[..., _LOOKS - 1 :: _LOOKS]
    total = np.cumsum(outcomes, axis=-1)[..., _LOOKS - 1 :: _LOOKS]
    n = np.broadcast_to(_LOOKS * np.arange(1.0, total.shape[-1] + 1.0), total.shape)
    return confidence_bounds(n, total, squares, limits, reach)


def _logs(world: World, n: int, runs: int, seed: int) -> Iterator[IntArray]:
    rng = np.random.default_rng((seed, n, int(1e6 * world.rates.mean()), int(1e6 * world.logging.min())))
    for _ in range(runs):
        yield world.draw(rng, n)[0]


def report(runs: int, seed: int) -> str:
    """All tables as markdown."""
    parts = [f"`python -m evaluation.coverage --runs {runs} --seed {seed}`", ""]
    biases: list[dict[str, Measured]] = []
    for actions, targets in ((10, TARGETS), (5, TARGETS[:1])):
        for target in targets:
            found = [measure_default(cell, actions, target, runs, seed) for cell in CELLS]
            if (actions, target) == (10, "explored"):
                biases = found
            parts += [f"### Default interval, {actions} actions, target `{target}`, {runs} logs a cell", ""]
            parts += _table(("ips", "snips", "dr", "dr difference"), found, _covered)
    few = max(20, runs // 5)
    methods = [measure_methods(cell, 10, "explored", few, seed) for cell in CELLS]
    parts += [f"### Every interval, 10 actions, target `explored`, {few} logs a cell", ""]
    parts += _table(tuple(METHODS), methods, lambda one: f"{one.coverage:.3f} · {one.width:.2f}")
    parts += [f"### Relative bias of the estimators, 10 actions, target `explored`, {runs} logs a cell", ""]
    parts += _table(tuple(ESTIMATORS), biases, lambda one: f"{one.bias:+.1%} ± {one.bias_error:.1%}")
    parts += ["### Their default intervals in the same logs", ""]
    parts += _table(tuple(ESTIMATORS), biases, _covered)
    parts += [f"### Confidence sequence, looked at after every 100 of 20,000 decisions, {runs // 2} logs a row", ""]
    parts += _sequences(runs // 2, seed)
    return "\n".join(parts)


def _covered(one: Measured) -> str:
    marked = f" · {one.unreliable:.0%} unreliable" if one.unreliable > 0.0005 else ""
    return f"{one.coverage:.3f} · {one.width:.2f}{marked}"


def _table(names: Sequence[str], found: Sequence[Mapping[str, Measured]], show: Callable[[Measured], str]) -> list[str]:
    lines = ["| rate | exploration | n | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    for (rate, exploration, n), row in zip(CELLS, found, strict=True):
        lines.append(
            f"| {rate:.1%} | {exploration:.0%} | {n:,} | " + " | ".join(show(row[name]) for name in names) + " |"
        )
    return [*lines, ""]


def _sequences(runs: int, seed: int) -> list[str]:
    lines = [
        "| rate | exploration | target | missed at any look | width / normal | width / default |",
        "|---|---|---|---|---|---|",
    ]
    for rate, exploration, target in product(RATES, EXPLORATIONS, ("explored", "uniform")):
        missed, normal, default = measure_sequence((rate, exploration, 20_000), 10, target, runs, seed)
        lines.append(f"| {rate:.1%} | {exploration:.0%} | {target} | {missed:.3f} | {normal:.2f} | {default:.2f} |")
    return [*lines, ""]


def write(path: Path, tables: str) -> None:
    """Put the tables between the marks of a page, or make a page of them alone."""
    text = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.coverage", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="logs a cell (default 1000, some 10 minutes)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="page whose marked part is replaced; the terminal without it")
    given = parser.parse_args(arguments)
    if given.runs < 20:
        parser.error(f"--runs {given.runs} is below 20")
    tables = report(given.runs, given.seed)
    if given.out is None:
        print(tables)
    else:
        write(given.out, tables)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
