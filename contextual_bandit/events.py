"""Stream messages: their types, versions and JSON form. Every loop's stream holds them in one order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import orjson

from contextual_bandit.limits import Draw, resolve
from contextual_bandit.logged_actions import action_from, action_payload, actions_from, choice_parts
from contextual_bandit.profile import Activity
from contextual_bandit.slots import Slate
from contextual_bandit.types import (
    Action,
    Context,
    Decision,
    Distribution,
    Event,
    Outcome,
    OwnChoice,
    Removed,
    SlotDecision,
    SlotName,
)

SCHEMA_VERSION = 1
DECISION = "decision"
OUTCOME = "outcome"
ACTIVATION = "activation"
TICK = "tick"
CONTROL = "control"
ACTIVITY = "activity"
SPOOL = "spool"
# A decision that another service closed, with its reward.
IMPORTED = "imported"
# An answer to a rank call whose id stands for another decision: no decision itself, and never learned from.
RANK_REPEATED = "rank_repeated"
TYPES = frozenset({DECISION, OUTCOME, ACTIVATION, TICK, CONTROL, ACTIVITY, SPOOL, IMPORTED, RANK_REPEATED})

_CONTROL_TYPE = f'"type":"{CONTROL}"'.encode()
_BEGINNING = 40


class BadEvent(ValueError):
    """A stream message that is no event of a known type and version."""


def encode(event_type: str, time: datetime, payload: Mapping[str, Any], *, spooled_at: datetime | None = None) -> bytes:
    """The bytes of a message; its id is given by the stream."""
    return _written(event_type, to_text(time), payload, spooled_at)


def encode_decision(payload: Mapping[str, Any]) -> bytes:
    """The bytes of a decision's message, as of ``encode``; ``payload`` has its moment in words already."""
    return _written(DECISION, payload["occurred_at"], payload, None)


def _written(event_type: str, time: str, payload: Mapping[str, Any], spooled_at: datetime | None) -> bytes:
    envelope: dict[str, Any] = {"v": SCHEMA_VERSION, "type": event_type, "time": time, "payload": payload}
    if spooled_at is not None:
        envelope["spooled_at"] = to_text(spooled_at)
    return orjson.dumps(envelope)


def with_spooled_at(message: bytes, at: datetime) -> bytes:
    """A message that waited on a service's disk, with the time at which it was acknowledged."""
    return orjson.dumps({**orjson.loads(message), "spooled_at": to_text(at)})


def event_time(message: bytes) -> datetime:
    """The sender's time of a message that this version encoded."""
    return from_text(orjson.loads(message)["time"])


def may_be_control(message: bytes) -> bool:
    """Whether a message may be a control event; cheap, as the type stands at the beginning and nearly none is one."""
    return _CONTROL_TYPE in message[:_BEGINNING]


def decode(event_id: str, data: bytes) -> Event:
    """A message read back.

    Raises:
        BadEvent: not JSON, or of an unknown type or version.
    """
    try:
        raw = orjson.loads(data)
        event_type, version = raw["type"], raw["v"]
        time, payload = from_text(raw["time"]), raw["payload"]
        spooled_at = from_text(raw["spooled_at"]) if "spooled_at" in raw else None
        known = event_type in TYPES and version == SCHEMA_VERSION and isinstance(payload, dict)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BadEvent(f"event {event_id}: {error!r}") from error
    if not known:
        raise BadEvent(f"event {event_id}: type {event_type!r} of version {version!r} is unknown or has no payload")
    return Event(event_id, event_type, version, time, payload, spooled_at)


def to_text(time: datetime) -> str:
    """ISO 8601 in UTC with microseconds."""
    if time.tzinfo is UTC:
        return time.isoformat(timespec="microseconds")[:-6] + "Z"
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_text(text: str) -> datetime:
    """The reverse of to_text; a time without an offset is UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def position_time(event_id: str) -> datetime:
    """When the stream took the message: the milliseconds of its id."""
    return datetime.fromtimestamp(int(event_id.partition("-")[0]) / 1000.0, UTC)


def decision_payload(decision: Decision, parts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A decision as JSON; ``parts`` are its ``choice_parts``, where they were made (or written) before."""
    occurred_at = to_text(decision.occurred_at)
    payload = {
        "loop": decision.loop,
        "decision_id": decision.decision_id,
        "decided_at": occurred_at if decision.decided_at is decision.occurred_at else to_text(decision.decided_at),
        "occurred_at": occurred_at,
        "customer_id": decision.customer_id,
        "context": decision.context.namespaces,
        **(parts or choice_parts(decision.actions, decision.removed)),
        "slots": _slot_payloads(decision.slots),
        "policy_id": decision.policy_id,
        "snapshot_id": decision.snapshot_id,
        "learning_mode": decision.learning_mode,
        "use": decision.use,
        "deferred": decision.deferred,
        "request_hash": decision.request_hash,
        "sources": decision.sources,
        "dropped": decision.dropped,
        "took_units": decision.took_units,
    }
    if decision.own:
        payload["own"] = [_own_payload(one) for one in decision.own]
    return payload


