"""The service's own log as chunks: closed interactions, from PostgreSQL or from anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

import numpy as np

from contextual_bandit.slots import slot_interactions
from contextual_bandit.types import Decision, LoggedInteraction
from evaluation.chunks import CHUNK_SIZE, Chunk, LogNotes
from evaluation.hashing import hash_ids


class Interactions:
    """Interactions of one loop as chunks; only those of use ``learn`` with a propensity count, the rest is counted.

    Each slot of a decision with several is a row of its own, with its own reward, below what the log showed above it.
    """

    def __init__(self, interactions: Iterable[LoggedInteraction], chunk_size: int = CHUNK_SIZE) -> None:
        """Take closed interactions in their order; they are read once."""
        self._interactions = interactions
        self._chunk_size = chunk_size
        self._codes: dict[str, int] = {}
        self._several_slots = 0
        self.found = LogNotes()

    def chunks(self) -> Iterator[Chunk]:
        """The usable decisions; the slots of one are never split."""
        usable = self._usable()
        while batch := list(islice(usable, self._chunk_size)):
            yield self._chunk([row for rows in batch for row in rows])
        if self._several_slots:
            self.found.notes.append(f"{self._several_slots:,} decisions filled several slots; each slot is a row here")

    def _usable(self) -> Iterator[list[LoggedInteraction]]:
        """The rows of each decision that has any."""
        found = self.found
        for interaction in self._interactions:
            found.loop = found.loop or interaction.decision.loop
            rows = []
            for one in slot_interactions(interaction):
                why_not = self._why_not(one)
                if why_not:
                    found.skipped[why_not] += 1
                else:
                    rows.append(one)
            if rows:
                self._several_slots += interaction.decision.has_slots
                yield rows

    def _why_not(self, interaction: LoggedInteraction) -> str | None:
        """Why an interaction cannot be used."""
        slots = interaction.decision.slots
        if interaction.decision.use == "baseline":
            # The sender's action was served with probability 1: of no use here, whatever was learned from it.
            return "apprentice" if interaction.decision.own else "baseline"
        if interaction.use != "learn":
            return interaction.use
        if not slots or slots[0].distribution is None or slots[0].propensity is None:
            return "no propensity"
        if not _sound(interaction.decision):
            self.found.inconsistent += 1
            return "impossible propensity"
        return None

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
        several = any(one.decision.has_slots for one in interactions)
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
            slot=np.array([one.decision.slots[0].index for one in interactions], dtype=np.int64) if several else None,
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
