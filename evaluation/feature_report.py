"""What each namespace or feature is worth: the value that is lost when a policy must do without it."""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Estimate
from contextual_bandit.vowpal import check_arguments
from evaluation.chunks import LogSource
from evaluation.contenders import Contender, Leg, Runner, run_contenders, run_reference, workers
from evaluation.gates import weight_faults
from evaluation.reward_choice import FittingRewards
from evaluation.reward_model import RewardModel
from evaluation.spooled_log import SpooledLog, spool

MOST_DECISIONS = 200_000
MOST_NAMES = 40


@dataclass(frozen=True, slots=True)
class FeatureWorth:
    """One namespace ("W") or feature ("D.age_band").

    Attributes:
        name: what was left out.
        lost: value per decision of the policy with it less that without it, doubly robust on the same decisions; its
            interval is widened for the number of names in the report.
        shown: whether the interval lies above 0 and may be believed: leaving it out costs reward.
        harmful: whether it lies below 0: the policy does better without it.
        doubts: why its weights support no verdict; then neither is said.
    """

    name: str
    lost: Estimate
    shown: bool
    harmful: bool
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureReport:
    """Namespaces and features by what leaving them out costs, the most valuable first.

    Attributes:
        loop: the loop's name, or the file's.
        arguments: the learning setting that learned with and without them.
        n: decisions.
        level: of the intervals, over all names together.
        worth: each name's; what two namespaces both tell is worth nothing in either.
        left_out: names that were not looked at, as there were too many.
    """

    loop: str
    arguments: str
    n: int
    level: float
    worth: tuple[FeatureWorth, ...]
    left_out: tuple[str, ...] = ()


def feature_report(
    log: LogSource,
    loop: LoopConfig,
    *,
    names: Sequence[str] | None = None,
    features: bool = False,
    namespaces: bool = True,
    level: float = 0.95,
    model: RewardModel | None = None,
    processes: int | None = None,
    most_decisions: int | None = MOST_DECISIONS,
    folder: Path | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> FeatureReport:
    """Learn the loop's setting on the log with and without each namespace, and compare.

    Both learn from the log as it goes and are evaluated on each decision before they learn it, so that what is
    compared are whole ways of learning: a namespace of noise costs something while it is being learned to be noise.

    Args:
        log: decisions with contexts and actions; read once.
        loop: the loop's settings; ``arguments`` is the learning setting.
        names: namespaces and features to leave out one at a time; without them all namespaces of the log.
        features: without ``names``, also each single feature, ``MOST_NAMES`` names at most.
        namespaces: without ``names``, also each whole namespace.
        level: of all intervals together, in (0, 1).
        model: the reward model; by default the one that fits the log.
        processes: how many at once; the number of processors without it.
        most_decisions: only so many of the newest are used.
        folder: where the log is put aside meanwhile.
        progress: called with what is being done and how much of it is done.

    Raises:
        BadArguments: the setting is not allowed.
        NothingToLearn: the log holds no contexts and actions.
        ValueError: the level is outside (0, 1), or the log has none of the ``names``; it is named.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level {level} is outside (0, 1)")
    loop = replace(loop, arguments=check_arguments(loop.arguments))
    model = model or FittingRewards(loop.reward.low, loop.reward.high)
    count = processes or os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="offerloop-features-", dir=folder) as scratch:
        spooled = spool(
            log, model, Path(scratch), most=most_decisions,
            progress=None if progress is None else lambda n: progress("decisions read", n),
        )  # fmt: skip
        wanted, left_out = _names(spooled, names, features=features, namespaces=namespaces)
        legs: list[Leg] = []
        if spooled.pieces and wanted:
            run_reference(spooled.pieces, loop, Runner(Contender(loop.arguments)))
            runners = [Runner(Contender(loop.arguments, (name,))) for name in wanted]
            with workers(count) as run:
                legs = run_contenders(spooled.pieces, loop, runners, run, count)
            if progress is not None:
                progress("names left out", len(wanted))
    each = 1.0 - (1.0 - level) / max(1, len(wanted))
    rewards = spooled.rewards_within(loop.reward.low, loop.reward.high)
    known = not spooled.found.estimated
    worth = [_worth(name, leg, rewards, each, known=known) for name, leg in zip(wanted, legs, strict=bool(legs))]
    worth.sort(key=lambda one: (-one.lost.value, one.name))
    return FeatureReport(spooled.found.loop, loop.arguments, spooled.n, level, tuple(worth), left_out)


def _names(
    spooled: SpooledLog, names: Sequence[str] | None, *, features: bool, namespaces: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if names is not None:
        there = (*spooled.namespaces, *spooled.features)
        for name in names:
            if spooled.n and name not in there:
                raise ValueError(f"the log has no namespace or feature {name!r}; it has {', '.join(there)}")
        return tuple(dict.fromkeys(names)), ()
    found = list(spooled.namespaces if namespaces else spooled.features)
    if features and namespaces:
        several = Counter(name.split(".", 1)[0] for name in spooled.features)
        # The only feature of a namespace is the namespace.
        found += [name for name in spooled.features if several[name.split(".", 1)[0]] > 1]
    return tuple(found[:MOST_NAMES]), tuple(found[MOST_NAMES:])


def _worth(name: str, leg: Leg, rewards: tuple[float, float], level: float, *, known: bool) -> FeatureWorth:
    gained = leg.difference(*rewards, level)
    # The leg is the policy without it less the one with it.
    lost = replace(gained, value=-gained.value, low=-gained.high, high=-gained.low)
    doubts = weight_faults(leg.weights.result)
    if not known:
        doubts = ("the propensities are estimates", *doubts)
    believed = lost.reliable and not doubts
    return FeatureWorth(name, lost, believed and lost.low > 0.0, believed and lost.high < 0.0, doubts)


def in_words(found: FeatureReport) -> str:
    """One sentence: what is shown to be worth something.

    >>> in_words(FeatureReport("homepage", "--cb_explore_adf", 0, 0.95, ()))
    'No namespace or feature could be left out: the log holds none.'
    """
    if not found.worth:
        return "No namespace or feature could be left out: the log holds none."
    shown = [one.name for one in found.worth if one.shown]
    harmful = [one.name for one in found.worth if one.harmful]
    parts = []
    if shown:
        parts.append(f"leaving out {_listed(shown)} costs reward")
    if harmful:
        parts.append(f"leaving out {_listed(harmful)} gains reward")
    if not parts:
        return f"None of {len(found.worth)} namespaces and features was shown to be worth anything."
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}, of {len(found.worth)} tried."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def to_json(found: FeatureReport) -> dict[str, Any]:
    """Everything in plain JSON types; numbers that do not exist are null."""
    return {
        "loop": found.loop,
        "arguments": found.arguments,
        "decisions": found.n,
        "level": found.level,
        "in_words": in_words(found),
        "worth": [
            {
                "name": one.name,
                "lost": _estimate(one.lost),
                "shown": one.shown,
                "harmful": one.harmful,
                "doubts": list(one.doubts),
            }
            for one in found.worth
        ],
        "left_out": list(found.left_out),
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    numbers = {"value": one.value, "low": one.low, "high": one.high}
    finite = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return finite | {"interval": one.interval, "reliable": one.reliable}
