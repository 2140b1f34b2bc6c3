"""The product's own features as numbers for linear policies: one column each, words as indicators.

Columns that hardly ever differ are left out, numbers are brought to a standard deviation of 1 over the episode: both
help the linear policies, whose arithmetic assumes contexts of about that size, and cost the product nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import scipy.sparse as sp

from benchmarks.quality_worlds import Episode, Floats, Round
from contextual_bandit.types import Action, Context
from contextual_bandit.vowpal import action_numbers, context_numbers

# Of all rows a column must differ from its usual value in this share.
LEAST_SHARE = 0.02
# Decisions that scales are measured on, spread evenly; an episode's columns change little.
MOST_MEASURED = 1000
BY_CATEGORY = "category="


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Names of features and what each is divided by."""

    places: Mapping[str, int]
    scales: Floats

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.places)

    def entries(self, numbers: Mapping[str, float]) -> tuple[list[int], list[float]]:
        """Columns and scaled values of those features that have a column."""
        found = [(place, value) for name, value in numbers.items() if (place := self.places.get(name)) is not None]
        return [place for place, _ in found], [value / self.scales[place] for place, value in found]

    def dense(self, rows: Sequence[Mapping[str, float]]) -> Floats:
        """Rows of numbers, shape (rows, columns)."""
        table = np.zeros((len(rows), self.size))
        for row, numbers in enumerate(rows):
            places, values = self.entries(numbers)
            table[row, places] = values
        return table

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, float]], least_share: float) -> Columns:
        """Columns of what differs often enough; indicators keep 0 and 1, other numbers are scaled."""
        values: dict[str, list[float]] = {}
        count = 0
        for numbers in rows:
            count += 1
            for name, value in numbers.items():
                values.setdefault(name, []).append(value)
        places: dict[str, int] = {}
        scales: list[float] = []
        for name, found in values.items():
            full = np.concatenate([np.array(found), np.zeros(count - len(found))])
            usual = np.median(full)
            if np.mean(full != usual) < least_share:
                continue
            places[name] = len(places)
            scales.append(1.0 if set(found) <= {1.0} else float(full.std()) or 1.0)
        return cls(places, np.array(scales))


def flat_context(context: Context) -> dict[str, float]:
    """Every shared feature as a number by its name."""
    return _flat(context_numbers(context))


def flat_action(action: Action) -> dict[str, float]:
    """Every feature of an offer, and of the customer's affinity to it, as a number by its name."""
    return _flat(action_numbers(action))


def _flat(namespaces: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{space}.{name}": value for space, features in namespaces.items() for name, value in features.items()}


def context_columns(episode: Episode) -> Columns:
    """Columns of an episode's contexts."""
    return Columns.of((flat_context(context) for context in _spread(episode)), LEAST_SHARE)


def action_columns(episode: Episode) -> Columns:
    """Columns of an episode's offers and affinities; each offer's own indicator is among them."""
    step = max(episode.size // MOST_MEASURED, 1)
    rows = (row for each in episode.rounds for row in each.actions)
    return Columns.of((flat_action(action) for row in islice(rows, 0, None, step) for action in row), 0.0)


def _spread(episode: Episode) -> Iterable[Context]:
    step = max(episode.size // MOST_MEASURED, 1)
    return islice((context for each in episode.rounds for context in each.contexts), 0, None, step)


class JointFeatures:
    """One vector for each pair of decision and offer: a constant, the offer, the affinity, and products if wanted.

    ``crossed`` multiplies every column of the context with the offer's category: what a policy needs to give different
    customers different offers. The context alone is the same for all offers and left out.
    """

    def __init__(self, episode: Episode, *, crossed: bool) -> None:
        self._own = action_columns(episode)
        self._context = context_columns(episode)
        categories = [name for name in self._own.places if name.startswith(f"O.{BY_CATEGORY}")]
        self._category = {name: number for number, name in enumerate(categories)}
        self._crossed = crossed
        self._entries: dict[int, tuple[Action, tuple[list[int], list[float], int]]] = {}
        self.size = 1 + self._own.size + (len(categories) * self._context.size if crossed else 0)

    def table(self, each: Round) -> sp.csr_matrix:
        """Rows of all pairs of a round, decision by decision."""
        pointers, columns, values = [0], [], []
        for context, actions in zip(each.contexts, each.actions, strict=True):
            places, numbers = self._context.entries(flat_context(context)) if self._crossed else ([], [])
            shared = np.array(places, dtype=np.int64)
            for action in actions:
                own, given, category = self._action(action)
                columns += [np.array([0, *own]), 1 + self._own.size + category * self._context.size + shared]
                values += [[1.0, *given], numbers]
                pointers.append(pointers[-1] + 1 + len(own) + len(places))
        data, indices = np.concatenate(values), np.concatenate(columns)
        return sp.csr_matrix((data, indices, pointers), shape=(len(pointers) - 1, self.size))

    def _action(self, action: Action) -> tuple[list[int], list[float], int]:
        known = self._entries.get(id(action))
        if known is not None:
            return known[1]
        numbers = flat_action(action)
        places, values = self._own.entries(numbers)
        category = next((self._category[name] for name in numbers if name in self._category), 0)
        found = [1 + place for place in places], values, category
        # The action is kept, so that its id stays its own.
        self._entries[id(action)] = action, found
        return found
