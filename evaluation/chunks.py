"""A piece of a log as arrays: what every target policy, reward model and diagnostic reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from contextual_bandit.types import Decision
from evaluation.arrays import FloatArray, IntArray

TimeArray: TypeAlias = npt.NDArray[np.datetime64]

CHUNK_SIZE = 8192


@dataclass(frozen=True, slots=True)
class Chunk:
    """n decisions as arrays, and their m (decision, eligible action) pairs in order.

    Attributes:
        hashes: of the decision ids, (n,).
        reward: (n,).
        propensity: logged probability of the chosen action, (n,).
        at: UTC, when the decision closed or, in a file, happened, (n,).
        row: decision of each pair, rising, (m,).
        first: pair of each decision's first action, (n,).
        chosen: pair that was chosen, (n,).
        offer: offer code of each pair, (m,).
        codes: number of each offer id seen so far in the log.
        served: logged probability of each pair, (m,); None when the log holds the chosen action's alone.
        decisions: the n decisions, made when asked for; empty when the log has no contexts and actions.
        slot: which slot of its decision each row is, rising within a decision, (n,); None when none has several.
        columns: further numbers of each pair by name, each (m,), as ``target_probs`` of a file.
    """

    hashes: IntArray
    reward: FloatArray
    propensity: FloatArray
    at: TimeArray
    row: IntArray
    first: IntArray
    chosen: IntArray
    offer: IntArray
    codes: Mapping[str, int]
    served: FloatArray | None
    decisions: Sequence[Decision]
    slot: IntArray | None = None
    columns: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many decisions these are."""
        return len(self.reward)

    @property
    def is_flat(self) -> bool:
        """Whether these are numbers of the chosen actions alone, without what else there was to choose from."""
        return not self.decisions and len(self.row) == self.n

    def per_decision(self, values: FloatArray) -> FloatArray:
        """Sum over each decision's actions: (m,) becomes (n,)."""
        return np.bincount(self.row, weights=values, minlength=self.n).astype(np.float64)


@dataclass(slots=True)
class LogNotes:
    """What a reader found out about a log while it was read.

    Attributes:
        loop: the loop's name, or the file's.
        skipped: interactions that cannot be used, by reason.
        inconsistent: decisions whose propensity is impossible or not their distribution's.
        estimated: whether the propensities are estimates; then no verdict is more than ``not_shown``.
        notes: what a reader of the report should know.
    """

    loop: str = ""
    skipped: Counter[str] = field(default_factory=Counter)
    inconsistent: int = 0
    estimated: bool = False
    notes: list[str] = field(default_factory=list)


class LogSource(Protocol):
    """A log that can be read once, in the order in which its decisions closed."""

    @property
    def found(self) -> LogNotes:
        """What was found; complete once all chunks are read."""

    def chunks(self) -> Iterator[Chunk]:
        """The usable decisions."""
