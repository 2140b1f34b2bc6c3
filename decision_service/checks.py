"""What a rank call is refused for, beyond its shape: sizes, moments, repeated ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import orjson

from contextual_bandit.loops import LoopConfig
from contextual_bandit.slots import SlotAsked
from contextual_bandit.types import Action, Context, Features
from decision_service.problems import Problem, bad_field
from decision_service.schemas import RankIn

MOST_PAIRS = 30_000_000
MOST_PROBABILITIES = 50_000
CLOCK_TOLERANCE = timedelta(minutes=5)


def check_size(
    context: Context, actions: Sequence[Action], field: str, slots: Sequence[SlotAsked] = (), most: int | None = None
) -> None:
    """Refuse a decision that would hold the process up: pairs of features times actions are bounded.

    Slots that differ in their features are so many predictions, and each slot logs a probability for every action.
    ``most`` is the number of features that the largest action has, where it is known.

    Raises:
        Problem: 400.
    """
    if len(slots) * len(actions) > MOST_PROBABILITIES:
        why = f"{len(slots) * len(actions)} probabilities over all candidates, {MOST_PROBABILITIES} at most"
        raise bad_field(field + "slots", len(slots), why)
    shared = sum(map(len, context.namespaces.values()))
    if most is not None and not slots and (shared + most) ** 2 * len(actions) <= MOST_PAIRS:
        return
    counts = [len(features) for features in _distinct([slot.features for slot in slots])] or [0]
    own = [len(action.features) + len(action.affinity) for action in actions]
    pairs = sum((shared + count + features) ** 2 for count in counts for features in own)
    if pairs > MOST_PAIRS:
        raise bad_field(
            field + "candidates", len(actions), f"{pairs} pairs of features over all candidates, {MOST_PAIRS} at most"
        )


def _distinct(found: Sequence[Features]) -> list[Features]:
    kept: list[Features] = []
    for one in found:
        if one not in kept:
            kept.append(one)
    return kept


def hash_request(request: RankIn, excluded: Sequence[str] = ()) -> str:
    """A hash of everything that was asked except the id, and whether reasons are wanted."""
    body = _plain_body(request)
    if body is None or excluded:
        # Absent slots leave the hash what it was before there were slots.
        unasked = {"decision_id", "explain"} | ({"slots"} if request.slots is None else set())
        body = request.model_dump(mode="json", exclude=unasked) | ({"excluded": list(excluded)} if excluded else {})
    return blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _plain_body(request: RankIn) -> dict[str, Any] | None:
    """What is hashed of a request that holds nothing but plain JSON, without walking through it; else None."""
    if request.slots is not None or request.occurred_at is not None:
        return None
    if not all(isinstance(entry, str) for entry in request.candidates or ()):
        return None
    return {
        "loop": request.loop,
        "customer_id": request.customer_id,
        "context": request.context,
        "candidates": request.candidates,
        "occurred_at": None,
        "defer_activation": request.defer_activation,
        "channel": request.channel,
        "region": request.region,
    }


def check_time(loop: LoopConfig, occurred_at: datetime | None, now: datetime, field: str) -> datetime:
    """The moment that features speak of.

    Raises:
        Problem: missing on a loop with a simulated clock, or more than 5 minutes off on any other.
    """
    if loop.clock == "simulated":
        if occurred_at is None:
            raise bad_field(field, None, f"is required: the clock of loop {loop.loop!r} is simulated")
        return occurred_at
    if occurred_at is None:
        return now
    if abs(occurred_at - now) > CLOCK_TOLERANCE:
        raise bad_field(field, occurred_at.isoformat(), "is more than 5 minutes off the service's clock")
    return occurred_at


class RepeatedId(Problem):
    """A 409: the id stands for another request."""


def repeated_id(decision_id: str) -> RepeatedId:
    """The 409 that names the id."""
    return RepeatedId(409, "Conflict", f"decision_id {decision_id!r} was used for another request")


def check_batch_ids(requests: Sequence[RankIn]) -> None:
    """Refuse a batch in which one id stands for two different requests."""
    seen: dict[tuple[str, str], str] = {}
    for request in requests:
        if request.decision_id is not None:
            mark = hash_request(request)
            if seen.setdefault((request.loop, request.decision_id), mark) != mark:
                raise repeated_id(request.decision_id)
