"""The offers of a decision in the log's JSON: its actions with their affinities, and what was removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contextual_bandit.types import Action, Features, Removed


def choice_parts(actions: Sequence[Action], removed: Sequence[Removed]) -> dict[str, Any]:
    """The parts of a decision's JSON that are about its actions and its removed offers.

    Affinity features become columns when all actions share their names.
    """
    names, rows = _columns([action.affinity for action in actions])
    return {
        "actions": [action_payload(action) for action in actions],
        "affinity_names": names,
        "affinity": rows,
        "removed": [[entry.offer_id, entry.reason] for entry in removed],
    }


def actions_from(payload: Mapping[str, Any]) -> tuple[Action, ...]:
    """The actions of a decision's payload."""
    pairs = zip(payload["actions"], payload["affinity"], strict=True)
    return tuple(action_at(payload, index) for index, _ in enumerate(pairs))


def action_at(payload: Mapping[str, Any], index: int) -> Action:
    """One of them."""
    names, row = payload["affinity_names"], payload["affinity"][index]
    affinity = row if names is None else dict(zip(names, row, strict=True))
    return action_from(payload["actions"][index], affinity)


def action_payload(action: Action) -> list[Any]:
    """An action as JSON, without its affinity."""
    plain: list[Any] = [action.offer_id, action.version, action.features]
    return [*plain, action.cost, action.promoted] if action.cost or action.promoted else plain


def action_from(raw: Sequence[Any], affinity: Features) -> Action:
    """An action read back."""
    offer_id, version, features, *rest = raw
    return Action(offer_id, features, affinity, version, *rest)


def _columns(rows: Sequence[Features]) -> tuple[list[str] | None, list[Any]]:
    names = list(rows[0]) if rows else []
    if all(list(row) == names for row in rows):
        return names, [list(row.values()) for row in rows]
    return None, list(rows)
