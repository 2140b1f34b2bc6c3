"""How good the served policy is, beside what others would take: online, on published baskets and three markets.

Every policy meets the same customers, moments, eligible offers, features and luck, decides a whole round before it
learns of its own rewards, and starts from nothing. The product runs its default learning setting on the service's own
path with exact probabilities and the floor. A peer with a grid is judged by its best member over the very seeds that
are reported, which favours it. docs/QUALITY.md says what was found and why.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import special

from adapters.installation import Installation
from benchmarks import quality_charts
from benchmarks.quality_features import JointFeatures
from benchmarks.quality_peers import Contender, MabWiser, Product, SharedLinUcb, play
from benchmarks.quality_worlds import WORLDS, Episode, Floats
from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.loops import DEFAULT_ARGUMENTS
from contextual_bandit.policy import UniformPolicy
from contextual_bandit.vowpal import VowpalPolicy, check_arguments

SERVED = "served"
UNIFORM = "uniform"
BEST_FIXED = "best_fixed"
OPTIMAL = "optimal"
# What is shown beside the peers but is none: nobody could serve it, or nobody would.
REFERENCES = (UNIFORM, BEST_FIXED, OPTIMAL)
PLAIN_ARGUMENTS = "--cb_explore_adf"
ROUND = 100
# Rounds of decisions for each world and seed.
ROUNDS: Mapping[str, int] = {"baskets": 77, "stationary": 60, "drifting": 60, "many_offers": 40}
SEEDS = 5
LEAST_SEEDS = 2
GOAL = 1.0
CONFIDENCE = 0.95
ALPHAS = (0.03, 0.1, 0.3)
# A draw of weights for each of 200 offers takes long: one of each kind is tried there.
FEW_ALPHAS = (0.03,)
# What the libraries of linear algebra read when they are loaded.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Maker: TypeAlias = Callable[[Episode], Contender]


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What one world and seed brought: by member of a peer's grid the mean value of all and of the last half.

    ``curves`` is the value of each tenth of the decisions.
    """

    world: str
    seed: int
    mean: Mapping[str, float]
    last_half: Mapping[str, float]
    curves: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Served over the best peer: mean over seeds with a 95 % t interval of the seeds' own ratios."""

    mean: float
    low: float
    high: float


def measure(
    installation: Installation,
    repetitions: int,
    seconds: float,
    say: Callable[[str], None],
    *,
    seeds: int = SEEDS,
    rounds: int | None = None,
    arguments: str = DEFAULT_ARGUMENTS,
    out: Path = Path("var/bench"),
) -> dict[str, Any]:
    """Play all policies in all worlds.

    Args:
        installation: not used; nothing is stored.
        repetitions: not used; seeds are what is repeated.
        seconds: not used; every decision is played.
        say: called with one line per step.
        seeds: how many seeds, at least 2.
        rounds: rounds of 100 decisions in each world; by default those of ROUNDS.
        arguments: the learning setting that is served, to study others than the default.
        out: folder of the chart, as PNG and HTML.

    Returns:
        Flat figures. ``policy_quality_ratio``: served value over that of the best peer, mean over worlds and seeds;
        ``policy_quality_ratio_WORLD`` of one world; each with ``_low`` and ``_high``, the ends of a 95 % interval over
        seeds. ``policy_quality_arguments`` is what was served, ``policy_quality_best_peer_WORLD`` the best peer's name;
        ``policy_quality_value_WORLD_POLICY`` and ``policy_quality_regret_WORLD_POLICY`` are means per decision (hit
        rate, and what is lost against optimal).

    Raises:
        CannotMeasure: the published data or mabwiser are not installed.
        ValueError: fewer than 2 seeds, no round, or a learning setting that is not allowed.
    """
    if seeds < LEAST_SEEDS or (rounds is not None and rounds < 1):
        raise ValueError(f"it takes at least {LEAST_SEEDS} seeds and 1 round, got {seeds} and {rounds}")
    arguments = check_arguments(arguments)
    each = {**ROUNDS} if rounds is None else dict.fromkeys(ROUNDS, rounds)
    played = play_all(range(1, seeds + 1), each, arguments, say)
    found = figures(played) | {"policy_quality_arguments": arguments}
    for line in tables(played):
        Console().print(line)
    for path in quality_charts.save(played, {world: best_members(of) for world, of in by_world(played).items()}, out):
        say(f"written: {path}")
    return found


