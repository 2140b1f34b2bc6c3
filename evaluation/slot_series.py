"""Values over time of each slot, for logs whose decisions filled several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.series import Series, SeriesPoint


@dataclass(frozen=True, slots=True)
class SlotValues:
    """A slot over time; ``place`` is from 1, ``slot_id`` None where decisions gave the place several names, or none."""

    place: int
    slot_id: str | None
    n: int
    series: tuple[SeriesPoint, ...]


@dataclass(slots=True)
class SlotSeries:
    """A series for each place; ``low`` and ``high`` are where one slot's reward is expected."""

    low: float = 0.0
    high: float = 1.0
    by_place: dict[int, Series] = field(default_factory=dict)
    names: dict[int, set[str]] = field(default_factory=dict)

    def add(self, chunk: Chunk, weights: Mapping[str, FloatArray]) -> None:
        """Continue with a chunk's rows, one for each slot, and their weights by policy, each of shape (n,)."""
        if chunk.slot is None:
            return
        for decision in chunk.decisions:
            for slot in decision.slots:
                self.names.setdefault(slot.index, set()).add(slot.slot_id)
        for place in np.unique(chunk.slot).tolist():
            rows = chunk.slot == place
            series = self.by_place.setdefault(place, Series(self.low, self.high))
            series.add(chunk.at[rows], chunk.reward[rows], {name: one[rows] for name, one in weights.items()})

    def values(
        self, rewards: tuple[float, float], largest_weights: Mapping[str, float], level: float
    ) -> tuple[SlotValues, ...]:
        """Each slot's points, as ``Series.points`` gives them."""
        found = []
        for place, series in sorted(self.by_place.items()):
            names = self.names.get(place, set()) - {""}
            slot_id = next(iter(names)) if len(names) == 1 else None
            found.append(SlotValues(place + 1, slot_id, series.n, series.points(rewards, largest_weights, level)))
        return tuple(found)