def imported_payload(decision: Decision, rewards: Sequence[float], given: Any) -> dict[str, Any]:
    """A decision that another service closed: one reward for each slot, and the features under their names there."""
    return {**decision_payload(decision), "rewards": list(rewards), "given": given}


def imported_rewards(payload: Mapping[str, Any], decision: Decision) -> tuple[float, ...]:
    """The rewards of an imported decision's slots.

    Raises:
        BadEvent: they are not one finite number for each slot.
    """
    rewards = payload.get("rewards")
    if (
        not isinstance(rewards, list)
        or len(rewards) != len(decision.slots)
        or not all(isinstance(one, int | float) and isfinite(one) for one in rewards)
    ):
        raise BadEvent(f"imported decision {decision.decision_id!r} has the rewards {rewards!r}")
    return tuple(float(one) for one in rewards)


def limited_payload(
    decision: Decision,
    fallback: Action,
    preferred: Sequence[int] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A decision before its draw, which happens where units are counted and is added by ``with_draws``.

    ``preferred`` is a baseline's own order of the actions, ``parts`` are as of ``decision_payload``.
    """
    payload = {**decision_payload(decision, parts), "fallback": action_payload(fallback)}
    return payload if preferred is None else {**payload, "preferred": preferred}


def slate_payload(slate: Slate) -> dict[str, Any]:
    """A decision before the draws of its slots, which are added by ``with_draws``."""
    payload = limited_payload(slate.decision, slate.fallback)
    payload |= {"floor": slate.floor, "share": slate.share}
    return payload if not slate.preferred else {**payload, "preferred": slate.tiers}


def with_draws(message: bytes, drawn: Sequence[Draw]) -> bytes:
    """A message whose payload waits for draws, one for each slot, with them; the script adds them in the same way."""
    return message[:-2] + b',"limited":' + orjson.dumps(draws_payload(drawn)) + b"}}"


def draws_payload(drawn: Sequence[Draw]) -> list[list[Any]]:
    """Draws as JSON."""
    return [[one.masked, one.chosen, one.took] for one in drawn]


def draws_from(raw: Sequence[Any]) -> tuple[Draw, ...]:
    """Draws read back; before there were slots, the one draw stood there alone."""
    return tuple(
        Draw(tuple((index, code) for index, code in masked), chosen, took)
        for masked, chosen, took in ([raw] if _is_alone(raw) else raw)
    )


def decision_from(
    payload: Mapping[str, Any],
    actions: tuple[Action, ...] | None = None,
    removed: tuple[Removed, ...] | None = None,
) -> Decision:
    """A decision read back, equal to the one that was encoded; what is given stands for what the payload has.

    Raises:
        BadEvent: no slot, no actions, or a choice that is not among them.
        KeyError, TypeError, ValueError: the payload is no decision's.
    """
    if actions is None:
        actions = actions_from(payload)
    decision = Decision(
        loop=payload["loop"],
        decision_id=payload["decision_id"],
        decided_at=from_text(payload["decided_at"]),
        occurred_at=from_text(payload["occurred_at"]),
        customer_id=payload["customer_id"],
        context=Context(payload["context"]),
        actions=actions,
        removed=tuple(Removed(*one) for one in payload["removed"]) if removed is None else removed,
        slots=tuple(_slots_from(payload["slots"])),
        policy_id=payload["policy_id"],
        snapshot_id=payload["snapshot_id"],
        learning_mode=payload["learning_mode"],
        use=payload["use"],
        deferred=payload["deferred"],
        request_hash=payload["request_hash"],
        sources=payload.get("sources", {}),
        dropped=tuple(payload.get("dropped", ())),
        took_units=payload.get("took_units", 0),
        own=tuple(_own_from(one) for one in payload.get("own", ())),
    )
    if "limited" in payload:
        try:
            decision = _drawn(decision, payload)
        except IndexError as error:
            raise BadEvent(f"decision {decision.decision_id!r} has draws among other actions") from error
    if not decision.slots or any(not _shows_one(slot, len(decision.actions)) for slot in decision.slots):
        raise BadEvent(f"decision {decision.decision_id!r} chooses none of its {len(actions)} actions")
    return decision


def _drawn(decision: Decision, payload: Mapping[str, Any]) -> Decision:
    """A decision that waited for its draws, with them."""
    raw, preferred = payload["limited"], payload.get("preferred")
    draws, fallback = draws_from(raw), action_from(payload["fallback"], {})
    if not decision.has_slots:
        return resolve(decision, draws[0], fallback, preferred, is_rescaled=_is_alone(raw))
    tiers = None if preferred is None else tuple(tuple(order) for order in preferred)
    slate = Slate(decision, fallback, payload["floor"], payload["share"], tiers, tiers is not None)
    return slate.resolved(draws)


def _is_alone(raw: Sequence[Any]) -> bool:
    return bool(raw) and isinstance(raw[-1], int)


def _shows_one(slot: SlotDecision, actions: int) -> bool:
    return slot.fallback is not None or 0 <= slot.chosen < actions


def outcome_payload(
    outcome_id: str, decision_id: str, kind: str, value: float, final: bool, slot: SlotName = None
) -> dict[str, Any]:
    """An outcome as JSON; when it counts as received is the stream's to say."""
    plain = {"outcome_id": outcome_id, "decision_id": decision_id, "kind": kind, "value": value, "final": final}
    return plain if slot is None else {**plain, "slot": slot}


def outcome_from(payload: Mapping[str, Any], received_at: datetime) -> Outcome:
    """An outcome read back, with the stream time at which it was received.

    Raises:
        BadEvent: the value is no finite number.
        KeyError: the payload is no outcome's.
    """
    value = payload["value"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise BadEvent(f"outcome {payload['outcome_id']!r} has the value {value!r}")
    return Outcome(
        outcome_id=payload["outcome_id"],
        decision_id=payload["decision_id"],
        kind=payload["kind"],
        value=float(value),
        received_at=received_at,
        final=payload["final"],
        slot=payload.get("slot"),
    )


def _own_payload(own: OwnChoice) -> list[Any]:
    return [own.chosen, own.distribution.policy, own.distribution.served, own.propensity, own.draw]


def _own_from(raw: Sequence[Any]) -> OwnChoice:
    chosen, policy, served, propensity, draw = raw
    return OwnChoice(chosen, Distribution(tuple(policy), tuple(served)), propensity, draw)


def _slot_payloads(slots: Sequence[SlotDecision]) -> list[dict[str, Any]]:
    """Slots as JSON; probabilities that are those of the slot before are left out."""
    found, before = [], None
    for slot in slots:
        payload = _slot_payload(slot)
        if before is not None and slot.distribution is not None:
            for name in ("policy", "served"):
                if getattr(before, name) == payload[name]:
                    del payload[name]
        before = slot.distribution or before
        found.append(payload)
    return found


def _slot_payload(slot: SlotDecision) -> dict[str, Any]:
    distribution = slot.distribution
    payload: dict[str, Any] = {
        "chosen": slot.chosen,
        "policy": None if distribution is None else distribution.policy,
        "served": None if distribution is None else distribution.served,
        "propensity": slot.propensity,
        "draw": slot.draw,
    }
    if slot.slot_id:
        payload |= {
            "slot_id": slot.slot_id,
            "features": slot.features,
            "baseline": slot.baseline,
            "exclude": slot.exclude,
            "removed": [[removed.offer_id, removed.reason] for removed in slot.removed],
            "took_units": slot.took_units,
            "fallback": None if slot.fallback is None else [action_payload(slot.fallback), slot.fallback.affinity],
        }
    return payload


def _slots_from(payloads: Sequence[Mapping[str, Any]]) -> Iterator[SlotDecision]:
    before = None
    for index, raw in enumerate(payloads):
        policy, served = (
            tuple(raw[name] or ()) if name in raw else getattr(before, name, ()) for name in ("policy", "served")
        )
        distribution = Distribution(policy, served) if served else None
        before = distribution or before
        plain = SlotDecision(raw["chosen"], distribution, raw["propensity"], raw["draw"])
        yield replace(plain, index=index, **_asked_from(raw)) if "slot_id" in raw else plain


def _asked_from(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What only the slots have that were asked for."""
    fallback = raw["fallback"]
    return {
        "slot_id": raw["slot_id"],
        "features": raw["features"],
        "baseline": raw["baseline"],
        "exclude": tuple(raw["exclude"]),
        "removed": tuple(Removed(offer_id, reason) for offer_id, reason in raw["removed"]),
        "took_units": raw["took_units"],
        "fallback": None if fallback is None else action_from(*fallback),
    }


def activity_payload(activity: Activity) -> dict[str, Any]:
    """An activity as JSON."""
    return {
        "activity_id": activity.activity_id,
        "customer_id": activity.customer_id,
        "kind": activity.kind,
        "occurred_at": to_text(activity.occurred_at),
        "category": activity.category,
        "offer_id": activity.offer_id,
        "amount": activity.amount,
        "order_id": activity.order_id,
    }


def activity_from(raw: Mapping[str, Any]) -> Activity:
    """An activity read back."""
    return Activity(**{**raw, "occurred_at": from_text(raw["occurred_at"])})
