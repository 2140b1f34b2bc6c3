"""Looks for a better learning setting on a log, and guards against picking the luckiest.

The log is split in time. On its first part many settings learn side by side, and after each rung, a growing share of
it, the worse half drops out (successive halving: Jamieson and Talwalkar 2016, "Non-stochastic best arm identification
and hyperparameter optimization"). The few that are left are judged once, on the last part, which nothing was chosen by,
with intervals widened for their number. Only what they show there counts.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Estimate
from contextual_bandit.vowpal import check_arguments
from evaluation.candidate_settings import propose
from evaluation.chunks import LogSource
from evaluation.confidence_sequences import ConfidenceSequence
from evaluation.contenders import Contender, Leg, Run, Runner, run_contenders, run_reference, workers
from evaluation.gates import Gate, gate
from evaluation.reward_choice import FittingRewards
from evaluation.reward_model import RewardModel
from evaluation.spooled_log import Piece, SpooledLog, spool

SearchVerdict: TypeAlias = Literal["better", "not_shown", "refused"]
Outcome: TypeAlias = Literal["shown worse", "halved", "no gain", "finalist"]
Progress: TypeAlias = Callable[[str, int], None]

SEQUENCE = "confidence sequence"
LEAST_PIECES = 4
MOST_DECISIONS = 200_000


class BadPlan(ValueError):
    """A plan that cannot be followed."""


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How much is tried on what; raises BadPlan, naming the number that is out of range.

    Attributes:
        trials: settings to try when none are named.
        seed: of the settings.
        held_out: share of the log, its last part, that finalists are judged on, in (0, 1).
        finalists: how many are judged there at most.
        level: of the intervals, in (0, 1).
        processes: how many at once; the number of processors without it.
        most_decisions: only so many of the newest are used.
    """

    trials: int = 16
    seed: int = 0
    held_out: float = 0.4
    finalists: int = 2
    level: float = 0.95
    processes: int | None = None
    most_decisions: int | None = MOST_DECISIONS

    def __post_init__(self) -> None:
        if not 0.0 < self.held_out < 1.0:
            raise BadPlan(f"held_out {self.held_out} is outside (0, 1)")
        if not 0.0 < self.level < 1.0:
            raise BadPlan(f"level {self.level} is outside (0, 1)")
        for name in ("trials", "finalists", "processes", "most_decisions"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise BadPlan(f"{name} {given} is below 1")


DEFAULT_PLAN = SearchPlan()


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting: how far it came, and how much more per decision than the current setting it earned.

    Attributes:
        arguments: the setting.
        rungs: on how many of them it ran.
        outcome: why it went no further; ``finalist`` when it was judged on the held-out part.
        decisions: of the search part that it learned from.
        search: paired doubly robust difference there. Its interval is a confidence sequence, which may be looked at
            after every rung, and holds for all settings together; but what was chosen by it is judged elsewhere.
        held_out: the same on the held-out part, its interval widened for the number of finalists.
        gate: what that shows.
    """

    arguments: str
    rungs: int
    outcome: Outcome
    decisions: int
    search: Estimate
    held_out: Estimate | None = None
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was tried and what came of it.

    Attributes:
        loop: the loop's name, or the file's.
        current: the setting that others are compared with, trained on the same log.
        n: decisions of the log.
        n_held_out: of these, the last ones, which finalists were judged on.
        level: of the intervals.
        verdict: ``better`` only when a finalist's interval on the held-out part lies above 0.
        best: the setting that is better, or None.
        reasons: of the verdict.
        trials: finalists first, then those that came furthest.
        notes: of the log.
    """

    loop: str
    current: str
    n: int
    n_held_out: int
    level: float
    verdict: SearchVerdict
    best: str | None
    reasons: tuple[str, ...]
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()


def search(
    log: LogSource,
    loop: LoopConfig,
    candidates: Sequence[str] | None = None,
    *,
    plan: SearchPlan = DEFAULT_PLAN,
    model: RewardModel | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Look for a learning setting that earns more than the loop's own.

    Every setting learns from the log as it goes and is evaluated on each decision before it learns it, with the loop's
    floor and promotion. The same seed and log give the same result, with any number of processes.

    Args:
        log: decisions with contexts and actions; read once.
        loop: the loop's settings; ``arguments`` is the current setting.
        candidates: settings to try; without them ``plan.trials`` are drawn by ``propose``.
        plan: how much is tried on what.
        model: the reward model; by default the one that fits the log.
        folder: where the log is put aside meanwhile; it takes about as much space as the log itself.
        progress: called with what is being done and the number of decisions or settings done.

    Raises:
        BadArguments: a setting is not allowed; it is named.
        NothingToLearn: the log holds no contexts and actions.
    """
    current = check_arguments(loop.arguments)
    named = None if candidates is None else _distinct(candidates, current)
    model = model or FittingRewards(loop.reward.low, loop.reward.high)
    tell = progress or _silent
    with tempfile.TemporaryDirectory(prefix="offerloop-search-", dir=folder) as scratch:
        spooled = spool(
            log, model, Path(scratch), most=plan.most_decisions, progress=lambda n: tell("decisions read", n)
        )
        settings = named
        if settings is None:
            settings = propose(spooled.namespaces, plan.trials, current=current, seed=plan.seed)
        held_out = _held_out(spooled, plan.held_out)
        result = SearchResult(
            spooled.found.loop, current, spooled.n, sum(piece.n for piece in held_out), plan.level, "refused", None, (),
            notes=tuple(spooled.found.notes),
        )  # fmt: skip
        if len(spooled.pieces) < LEAST_PIECES:
            return replace(result, reasons=(f"not enough data: {spooled.n:,} decisions",))
        if not settings:
            return replace(result, verdict="not_shown", reasons=("there was no other setting to try",))
        with workers(plan.processes or os.cpu_count() or 1) as run:
            race = _Race(spooled, replace(loop, arguments=current), plan, run, tell)
            race.run_rungs(settings, spooled.pieces[: len(spooled.pieces) - len(held_out)])
            race.judge(held_out)
    return _concluded(result, race)


@dataclass(slots=True)
class _Course:
    """A setting in the race."""

    runner: Runner
    sequence: ConfidenceSequence
    rungs: int = 0
    outcome: Outcome = "finalist"
    held_out: Leg | None = None


@dataclass(slots=True)
class _Race:
    spooled: SpooledLog
    loop: LoopConfig
    plan: SearchPlan
    run: Run
    tell: Progress
    reference: Runner = field(init=False)
    courses: list[_Course] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reference = Runner(Contender(self.loop.arguments))

    @property
    def rewards(self) -> tuple[float, float]:
        """The range of rewards."""
        return self.spooled.rewards_within(self.loop.reward.low, self.loop.reward.high)

    @property
    def left(self) -> list[_Course]:
        return [course for course in self.courses if course.outcome == "finalist"]

    def run_rungs(self, settings: Sequence[str], pieces: Sequence[Piece]) -> None:
        """Let all start and drop the worse half after each rung, the first one the shortest."""
        self.courses = [_Course(Runner(Contender(one)), self._sequence(pieces, len(settings))) for one in settings]
        rungs = max(1, math.ceil(math.log2(len(settings) / self.plan.finalists)))
        rungs = min(rungs, max(1, int(math.log2(len(pieces)))))
        ends = [0, *(max(1, len(pieces) >> (rungs - 1 - rung)) for rung in range(rungs))]
        for rung, (start, stop) in enumerate(pairwise(ends), start=1):
            self._advance(pieces[start:stop])
            most = self.plan.finalists if rung == rungs else -(-len(self.left) // 2)
            self._drop(max(most, self.plan.finalists))
        for course in self.left:
            if not course.sequence.mean > 0.0:
                course.outcome = "no gain"

    def judge(self, pieces: Sequence[Piece]) -> None:
        """Let finalists go on over the held-out part."""
        finalists = self.left
        for course, leg in zip(finalists, self._legs(pieces, finalists), strict=True):
            course.held_out = leg

    def _advance(self, pieces: Sequence[Piece]) -> None:
        running = self.left
        for course, leg in zip(running, self._legs(pieces, running), strict=True):
            course.runner, course.rungs = leg.runner, course.rungs + 1
            course.sequence.update(leg.differences)

    def _legs(self, pieces: Sequence[Piece], courses: Sequence[_Course]) -> list[Leg]:
        if not pieces or not courses:
            return []
        self.reference = run_reference(pieces, self.loop, self.reference)
        processes = self.plan.processes or os.cpu_count() or 1
        legs = run_contenders(pieces, self.loop, [course.runner for course in courses], self.run, processes)
        self.tell("settings tried", len(courses))
        return legs

    def _drop(self, most: int) -> None:
        """Those that another one is shown to beat, and then the worse ones until so many are left."""
        beaten = max(course.sequence.interval[0] for course in self.left)
        for course in self.left:
            if course.sequence.interval[1] < beaten:
                course.outcome = "shown worse"
        for course in sorted(self.left, key=lambda course: -course.sequence.mean)[most:]:
            course.outcome = "halved"

    def _sequence(self, pieces: Sequence[Piece], settings: int) -> ConfidenceSequence:
        """Of differences that are as large as the least propensity lets them be; its level is for all settings."""
        low, high = self.rewards
        span, least = high - low, min(piece.least_propensity for piece in pieces)
        reach = span * (1.0 + 1.0 / least)
        return ConfidenceSequence.of_difference(-reach, reach, span, 1.0 - (1.0 - self.plan.level) / settings)


def _held_out(spooled: SpooledLog, share: float) -> tuple[Piece, ...]:
    """The last pieces that hold about that share of the decisions."""
    wanted, found = share * spooled.n, 0
    for index in range(len(spooled.pieces) - 1, 0, -1):
        found += spooled.pieces[index].n
        if found >= wanted:
            return spooled.pieces[index:]
    return spooled.pieces[1:]


def _concluded(result: SearchResult, race: _Race) -> SearchResult:
    judged = sum(course.held_out is not None for course in race.courses)
    level = 1.0 - (1.0 - race.plan.level) / max(1, judged)
    trials = [_trial(course, race.rewards, level, estimated=race.spooled.found.estimated) for course in race.courses]
    trials.sort(key=lambda one: (one.held_out is None, -_lower(one), -one.rungs, -one.search.value))
    found = replace(result, trials=tuple(trials))
    finalists = [one for one in trials if one.gate is not None]
    if not finalists:
        reason = "no setting earned more than the current one on the part of the log that was searched"
        return replace(found, verdict="not_shown", reasons=(reason,))
    better = next((one for one in finalists if one.gate is not None and one.gate.verdict == "better"), None)
    if better is not None and better.gate is not None:
        return replace(found, verdict="better", best=better.arguments, reasons=better.gate.reasons)
    refused = all(one.gate is not None and one.gate.verdict == "refused" for one in finalists)
    reasons = tuple(f"{one.arguments}: {'; '.join(one.gate.reasons)}" for one in finalists if one.gate is not None)
    return replace(found, verdict="refused" if refused else "not_shown", reasons=reasons)


def _trial(course: _Course, rewards: tuple[float, float], level: float, *, estimated: bool) -> Trial:
    sequence = course.sequence
    searched = Estimate("dr difference", sequence.mean, *sequence.interval, sequence.n, float(sequence.n), SEQUENCE)
    trial = Trial(course.runner.contender.arguments, course.rungs, course.outcome, sequence.n, searched)
    if course.held_out is None:
        return trial
    difference = course.held_out.difference(*rewards, level)
    judged = gate(course.held_out.weights.result, difference, estimated=estimated)
    return replace(trial, held_out=difference, gate=judged)


def _lower(trial: Trial) -> float:
    return -math.inf if trial.held_out is None else trial.held_out.low


def _distinct(candidates: Sequence[str], current: str) -> tuple[str, ...]:
    return tuple(one for one in dict.fromkeys(map(check_arguments, candidates)) if one != current)


def _silent(what: str, count: int) -> None:
    """Nobody listens."""