def play_all(
    seeds: Sequence[int], rounds: Mapping[str, int], arguments: str, say: Callable[[str], None]
) -> list[Played]:
    """Every world with every seed, the slow worlds first, in as many processes as there are cores."""
    jobs = [(world, seed) for world in ("many_offers", "baskets", "drifting", "stationary") for seed in seeds]
    # Forked processes would inherit the threads of whoever calls.
    context = multiprocessing.get_context("spawn")
    started = time.perf_counter()
    done: list[Played] = []
    with _one_thread_each(), ProcessPoolExecutor(min(os.cpu_count() or 1, len(jobs)), context) as workers:
        waiting = [workers.submit(play_one, world, seed, rounds[world] * ROUND, arguments) for world, seed in jobs]
        for one in as_completed(waiting):
            done.append(one.result())
            last, spent = done[-1], time.perf_counter() - started
            say(
                f"{len(done)} of {len(jobs)}: {last.world}, seed {last.seed}: served {last.mean[SERVED]:.4f}, optimal "
                f"{last.mean[OPTIMAL]:.4f}; {spent:.0f} s, about {spent / len(done) * (len(jobs) - len(done)):.0f} left"
            )
    return sorted(done, key=lambda one: (list(WORLDS).index(one.world), one.seed))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are started meanwhile use one thread each for linear algebra, as there is one for each core."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def play_one(world: str, seed: int, decisions: int, arguments: str = DEFAULT_ARGUMENTS) -> Played:
    """All policies in one world with one seed; ``arguments`` are the served one's."""
    episode = WORLDS[world](seed, decisions)
    episode = replace(episode, loop=replace(episode.loop, arguments=arguments))
    values = references(episode)
    for name, make in contenders(episode).items():
        values[name] = play(episode, make(episode))
    half = episode.size // 2
    return Played(
        world,
        seed,
        {name: float(value.mean()) for name, value in values.items()},
        {name: float(value[half:].mean()) for name, value in values.items()},
        {name: np.array([part.mean() for part in np.array_split(value, 10)]) for name, value in values.items()},
    )


def contenders(episode: Episode) -> dict[str, Maker]:
    """The served policy and every member of the peers' grids; a peer's name ends where its setting begins."""
    alphas = ALPHAS if episode.offers <= 50 else FEW_ALPHAS
    found: dict[str, Maker] = {
        SERVED: lambda given: Product(given, VowpalPolicy(given.loop.setting)),
        "vw_plain": lambda given: Product(given, VowpalPolicy(PLAIN_ARGUMENTS), 0.0),
        "highest_affinity": lambda given: Product(given, BaselinePolicy(given.loop.baseline), 0.0),
    }
    for alpha in ALPHAS:
        for crossed in (False, True):
            name = f"linucb_shared alpha {alpha:g}" + (", context by category" if crossed else "")
            found[name] = partial(_shared, crossed=crossed, alpha=alpha)
    for kind, name in (("LinUCB", "mabwiser_linucb"), ("LinTS", "mabwiser_lints")):
        for alpha in alphas:
            for contexts in (False, True):
                full = f"{name} alpha {alpha:g}" + (", context" if contexts else "")
                found[full] = partial(_disjoint, kind=kind, alpha=alpha, contexts=contexts)
    return found


def _shared(episode: Episode, *, crossed: bool, alpha: float) -> Contender:
    return SharedLinUcb(JointFeatures(episode, crossed=crossed), alpha)


def _disjoint(episode: Episode, *, kind: str, alpha: float, contexts: bool) -> Contender:
    return MabWiser(episode, kind, alpha, contexts=contexts, seed=episode.seed)


def references(episode: Episode) -> dict[str, Floats]:
    """Values of the best offer each time, of the best one offer in hindsight, and of an even draw."""
    expected = np.concatenate([each.expected for each in episode.rounds])
    best = int(expected.mean(axis=0).argmax())
    return {
        OPTIMAL: expected.max(axis=1),
        BEST_FIXED: expected[:, best],
        UNIFORM: play(episode, Product(episode, UniformPolicy(), 0.0)),
    }


