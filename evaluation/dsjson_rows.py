"""Lines of Vowpal Wabbit's decision service (dsjson), read and checked: what was chosen, how likely, what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evaluation.json_log import event_id_of
from evaluation.log_rows import UNKNOWN_TIME, Row, utc
from evaluation.row_faults import BadRow, check_served, index_of, number_of, numbers_of, propensity_of


@dataclass(frozen=True, slots=True)
class SlotRow:
    """One slot of a line with several.

    Attributes:
        slot_id: its id; its place from 0 where it has none.
        chosen: index of the action that it showed.
        propensity: the probability of that, given what the slots above it show.
        reward: its negated cost.
        served: one probability for each action; 0 for those that were not left to it.
        features: as they were written, without what begins with "_".
        allowed: the only actions that it might show; None when any.
    """

    slot_id: str
    chosen: int
    propensity: float
    reward: float
    served: Sequence[float]
    features: Mapping[str, Any]
    allowed: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class SlateRow:
    """A usable line with several slots; ``at`` is UTC and naive, UNKNOWN_TIME where the line does not say."""

    event_id: str
    at: datetime
    ids: Sequence[str]
    slots: Sequence[SlotRow]


def read_single(raw: Mapping[str, Any]) -> Row:
    """Read a line of one decision.

    Raises:
        BadRow: it cannot be used.
    """
    _check_kind(raw)
    if "_label_cost" not in raw:
        raise BadRow("_label_cost", "several slots" if "_outcomes" in raw else "missing")
    context, actions = _context(raw)
    chosen = _chosen(raw, len(actions))
    propensity = propensity_of(raw.get("_label_probability"))
    served = _served(raw, len(actions))
    if served is not None:
        check_served(served, chosen, propensity)
    return Row(
        event_id=event_id_of(raw.get("EventId")),
        at=utc(raw.get("Timestamp")) or UNKNOWN_TIME,
        chosen=chosen,
        propensity=propensity,
        reward=-number_of(raw["_label_cost"], "_label_cost") + 0.0,
        ids=[str(one["id"]) for one in actions],
        served=served,
        context=context,
        actions=actions,
    )


def read_slate(raw: Mapping[str, Any]) -> SlateRow:
    """Read a line of several slots (``_outcomes``), each of which was drawn after those above it.

    Raises:
        BadRow: it cannot be used; a slot without a label or a repeated offer makes the whole line unusable.
    """
    _check_kind(raw)
    _, actions = _context(raw)
    outcomes, slots = raw.get("_outcomes"), raw["c"].get("_slots")
    if not isinstance(outcomes, list) or not outcomes or not all(isinstance(one, dict) for one in outcomes):
        raise BadRow("_outcomes", "no list of objects", outcomes)
    if slots is None:
        slots = [{}] * len(outcomes)
    if not isinstance(slots, list) or len(slots) != len(outcomes) or not all(isinstance(one, dict) for one in slots):
        raise BadRow("c._slots", "not one object for each of _outcomes", slots)
    rows = [
        _slot(outcome, slot, index, len(actions))
        for index, (outcome, slot) in enumerate(zip(outcomes, slots, strict=True))
    ]
    if len({one.chosen for one in rows}) < len(rows):
        raise BadRow("_outcomes", "shows an action twice", [one.chosen for one in rows])
    if len({one.slot_id for one in rows}) < len(rows):
        raise BadRow("_outcomes", "names a slot twice", [one.slot_id for one in rows])
    # Lines of some versions have an id for each slot alone.
    event_id = raw.get("EventId", outcomes[0].get("_id"))
    return SlateRow(
        event_id_of(event_id), utc(raw.get("Timestamp")) or UNKNOWN_TIME, [str(one["id"]) for one in actions], rows
    )


def chosen_leads(raw: Mapping[str, Any], chosen: int) -> bool:
    """Whether the ranking ``a`` begins with the chosen action, as it should; in real logs it does not always."""
    order = raw.get("a")
    return not isinstance(order, list) or not order or _less_one(order[0]) == chosen


def was_thinned(raw: Mapping[str, Any]) -> bool:
    """Whether lines before this one were dropped at random (``pdrop`` above 0)."""
    pdrop = raw.get("pdrop")
    return isinstance(pdrop, int | float) and pdrop > 0.0


def merged(value: Any) -> Any:
    """Objects that a list spreads one namespace over, as one; what begins with "_" is no feature."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        found: dict[str, Any] = {}
        for one in value:
            found |= merged(one)
        return found
    if isinstance(value, dict):
        return {name: merged(one) for name, one in value.items() if not name.startswith("_")}
    return value


