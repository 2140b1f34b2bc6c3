"""Lines of Vowpal Wabbit's decision service as closed decisions of a loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from contextual_bandit.features import (
    IDENTITY_NAMES,
    PERSON_NAMES,
    PERSONAL_GROUPS,
    BadFeature,
    check_identity,
    rebuild_context,
    rebuild_features,
)
from contextual_bandit.types import Action, Context, Decision, Distribution, Features, SlotDecision
from evaluation.dsjson_rows import SlateRow, SlotRow, merged, read_single, read_slate
from evaluation.log_rows import UNKNOWN_TIME, Row
from evaluation.row_faults import BadRow

# What stands for the policy of decisions that another service made.
IMPORTED_POLICY = "imported"
# The namespace that Personalizer gave to features that stand in none, and those of an action's id and features.
LOOSE, ACTION_ID, ACTION_FEATURES = "FromUrl", "i", "j"
# What begins with "_" Vowpal Wabbit reads over, but for these.
READ_NAMES = frozenset({"_multi", "_slots", "_tag", "_text", "_id", "_inc"})
LONGEST_ID = 256


@dataclass(frozen=True, slots=True)
class Imported:
    """A closed decision of another service.

    ``rewards`` has one for each slot. ``given`` are the features under the names that they had there, ``left_out`` how
    many of them said who somebody is and were left out.
    """

    decision: Decision
    rewards: tuple[float, ...]
    given: Mapping[str, Any]
    left_out: int


def imported_from(raw: Mapping[str, Any], loop: str, now: datetime) -> Imported:
    """A line as a closed decision.

    The context's namespaces are those that the routes of Personalizer make of the same features, so that a policy that
    learned from the log knows them when they are asked for.

    Args:
        raw: the line's object.
        loop: the loop that it shall belong to.
        now: stands for the time of lines without one.

    Raises:
        BadRow: the line cannot be used.
    """
    row = read_slate(raw) if "_outcomes" in raw and "_label_cost" not in raw else read_single(raw)
    if len(row.event_id) > LONGEST_ID:
        raise BadRow("EventId", f"longer than {LONGEST_ID} characters", row.event_id)
    if len(set(row.ids)) < len(row.ids):
        raise BadRow("c._multi", "names an action twice", next(one for one in row.ids if row.ids.count(one) > 1))
    given, left_out = without_identity(raw["c"])
    try:
        context = Context(rebuild_context(asked_context(given)))
        actions = tuple(
            Action(offer_id, rebuild_features(asked_action(one), "action"))
            for offer_id, one in zip(row.ids, given["_multi"], strict=True)
        )
        slots = _single(row) if isinstance(row, Row) else _slots(row)
    except BadFeature as error:
        raise BadRow("c", error.why, error.value) from None
    at = now if row.at is UNKNOWN_TIME else row.at.replace(tzinfo=UTC)
    decision = Decision(
        loop=loop,
        decision_id=row.event_id,
        decided_at=at,
        occurred_at=at,
        customer_id=None,
        context=context,
        actions=actions,
        removed=(),
        slots=slots,
        policy_id=IMPORTED_POLICY,
        snapshot_id=_model(raw),
        learning_mode="online",
        use="learn",
        deferred=False,
        request_hash=IMPORTED_POLICY,
    )
    rewards = (row.reward,) if isinstance(row, Row) else tuple(slot.reward for slot in row.slots)
    return Imported(decision, rewards, given, left_out)


def without_identity(c: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """A line's features as Vowpal Wabbit reads them, and how many were left out since they say who somebody is.

    Features of actions are kept: a phone may well be what is offered.
    """
    left_out = 0

    def clean(value: Any, names: frozenset[str] | None) -> Any:
        nonlocal left_out
        if isinstance(value, list):
            return [clean(one, names) for one in value]
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, one in value.items():
            if name.startswith("_") and name not in READ_NAMES:
                continue
            if name == "_multi" or names is None:
                kept[name] = clean(one, None)
            elif _is_identity(name, one, names):
                left_out += 1
            else:
                kept[name] = clean(one, PERSON_NAMES if name in PERSONAL_GROUPS else names)
        return kept

    return clean(dict(c), IDENTITY_NAMES), left_out


def _is_identity(name: str, value: Any, names: frozenset[str]) -> bool:
    try:
        check_identity({name: None if isinstance(value, dict) else value}, "c", names)
    except BadFeature:
        return True
    return False


def asked_context(given: Mapping[str, Any]) -> dict[str, Any]:
    """The shared features as a request would hold them: objects among the loose ones are namespaces of their own."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name.startswith("_"):
            continue
        plain = _worded(merged(value))
        if not isinstance(plain, dict):
            found[name] = plain
            continue
        inner = {one: plain.pop(one) for one in list(plain) if isinstance(plain[one], dict)} if name == LOOSE else {}
        for namespace, features in {name: plain, **inner}.items():
            before = found.get(namespace)
            found[namespace] = {**before, **features} if isinstance(before, dict) else features
    return found


def asked_action(given: Mapping[str, Any]) -> dict[str, Any]:
    """An action's features as a request would hold them; its id is the offer's."""
    plain = _worded(merged(given))
    plain.pop(ACTION_ID, None)
    plain.pop("id", None)
    inner = plain.pop(ACTION_FEATURES, {})
    return {**plain, **inner} if isinstance(inner, dict) else {**plain, ACTION_FEATURES: inner}


def _worded(value: Any) -> Any:
    """A null is a word like any other, as it was to Personalizer."""
    if isinstance(value, dict):
        return {name: _worded(one) for name, one in value.items()}
    return "null" if value is None else value


def _single(row: Row) -> tuple[SlotDecision, ...]:
    return (SlotDecision(row.chosen, _distribution(row.served, row.chosen, row.propensity), row.propensity, None),)


def _slots(row: SlateRow) -> tuple[SlotDecision, ...]:
    return tuple(
        replace(
            SlotDecision(one.chosen, _distribution(one.served, one.chosen, one.propensity), one.propensity, None),
            slot_id=one.slot_id,
            index=index,
            features=_slot_features(one),
            exclude=() if one.allowed is None else tuple(
                offer_id for place, offer_id in enumerate(row.ids) if place not in one.allowed
            ),
        )
        for index, one in enumerate(row.slots)
    )  # fmt: skip


def _slot_features(slot: SlotRow) -> Features:
    features, _ = without_identity(slot.features)
    return rebuild_features(features, "slot")


def _distribution(served: Sequence[float] | None, chosen: int, propensity: float) -> Distribution | None:
    """What was served; ``p`` is often written with fewer digits than the label, which is what was drawn by."""
    if served is None:
        return None
    exact = tuple(propensity if index == chosen else one for index, one in enumerate(served))
    return Distribution(exact, exact)


def _model(raw: Mapping[str, Any]) -> str:
    """The model that served, as the line names it."""
    state = raw.get("VWState")
    name = state.get("m") if isinstance(state, dict) else None
    return name[:LONGEST_ID] if isinstance(name, str) else ""
