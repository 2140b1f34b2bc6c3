"""Decisions of a log file, made from its contexts and actions when something asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, overload

import orjson

from contextual_bandit.features import BadFeature, rebuild_context, rebuild_features
from contextual_bandit.types import Action, Context, Decision, Distribution, Features, SlotDecision
from evaluation.chunks import LogNotes

MOST_ACTIONS = 10_000
MOST_LISTS = 256


class DecisionMaker:
    """Makes decisions from a file's JSON; equal actions, and equal lists of them, are made once.

    Contexts and actions that cannot be features are left without any and counted.
    """

    def __init__(self, loop: str) -> None:
        """Take the name that stands for the loop."""
        self._loop = loop
        self._actions: dict[bytes, Action] = {}
        self._lists: dict[bytes, tuple[Action, ...]] = {}
        self._unusable = 0
        self._example = ""

    def make(
        self,
        event_id: str,
        at: datetime,
        context: Any,
        actions: Sequence[Any],
        chosen: int,
        propensity: float,
        served: Sequence[float] | None,
    ) -> Decision:
        """Make one decision.

        Args:
            event_id: its id.
            at: when, with its zone.
            context: an object, JSON text of one, or None.
            actions: objects with an id and features, ids, or None.
            chosen: index of the chosen action.
            propensity: its logged probability.
            served: all logged probabilities, where known.
        """
        whole = None if served is None else Distribution(tuple(served), tuple(served))
        return Decision(
            loop=self._loop,
            decision_id=event_id,
            decided_at=at,
            occurred_at=at,
            customer_id=None,
            context=Context(self._context(context)),
            actions=self._all(actions),
            removed=(),
            slots=(SlotDecision(chosen, whole, propensity, None),),
            policy_id="",
            snapshot_id="",
            learning_mode="online",
            use="learn",
            deferred=False,
            request_hash="",
        )

    def finish(self, found: LogNotes) -> None:
        """Note what could not be features."""
        if self._unusable:
            found.notes.append(
                f"{self._unusable:,} times a context or an action could not be read as features and counted without "
                f"any ({self._example})"
            )

    def _context(self, raw: Any) -> Mapping[str, Features]:
        try:
            if isinstance(raw, str):
                raw = orjson.loads(raw)
            return rebuild_context(raw) if isinstance(raw, Mapping) else {}
        except ValueError as error:
            self._count(error)
            return {}

    def _all(self, actions: Sequence[Any]) -> tuple[Action, ...]:
        key = orjson.dumps(actions, default=str)
        found = self._lists.get(key)
        if found is None:
            if len(self._lists) >= MOST_LISTS:
                self._lists.clear()
            found = self._lists[key] = tuple(self._action(one, index) for index, one in enumerate(actions))
        return found

    def _action(self, raw: Any, index: int) -> Action:
        key = orjson.dumps((index, raw), default=str)
        found = self._actions.get(key)
        if found is None:
            if len(self._actions) >= MOST_ACTIONS:
                self._actions.clear()
            found = self._actions[key] = Action(action_id(raw, index), self._features(raw))
        return found

    def _features(self, raw: Any) -> Features:
        if not isinstance(raw, Mapping):
            return {}
        given = raw["features"] if isinstance(raw.get("features"), Mapping) else raw
        try:
            return rebuild_features({name: value for name, value in given.items() if name != "id"}, "actions")
        except BadFeature as error:
            self._count(error)
            return {}

    def _count(self, error: ValueError) -> None:
        self._unusable += 1
        self._example = self._example or str(error)


def action_id(raw: Any, index: int) -> str:
    """The id of an action as it is written in a log; its index where it has none."""
    name = raw.get("id") if isinstance(raw, Mapping) else raw
    return str(index) if name is None else str(name)


class MakesDecisions(Protocol):
    """Gives the decision of any row of a chunk."""

    def __call__(self, row: int, /) -> Decision:
        """The decision of a row, from 0."""


class LazyDecisions(Sequence[Decision]):
    """The decisions of a chunk; each is made anew whenever it is asked for, so that a chunk stays small."""

    def __init__(self, n: int, make: MakesDecisions) -> None:
        """Take how many there are, and what makes one."""
        self._n = n
        self._make = make

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> Decision: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Decision]: ...
    def __getitem__(self, index: int | slice) -> Decision | Sequence[Decision]:
        """One decision, or several."""
        if isinstance(index, slice):
            return tuple(self._make(row) for row in range(*index.indices(self._n)))
        if not -self._n <= index < self._n:
            raise IndexError(f"decision {index} of {self._n}")
        return self._make(index % self._n)
