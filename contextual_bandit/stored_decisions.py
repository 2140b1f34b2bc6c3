"""Decisions read from stream messages by who needs little of them: the rest is read when it is asked for.

A learner needs what was chosen, and how many actions there were; making all actions of a decision costs three times as
much as all else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast, overload

from contextual_bandit import events
from contextual_bandit.logged_actions import action_at, actions_from
from contextual_bandit.types import Action, Decision, Event, Removed

T = TypeVar("T")
# Id, version and features of an action, with or without its cost and promotion.
_ACTION_LENGTHS = frozenset({3, 5})


class Deferred(Sequence[T]):
    """What a message holds, read when it is asked for; equal to the tuple that it stands for."""

    __slots__ = ("_known", "_length", "_message", "_read", "_whole")

    def __init__(
        self,
        message: bytes,
        read: Callable[[Mapping[str, Any]], tuple[T, ...]],
        length: int,
        known: Mapping[int, T] | None = None,
    ) -> None:
        """``read`` makes all of it from the message's payload; ``known`` has what was made already, by place."""
        self._message = message
        self._read = read
        self._length = length
        self._known = known or {}
        self._whole: tuple[T, ...] | None = None

    def whole(self) -> tuple[T, ...]:
        """All of it."""
        if self._whole is None:
            self._whole = self._read(events.decode("", self._message).payload)
        return self._whole

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...

    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if not isinstance(index, slice) and index in self._known:
            return self._known[index]
        return self.whole()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self.whole())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Deferred):
            return self.whole() == other.whole()
        return self.whole() == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.whole())

    def __repr__(self) -> str:
        return repr(self.whole())


class ReadMessage(NamedTuple):
    """A message of a loop's stream, with the decision in it; its event then keeps no more than the decision's id."""

    event: Event
    decision: Decision | None = None


def read_message(position: str, message: bytes) -> ReadMessage:
    """A message read once; one whose decision is none keeps its payload, for whoever sets it aside.

    Raises:
        BadEvent: not JSON, or of an unknown type or version.
    """
    event = events.decode(position, message)
    if event.type != events.DECISION:
        return ReadMessage(event)
    try:
        decision = read_decision(event, message)
    except (events.BadEvent, LookupError, TypeError, ValueError):
        return ReadMessage(event)
    # The payload of a whole batch would be many times the messages themselves.
    kept = {"decision_id": decision.decision_id}
    return ReadMessage(
        Event(event.event_id, event.type, event.schema_version, event.time, kept, event.spooled_at), decision
    )


def read_decision(event: Event, message: bytes) -> Decision:
    """A decision as ``events.decision_from`` gives it; of a plain one only the chosen action is made now.

    Args:
        event: the message that was decoded.
        message: its bytes, which are kept as long as the decision.

    Raises:
        BadEvent, KeyError, TypeError, ValueError: the payload is no decision's.
    """
    payload = event.payload
    slots = payload["slots"]
    if len(slots) != 1 or "slot_id" in slots[0] or "limited" in payload or payload.get("own"):
        return events.decision_from(payload)
    count, chosen = _count(payload), slots[0]["chosen"]
    if not 0 <= chosen < count:
        return events.decision_from(payload)
    actions = Deferred(message, actions_from, count, {chosen: action_at(payload, chosen)})
    removed: Deferred[Removed] = Deferred(message, _removed, len(payload["removed"]))
    # A decision's fields are sequences for whoever reads them.
    return events.decision_from(payload, cast("tuple[Action, ...]", actions), cast("tuple[Removed, ...]", removed))


def _removed(payload: Mapping[str, Any]) -> tuple[Removed, ...]:
    return tuple(Removed(offer_id, reason) for offer_id, reason in payload["removed"])


def _count(payload: Mapping[str, Any]) -> int:
    """How many actions there are; refuses what could not be read later."""
    actions, rows, names = payload["actions"], payload["affinity"], payload["affinity_names"]
    if names is not None and not set(map(len, rows)) <= {len(names)}:
        raise events.BadEvent(f"decision {payload['decision_id']!r} has affinities of other names than {names!r}")
    if len(actions) != len(rows) or not set(map(len, actions)) <= _ACTION_LENGTHS:
        raise events.BadEvent(f"decision {payload['decision_id']!r} has {len(actions)} actions, {len(rows)} affinities")
    if not set(map(len, payload["removed"])) <= {2}:
        raise events.BadEvent(f"decision {payload['decision_id']!r} has removed {payload['removed']!r}")
    return len(actions)