def peer_of(member: str) -> str:
    """The peer that a member of its grid belongs to."""
    return member.split(" ", 1)[0]


def by_world(played: Sequence[Played]) -> dict[str, list[Played]]:
    """What was played, world by world."""
    found: dict[str, list[Played]] = {}
    for one in played:
        found.setdefault(one.world, []).append(one)
    return found


def best_members(played: Sequence[Played]) -> dict[str, str]:
    """Of each peer (and reference) the member with the highest mean over the seeds of one world."""
    means = {name: float(np.mean([one.mean[name] for one in played])) for name in played[0].mean}
    found: dict[str, str] = {}
    for name in sorted(means, key=lambda name: -means[name]):
        found.setdefault(peer_of(name), name)
    return found


def best_peer(played: Sequence[Played]) -> str:
    """The member with the highest mean over the seeds of one world, of all peers."""
    return next(name for peer, name in best_members(played).items() if peer not in (SERVED, *REFERENCES))


def ratios(played: Sequence[Played], part: str = "mean") -> Floats:
    """Served over the best peer by seed, in one world; ``part`` is "mean" or "last_half"."""
    peer = best_peer(played)
    return np.array([getattr(one, part)[SERVED] / getattr(one, part)[peer] for one in played])


def ratio_of(values: Floats) -> Ratio:
    """The mean with its t interval."""
    mean = float(values.mean())
    reach = float(special.stdtrit(values.size - 1, 0.5 + CONFIDENCE / 2.0) * values.std(ddof=1) / values.size**0.5)
    return Ratio(mean, mean - reach, mean + reach)


def figures(played: Sequence[Played]) -> dict[str, Any]:
    """Flat figures of everything that was played."""
    worlds = by_world(played)
    each = {world: ratios(of) for world, of in worlds.items()}
    overall = ratio_of(np.mean(list(each.values()), axis=0))
    found: dict[str, Any] = _keys("policy_quality_ratio", overall)
    for world, of in worlds.items():
        found |= _keys(f"policy_quality_ratio_{world}", ratio_of(each[world]))
        found[f"policy_quality_ratio_{world}_last_half"] = round(float(ratios(of, "last_half").mean()), 4)
        found[f"policy_quality_best_peer_{world}"] = best_peer(of)
        optimal = np.mean([one.mean[OPTIMAL] for one in of])
        for peer, member in sorted(best_members(of).items()):
            value = float(np.mean([one.mean[member] for one in of]))
            found[f"policy_quality_value_{world}_{peer}"] = round(value, 5)
            found[f"policy_quality_regret_{world}_{peer}"] = round(float(optimal - value), 5)
    return found | {
        "policy_quality_within_goal": overall.mean >= GOAL,
        "policy_quality_worlds_within_goal": sum(float(one.mean()) >= GOAL for one in each.values()),
        "policy_quality_seeds": len(next(iter(worlds.values()))),
    }


def _keys(name: str, ratio: Ratio) -> dict[str, Any]:
    return {name: round(ratio.mean, 4), f"{name}_low": round(ratio.low, 4), f"{name}_high": round(ratio.high, 4)}


def tables(played: Sequence[Played]) -> list[Table]:
    """For each world: value and regret of every peer at its best, the best first."""
    found = []
    for world, of in by_world(played).items():
        ratio = ratio_of(ratios(of))
        table = Table(
            title=f"{world}: served over best peer {ratio.mean:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
            title_justify="left",
        )
        for heading in ("policy", "value", "last half", "regret", "served over it"):
            table.add_column(heading, justify="left" if heading == "policy" else "right")
        optimal = np.array([one.mean[OPTIMAL] for one in of])
        for member in best_members(of).values():
            value, late = (np.array([getattr(one, part)[member] for one in of]) for part in ("mean", "last_half"))
            beside = ratio_of(np.array([one.mean[SERVED] for one in of]) / value)
            table.add_row(
                member, f"{value.mean():.4f}", f"{late.mean():.4f}", f"{(optimal - value).mean():.4f}",
                "" if member == SERVED else f"{beside.mean:.3f} ({beside.low:.3f} to {beside.high:.3f})",
            )  # fmt: skip
        found.append(table)
    return found
