"""The service's own log as chunks: closed interactions, from PostgreSQL or from anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

import numpy as np

from contextual_bandit.types import Decision, LoggedInteraction
from evaluation.chunks import CHUNK_SIZE, Chunk, LogNotes
from evaluation.intervals import hash_ids


class Interactions:
    """Interactions of one loop as chunks; only those of use ``learn`` with a propensity count, the rest is counted.

    The first slot is read.
    """

    def __init__(self, interactions: Iterable[LoggedInteraction], chunk_size: int = CHUNK_SIZE) -> None:
        """Take closed interactions in their order; they are read once."""
        self._interactions = interactions
        self._chunk_size = chunk_size
        self._codes: dict[str, int] = {}
        self._several_slots = 0
        self.found = LogNotes()

    def chunks(self) -> Iterator[Chunk]:
        """The usable decisions."""
        usable = self._usable()
        while batch := list(islice(usable, self._chunk_size)):
            yield self._chunk(batch)
        if self._several_slots:
            self.found.notes.append(
                f"{self._several_slots:,} decisions filled several slots; only the first slot was evaluated"
            )

    def _usable(self) -> Iterator[LoggedInteraction]:
        found = self.found
        for interaction in self._interactions:
            decision = interaction.decision
            found.loop = found.loop or decision.loop
            slot = decision.slots[0] if decision.slots else None
            if interaction.use != "learn":
                found.skipped[interaction.use] += 1
            elif slot is None or slot.distribution is None or slot.propensity is None:
                found.skipped["no propensity"] += 1
            elif not _sound(decision):
                found.inconsistent += 1
                found.skipped["impossible propensity"] += 1
            else:
                self._several_slots += len(decision.slots) > 1
                yield interaction

    def _chunk(self, interactions: Sequence[LoggedInteraction]) -> Chunk:
        counts: list[int] = []
        chosen: list[int] = []
        offer: list[int] = []
        served: list[float] = []
        propensity: list[float] = []
        for interaction in interactions:
            decision = interaction.decision
            slot = decision.slots[0]
            assert slot.distribution is not None  # held by ``_usable``
            assert slot.propensity is not None
            chosen.append(len(offer) + slot.chosen)
            counts.append(len(decision.actions))
            offer.extend(self._codes.setdefault(action.offer_id, len(self._codes)) for action in decision.actions)
            served.extend(slot.distribution.served)
            propensity.append(slot.propensity)
        sizes = np.array(counts, dtype=np.int64)
        return Chunk(
            hashes=hash_ids([one.decision.decision_id for one in interactions]),
            reward=np.array([one.reward for one in interactions], dtype=np.float64),
            propensity=np.array(propensity),
            at=np.array([_utc(one.closed_at) for one in interactions], dtype="datetime64[us]"),
            row=np.repeat(np.arange(len(counts), dtype=np.int64), sizes),
            first=np.cumsum(sizes) - sizes,
            chosen=np.array(chosen, dtype=np.int64),
            offer=np.array(offer, dtype=np.int64),
            codes=self._codes,
            served=np.array(served),
            decisions=tuple(one.decision for one in interactions),
        )


def _sound(decision: Decision) -> bool:
    slot = decision.slots[0]
    if slot.distribution is None or slot.propensity is None:
        return False
    served = slot.distribution.served
    if len(served) != len(decision.actions) or not 0 <= slot.chosen < len(served):
        return False
    return 0.0 < slot.propensity <= 1.0 and abs(served[slot.chosen] - slot.propensity) <= 1e-6


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)
