"""Learning settings that go through one log side by side, each compared with a reference on the same decisions."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Estimate
from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.default_interval import default_difference
from evaluation.estimators import columns_of
from evaluation.interval_sums import PairedIntervalSums
from evaluation.learned_targets import ProgressiveTarget
from evaluation.leave_out import chunk_without
from evaluation.spooled_log import Piece
from evaluation.terms import Terms
from evaluation.weights import Weights

ESTIMATOR = "dr"
# Models that are in memory at the same time, in each process.
SIDE_BY_SIDE = 6
_COLUMNS = columns_of((ESTIMATOR,))


@dataclass(frozen=True, slots=True)
class Contender:
    """A learning setting, and the namespaces and features that it must do without."""

    arguments: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runner:
    """A contender with what it has learned so far; without a model it starts anew."""

    contender: Contender
    model: bytes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """One contender over some pieces.

    Attributes:
        runner: the contender with what it learned.
        differences: its doubly robust terms less the reference's, in order, (n,).
        sums: of both, for intervals of the difference.
        weights: its own.
    """

    runner: Runner
    differences: FloatArray
    sums: PairedIntervalSums
    weights: Weights

    def difference(self, low: float, high: float, level: float) -> Estimate:
        """The paired doubly robust difference from the reference; rewards lie in [low, high]."""
        return default_difference(self.sums, ESTIMATOR, low, high, level)


Task: TypeAlias = "tuple[tuple[Piece, ...], LoopConfig, tuple[Runner, ...]]"
Run: TypeAlias = Callable[[Callable[[Task], list[Leg]], Iterable[Task]], Iterable[list[Leg]]]


@contextmanager
def workers(processes: int) -> Iterator[Run]:
    """A ``map`` over so many processes, or within this one."""
    if processes <= 1:
        yield map
        return
    # Spawned, as forked ones would share the threads and connections of this one.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def run_reference(pieces: Sequence[Piece], loop: LoopConfig, runner: Runner) -> Runner:
    """Let the reference go through some pieces and keep its probabilities beside them; gives what it learned."""
    target = _open(runner, loop)
    try:
        for piece in pieces:
            chunk, _ = piece.read()
            np.save(piece.reference, target(chunk_without(chunk, runner.contender.left_out)))
        return replace(runner, model=target.save())
    finally:
        target.close()


def run_contenders(
    pieces: Sequence[Piece], loop: LoopConfig, runners: Sequence[Runner], run: Run, processes: int = 1
) -> list[Leg]:
    """Let contenders go through pieces that the reference has gone through; their legs, in order.

    The result does not depend on the number of processes.
    """
    size = min(SIDE_BY_SIDE, max(1, -(-len(runners) // processes)))
    groups = [tuple(runners[start : start + size]) for start in range(0, len(runners), size)]
    found: list[Leg] = []
    for legs in run(_run_group, [(tuple(pieces), loop, group) for group in groups]):
        found.extend(legs)
    return found


def _run_group(task: Task) -> list[Leg]:
    pieces, loop, runners = task
    targets = [_open(runner, loop) for runner in runners]
    differences: list[list[FloatArray]] = [[] for _ in runners]
    sums = [PairedIntervalSums.empty(_COLUMNS) for _ in runners]
    weights = [Weights.empty() for _ in runners]
    try:
        for piece in pieces:
            chunk, q = piece.read()
            reference = np.load(piece.reference)
            against = _terms(chunk, q, reference)
            for index, (runner, target) in enumerate(zip(runners, targets, strict=True)):
                given = target(chunk_without(chunk, runner.contender.left_out))
                terms = _terms(chunk, q, given)
                sums[index] += PairedIntervalSums.of(_COLUMNS, terms, against, gap=_gap(chunk, given - reference))
                weights[index] += Weights.of_chunk(chunk, given)
                differences[index].append(_robust(terms) - _robust(against))
        models = [target.save() for target in targets]
    finally:
        for target in targets:
            target.close()
    return [
        Leg(replace(runner, model=model), np.concatenate([np.zeros(0), *apart]), paired, heavy)
        for runner, model, apart, paired, heavy in zip(runners, models, differences, sums, weights, strict=True)
    ]


def _open(runner: Runner, loop: LoopConfig) -> ProgressiveTarget:
    mine = replace(loop, arguments=runner.contender.arguments)
    return ProgressiveTarget(mine.setting, mine, runner.model)


def _terms(chunk: Chunk, q: FloatArray, target: FloatArray) -> Terms:
    terms = Terms.of(
        chunk.reward,
        chunk.propensity,
        target[chunk.chosen],
        q[chunk.chosen],
        chunk.per_decision(target * q),
        chunk.hashes,
    )
    largest = float(_ratio(chunk, target).max(initial=0.0))
    return replace(terms, largest_weight=max(largest, terms.largest_weight))


def _gap(chunk: Chunk, apart: FloatArray) -> tuple[float, float]:
    ratio = np.append(_ratio(chunk, apart), apart[chunk.chosen] / chunk.propensity)
    return min(0.0, float(ratio.min())), max(0.0, float(ratio.max()))


def _ratio(chunk: Chunk, target: FloatArray) -> FloatArray:
    """Over the logged probability of each action that could be shown; of the chosen ones where no other is known."""
    if chunk.served is None:
        return np.asarray(target[chunk.chosen] / chunk.propensity)
    return np.asarray(np.divide(target, chunk.served, out=np.zeros_like(target), where=chunk.served > 0.0))


def _robust(terms: Terms) -> FloatArray:
    return np.asarray(terms.q_target + terms.weight * (terms.reward - terms.q_chosen))
