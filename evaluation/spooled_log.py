"""A log put aside on disk in small pieces, so that many policies can go through it, in several processes."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk, LogNotes, LogSource
from evaluation.leave_out import names_in
from evaluation.reward_model import RewardModel

PIECE_SIZE = 250
# Namespaces and features are looked for in so many decisions of each chunk.
LOOKED_AT = 200


class NothingToLearn(ValueError):
    """A log whose decisions cannot be learned from."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some decisions in a file.

    Attributes:
        path: where they are.
        n: how many.
        low: smallest reward.
        high: largest reward.
        least_propensity: smallest probability that any action had which could be shown.
    """

    path: Path
    n: int
    low: float
    high: float
    least_propensity: float

    def read(self) -> tuple[Chunk, FloatArray]:
        """The decisions, and the reward model's prediction of each pair, (m,)."""
        with self.path.open("rb") as file:
            chunk, q = pickle.load(file)  # noqa: S301 - written by this run, into a folder of its own
        return chunk, q

    @property
    def reference(self) -> Path:
        """Where the probabilities of the policy that others are compared with are kept."""
        return self.path.with_suffix(".npy")


@dataclass(frozen=True, slots=True)
class SpooledLog:
    """Pieces in the order of the log, what was found in it, and its features by namespace ("D.age_band")."""

    pieces: tuple[Piece, ...]
    found: LogNotes
    features: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of decisions."""
        return sum(piece.n for piece in self.pieces)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces, sorted."""
        return tuple(sorted({name.split(".", 1)[0] for name in self.features}))

    def rewards_within(self, low: float, high: float) -> tuple[float, float]:
        """A range of rewards, widened where the log's go beyond it: they may be of an older definition."""
        return min([low, *(one.low for one in self.pieces)]), max([high, *(one.high for one in self.pieces)])


def spool(
    log: LogSource,
    model: RewardModel,
    folder: Path,
    *,
    most: int | None = None,
    piece_size: int = PIECE_SIZE,
    progress: Callable[[int], None] | None = None,
) -> SpooledLog:
    """Read a log once and put it aside with the reward model's predictions.

    Args:
        log: decisions with contexts and actions.
        model: the reward model; it learns from the whole log.
        folder: an empty folder; the caller removes it.
        most: keep only so many of the newest decisions, to a piece; all without it.
        piece_size: decisions of a piece.
        progress: called with the number of decisions read so far.

    Raises:
        NothingToLearn: the log holds no contexts and actions.
    """
    pieces: deque[Piece] = deque()
    features: dict[str, None] = {}
    kept = read = 0
    for given in log.chunks():
        # A file's decisions are made anew whenever they are asked for.
        chunk = replace(given, decisions=tuple(given.decisions))
        if len(chunk.decisions) != chunk.n:
            raise NothingToLearn("this log holds no contexts and actions, so that nothing can be learned from it")
        features |= dict.fromkeys(names_in(chunk.decisions[:LOOKED_AT], features=True))
        for part, q in _parts(chunk, model.predict(chunk), piece_size):
            path = folder / f"{read:012d}.pickle"
            with path.open("wb") as file:
                pickle.dump((part, q), file, protocol=pickle.HIGHEST_PROTOCOL)
            pieces.append(_piece(path, part))
            kept, read = kept + part.n, read + part.n
            while most is not None and kept - pieces[0].n >= most:
                oldest = pieces.popleft()
                oldest.path.unlink()
                kept -= oldest.n
        if progress is not None:
            progress(read)
    return SpooledLog(tuple(pieces), log.found, tuple(sorted(features)))


def _piece(path: Path, part: Chunk) -> Piece:
    served = part.propensity if part.served is None else part.served[part.served > 0.0]
    return Piece(path, part.n, float(part.reward.min()), float(part.reward.max()), float(served.min()))


def _parts(chunk: Chunk, q: FloatArray, size: int) -> Iterator[tuple[Chunk, FloatArray]]:
    ends = [*range(0, chunk.n, size), chunk.n]
    for start, stop in pairwise(ends):
        low = int(chunk.first[start])
        high = int(chunk.first[stop]) if stop < chunk.n else len(chunk.row)
        pairs, rows = slice(low, high), slice(start, stop)
        yield (
            Chunk(
                hashes=chunk.hashes[rows],
                reward=chunk.reward[rows],
                propensity=chunk.propensity[rows],
                at=chunk.at[rows],
                row=chunk.row[pairs] - start,
                first=chunk.first[rows] - low,
                chosen=chunk.chosen[rows] - low,
                offer=chunk.offer[pairs],
                codes=dict(chunk.codes),
                served=None if chunk.served is None else chunk.served[pairs],
                decisions=chunk.decisions[start:stop],
                columns={name: np.asarray(values[pairs]) for name, values in chunk.columns.items()},
            ),
            q[pairs],
        )