def _check_kind(raw: Mapping[str, Any]) -> None:
    """Refuse lines that tell of no decision, and decisions that nobody may learn from."""
    if "checkpoint_info" in raw:
        raise BadRow("line", "a checkpoint")
    if "c" not in raw and not raw.keys() & {"_label_cost", "_outcomes"} and "EventId" in raw:
        raise BadRow("line", "an observation without its decision")
    if raw.get("_skipLearn") is True:
        raise BadRow("_skipLearn", "set")


def _context(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The shared context and the actions, each with an id and features."""
    c = raw.get("c")
    if not isinstance(c, dict):
        raise BadRow("c", "missing" if c is None else "no object", c)
    multi = c.get("_multi")
    if not isinstance(multi, list) or not multi:
        raise BadRow("c._multi", "missing" if not multi else "no list", multi)
    actions = []
    for index, action in enumerate(multi):
        if not isinstance(action, dict):
            raise BadRow("c._multi", "holds what is no object", action)
        actions.append({"id": _action_id(action, index), "features": merged(action)})
    return {name: merged(value) for name, value in c.items() if not name.startswith("_")}, actions


def _action_id(action: Mapping[str, Any], index: int) -> str:
    """The id that clients write into namespace ``i``, the tag, or the index."""
    inner = action.get("i")
    name = inner.get("id") if isinstance(inner, dict) else None
    for one in (action.get("id"), name, action.get("_tag")):
        if isinstance(one, str | int) and not isinstance(one, bool) and one != "":
            return str(one)
    return str(index)


def _chosen(raw: Mapping[str, Any], actions: int) -> int:
    """``_labelIndex`` counts from 0, ``_label_Action`` from 1; where both stand they must agree."""
    index, action = raw.get("_labelIndex"), raw.get("_label_Action")
    if index is None and action is None:
        raise BadRow("_labelIndex", "missing")
    chosen = index_of(index if index is not None else _less_one(action), actions)
    if index is not None and action is not None and _less_one(action) != chosen:
        raise BadRow("_label_Action", "not that of _labelIndex", action)
    return chosen


def _less_one(action: Any) -> Any:
    return action - 1 if isinstance(action, int | float) and not isinstance(action, bool) else action


def _served(raw: Mapping[str, Any], actions: int) -> list[float] | None:
    """Probabilities in the order of the actions; None where they or their order are not told."""
    if raw.get("p") is None or raw.get("a") is None:
        return None
    order = raw["a"]
    probabilities = numbers_of(raw["p"], "p", actions)
    if not isinstance(order, list) or len(order) != actions:
        raise BadRow("a", "not one number per action", order)
    served = [math.nan] * actions
    for one, probability in zip(order, probabilities, strict=True):
        served[index_of(_less_one(one), actions)] = probability
    if any(map(math.isnan, served)):
        raise BadRow("a", "names an action twice", order)
    return served


def _slot(outcome: Mapping[str, Any], slot: Mapping[str, Any], index: int, actions: int) -> SlotRow:
    if "_label_cost" not in outcome:
        raise BadRow("_outcomes._label_cost", "missing")
    order, probabilities = _listed(outcome.get("_a")), _listed(outcome.get("_p"))
    if not order or len(order) != len(probabilities):
        raise BadRow("_outcomes._a", "not one action for each of _p", outcome.get("_a"))
    served = [0.0] * actions
    left = [index_of(one, actions) for one in order]
    if len(set(left)) < len(left):
        raise BadRow("_outcomes._a", "names an action twice", order)
    for place, probability in zip(left, numbers_of(probabilities, "_outcomes._p", len(left)), strict=True):
        served[place] = probability
    propensity = propensity_of(served[left[0]])
    # Some versions tell the probability of what was shown alone.
    if len(left) > 1:
        check_served(served, left[0], propensity)
    slot_id = outcome.get("_id", slot.get("_id"))
    allowed = slot.get("_inc")
    return SlotRow(
        slot_id=str(index) if slot_id is None else event_id_of(slot_id),
        chosen=left[0],
        propensity=propensity,
        reward=-number_of(outcome["_label_cost"], "_outcomes._label_cost") + 0.0,
        served=served,
        features=merged(slot),
        allowed=frozenset(index_of(one, actions) for one in allowed) if isinstance(allowed, list) else None,
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
