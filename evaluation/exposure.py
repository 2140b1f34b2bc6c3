"""What was shown, summed by group and customer, and how far a group's mean may be trusted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from contextual_bandit.types import Action, Decision, Estimate
from evaluation.arrays import FloatArray, IntArray

BoolArray: TypeAlias = npt.NDArray[np.bool_]
# Below so many customers with a value other than 0, their own spread is not to be trusted.
LEAST_WITH_VALUE = 30


@dataclass(slots=True)
class CustomerSums:
    """One customer's decisions within one group; ``items`` has exposure, shows, and decisions competed in."""

    decisions: int = 0
    reward: float = 0.0
    items: dict[str, list[float]] = field(default_factory=dict)

    def add(self, decision: Decision, reward: float, key_of: Callable[[Action], str]) -> None:
        """Take a decision in: its reward, and per item the exposure, the shows and whether it competed."""
        self.decisions += 1
        self.reward += reward
        slot = decision.slots[0]
        served = slot.distribution.served if slot.distribution else None
        competed: set[str] = set()
        for index, action in enumerate(decision.actions):
            name = key_of(action)
            sums = self.items.get(name)
            if sums is None:
                sums = self.items[name] = [0.0, 0.0, 0.0]
            # A decision without a distribution (a fallback) served its choice for certain.
            sums[0] += served[index] if served is not None else float(index == slot.chosen)
            sums[1] += index == slot.chosen
            if name not in competed and (served is None or served[index] > 0.0):
                competed.add(name)
                sums[2] += 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ExposureTable:
    """Sums by (group, customer), one row each; ``customer`` numbers customers across groups.

    ``items`` has three columns each: exposure, shows, and decisions in which the item competed.
    """

    names: tuple[str, ...]
    group_index: IntArray
    customer: IntArray
    decisions: FloatArray
    reward: FloatArray
    items: Mapping[str, FloatArray]

    @classmethod
    def of(cls, cells: Mapping[tuple[str, str], CustomerSums], names: Sequence[str], items: Sequence[str]) -> Self:
        """Sums by (group, customer) as columns, for these groups and items."""
        place = {name: index for index, name in enumerate(names)}
        numbers: dict[str, int] = {}
        nothing = [0.0, 0.0, 0.0]
        return cls(
            tuple(names),
            np.array([place[name] for name, _ in cells], dtype=np.int64),
            np.array([numbers.setdefault(who, len(numbers)) for _, who in cells], dtype=np.int64),
            np.array([sums.decisions for sums in cells.values()], dtype=np.float64),
            np.array([sums.reward for sums in cells.values()], dtype=np.float64),
            {item: np.array([sums.items.get(item, nothing) for sums in cells.values()]).T for item in items},
        )

    def rows_of(self, *names: str) -> BoolArray:
        """Which rows are of these groups."""
        return np.isin(self.group_index, [self.names.index(name) for name in names])

    def mean(self, name: str, column: FloatArray, level: float) -> Estimate:
        """A group's mean of a column per decision; the effective sample is its number of customers."""
        mine = self.rows_of(name)
        value = float(column[mine].sum() / self.decisions[mine].sum())
        half = NormalDist().inv_cdf(0.5 + level / 2.0) * math.sqrt(self.variance((name,), (1.0,), column))
        decisions, customers = int(self.decisions[mine].sum()), float(mine.sum())
        return Estimate("mean", value, value - half, value + half, decisions, customers)

    def variance(self, names: Sequence[str], factors: Sequence[float], column: FloatArray) -> float:
        """Variance of a sum of group means with factors: linearised ratios, by customer.

        A customer who was in both groups of a difference counts once, with both shares. A group in which hardly
        anybody has a value other than 0 is given at least the spread of everybody, or none of thirty rewarded would
        pass for a certain 0.
        """
        influence: FloatArray = np.zeros(int(self.customer.max()) + 1)
        floor = 0.0
        for name, factor in zip(names, factors, strict=True):
            mine = self.rows_of(name)
            own, decisions, count = column[mine], self.decisions[mine].sum(), int(mine.sum())
            residual = (own - own.sum() / decisions * self.decisions[mine]) / decisions
            residual *= factor * math.sqrt(count / (count - 1))
            if np.count_nonzero(own) < LEAST_WITH_VALUE:
                missing = factor**2 * self._spread_of_all(column) / decisions - float(residual @ residual)
                floor += max(missing, 0.0)
            np.add.at(influence, self.customer[mine], residual)
        return float(influence @ influence) + floor

    def _spread_of_all(self, column: FloatArray) -> float:
        """The variance of everybody's mean, times the number of their decisions."""
        decisions = self.decisions.sum()
        residual = column - column.sum() / decisions * self.decisions
        return float(residual @ residual) / float(decisions)


def most_exposed(cells: Mapping[tuple[str, str], CustomerSums]) -> list[str]:
    """All items, the most exposed first."""
    total: defaultdict[str, float] = defaultdict(float)
    for sums in cells.values():
        for name, (exposure, _, _) in sums.items.items():
            total[name] += exposure
    return sorted(total, key=lambda name: (-total[name], name))
