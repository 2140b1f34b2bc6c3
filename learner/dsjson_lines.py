"""Interactions as lines that Vowpal Wabbit reads (dsjson), with the features that it learned from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contextual_bandit.events import to_text
from contextual_bandit.slots import slot_context
from contextual_bandit.types import Action, Context, Decision, LoggedInteraction, SlotDecision
from contextual_bandit.vowpal import action_numbers, context_numbers

Namespaces = Mapping[str, Mapping[str, float]]


def line_of(interaction: LoggedInteraction, given: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """An interaction as a line's object; None when nothing was drawn, so that there is nothing to learn.

    What no policy may learn from has ``_skipLearn``. Costs are negated rewards, not those that the loop's range makes.

    Args:
        interaction: closed, with its reward.
        given: features as another service gave them (``c`` of its line), which are written instead of our own.
    """
    decision = interaction.decision
    if all(slot.propensity is None for slot in decision.slots):
        return None
    c = _features(decision) if given is None else dict(given)
    return _slate(interaction, c) if decision.has_slots else _single(interaction, c)


def _single(interaction: LoggedInteraction, c: dict[str, Any]) -> dict[str, Any]:
    decision, cost = interaction.decision, 0.0 - interaction.reward
    slot = decision.slots[0]
    order = _ranking(slot, range(len(decision.actions)))
    # Vowpal Wabbit learns nothing, and says nothing, when the label stands behind the features.
    return {
        "_label_cost": cost,
        "_label_probability": slot.propensity,
        "_label_Action": slot.chosen + 1,
        "_labelIndex": slot.chosen,
        **_skipped(interaction),
        "o": [{"v": interaction.reward, "EventId": decision.decision_id}],
        **_head(decision),
        "a": [index + 1 for index in order],
        "c": c,
        **_probabilities("p", slot, order),
        **_tail(decision),
        "_original_label_cost": cost,
    }


def _slate(interaction: LoggedInteraction, c: dict[str, Any]) -> dict[str, Any]:
    decision = interaction.decision
    slots = zip(decision.slots, interaction.slot_rewards, strict=True)
    outcomes = [_outcome(slot, reward) for slot, reward in slots if slot.propensity is not None]
    # Here it is the other way round: the slots must be known before their outcomes.
    return {
        **_skipped(interaction),
        **_head(decision),
        "c": c,
        "_outcomes": outcomes,
        **_tail(decision),
    }


def _outcome(slot: SlotDecision, reward: float) -> dict[str, Any]:
    served = () if slot.distribution is None else slot.distribution.served
    order = _ranking(slot, [index for index, one in enumerate(served) if one > 0.0 or index == slot.chosen])
    cost = 0.0 - reward
    return {
        "_label_cost": cost,
        "_id": slot.slot_id,
        "_a": order,
        **_probabilities("_p", slot, order),
        "_o": [{"v": reward, "EventId": slot.slot_id}],
        "_original_label_cost": cost,
    }


def _ranking(slot: SlotDecision, indices: Sequence[int]) -> list[int]:
    """The chosen action, then the others by falling probability."""
    served = slot.distribution.served if slot.distribution else ()
    return sorted(indices, key=lambda index: (index != slot.chosen, -served[index] if served else 0.0, index))


def _probabilities(name: str, slot: SlotDecision, order: Sequence[int]) -> dict[str, list[float]]:
    return {} if slot.distribution is None else {name: [slot.distribution.served[index] for index in order]}


def _skipped(interaction: LoggedInteraction) -> dict[str, bool]:
    # What an apprentice learned is its own choice, and that was not served.
    return {} if interaction.use == "learn" and not interaction.decision.own else {"_skipLearn": True}


def _head(decision: Decision) -> dict[str, str]:
    return {"Timestamp": to_text(decision.occurred_at), "Version": "1", "EventId": decision.decision_id}


def _tail(decision: Decision) -> dict[str, Any]:
    return {"VWState": {"m": decision.snapshot_id}, "pdrop": 0.0}


def _features(decision: Decision) -> dict[str, Any]:
    """The features as Vowpal Wabbit had them: indicators by their whole names, so that they hash as they did."""
    c: dict[str, Any] = {**_without_zeros(context_numbers(decision.context))}
    c["_multi"] = [_action(action) for action in decision.actions]
    if decision.has_slots:
        places = {action.offer_id: index for index, action in enumerate(decision.actions)}
        # Vowpal Wabbit refuses more slots than actions, and those for which nothing was left were not drawn.
        c["_slots"] = [_slot(slot, places) for slot in decision.slots if slot.propensity is not None]
    return c


def _action(action: Action) -> dict[str, Any]:
    return {"_tag": action.offer_id, **_without_zeros(action_numbers(action))}


def _slot(slot: SlotDecision, places: Mapping[str, int]) -> dict[str, Any]:
    out = {places[offer_id] for offer_id in slot.exclude if offer_id in places}
    allowed = {"_inc": [index for index in places.values() if index not in out]} if out else {}
    return {"_id": slot.slot_id, **allowed, **_without_zeros(context_numbers(slot_context(Context({}), slot.features)))}


def _without_zeros(namespaces: Namespaces) -> dict[str, dict[str, float]]:
    kept = {name: {key: one for key, one in features.items() if one != 0.0} for name, features in namespaces.items()}
    return {name: features for name, features in kept.items() if features}
