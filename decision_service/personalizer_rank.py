"""Routes of the Personalizer API that choose and reward: rank, reward, activate, and the same for several slots."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from adapters.streams import loop_stream
from contextual_bandit import events
from contextual_bandit.decide import is_by_campaign_baseline, ranking
from contextual_bandit.reward import DIRECT, outcome_value
from contextual_bandit.types import Decision
from decision_service.personalizer_call import Call
from decision_service.personalizer_errors import PersonalizerError, invalid, json_response, no_content
from decision_service.personalizer_features import anonymous, context_features, merged, shown_name
from decision_service.personalizer_shapes import (
    ActionBody,
    MultiSlotRankBody,
    MultiSlotRewardBody,
    RankBody,
    RewardBody,
    SlotBody,
)
from decision_service.schemas import CandidateIn, RankIn, SlotIn
from decision_service.serving import utc_now

RANK = "InvalidRankRequest"
REWARD = "InvalidRewardRequest"
ACTIVATE = "InvalidEventIdToActivate"
MULTI_SLOT_OFF = "several slots need a policy with --ccb_explore_adf"


async def rank(call: Call) -> Response:
    """``POST /rank``."""
    body = await call.json(RankBody, RANK)
    names = _checked_actions(body.actions)
    excluded = [name for name in names if name in set(body.excluded_actions)]
    if len(excluded) == len(names):
        raise invalid(RANK, "every action is excluded", "excludedActions")
    settings = await call.settings()
    left = [_candidate(index, one) for index, one in enumerate(body.actions) if one.id not in excluded]
    request = RankIn.model_validate(_asked(call, body) | {"candidates": left})
    decision = await call.service.ranker.rank_afresh(request, excluded)
    if decision.chosen.offer_id not in names:
        raise invalid(RANK, "the loop's rules leave none of the actions", "actions")
    answer: dict[str, Any] = {
        "ranking": _ranked(decision, names),
        "eventId": decision.decision_id,
        "rewardActionId": decision.chosen.offer_id,
    }
    if settings.is_explained:
        answer["inferenceExplanation"] = await _explained(call, decision)
    return json_response(answer, 201)


async def reward(call: Call) -> Response:
    """``POST /events/{eventId}/reward``."""
    event_id = call.event_id(REWARD)
    body = await call.json(RewardBody, REWARD)
    await _reward(call, event_id, [(None, body.value)])
    return no_content()


async def activate(call: Call) -> Response:
    """``POST /events/{eventId}/activate``, also of several slots."""
    event_id = call.event_id(ACTIVATE)
    config = await call.config()
    about = await call.service.ranker.logged.first_of(config, event_id)
    message = events.encode(events.ACTIVATION, utc_now(), {"decision_id": about})
    await call.service.writer.append(loop_stream(config.loop), message)
    return no_content()


async def multi_slot_rank(call: Call) -> Response:
    """``POST /multislot/rank``: native draws without replacement, slot after slot."""
    await _check_multi_slot(call)
    body = await call.json(MultiSlotRankBody, RANK)
    names = _checked_actions(body.actions)
    _check_slots(body.slots, names)
    candidates = [_candidate(index, one) for index, one in enumerate(body.actions)]
    slots = [
        SlotIn(id=slot.id, features=_slot_features(index, slot), baseline=slot.baseline_action, exclude=out)
        for index, (slot, out) in enumerate(zip(body.slots, exclusions(body.slots, names), strict=True))
    ]
    request = RankIn.model_validate(_asked(call, body) | {"candidates": candidates, "slots": slots})
    decision = await call.service.ranker.rank_afresh(request)
    shown = [decision.shown(index).offer_id for index in range(len(decision.slots))]
    if not set(shown) <= set(names):
        raise invalid(RANK, "the loop's rules leave none of the actions to a slot", "slots")
    filled = [
        {"id": slot.slot_id, "rewardActionId": offer_id} for slot, offer_id in zip(decision.slots, shown, strict=True)
    ]
    return json_response({"slots": filled, "eventId": decision.decision_id}, 201)


async def multi_slot_reward(call: Call) -> Response:
    """``POST /multislot/events/{eventId}/reward``."""
    await _check_multi_slot(call)
    event_id = call.event_id(REWARD)
    body = await call.json(MultiSlotRewardBody, REWARD)
    await _reward(call, event_id, [(one.slot_id, one.value) for one in body.reward])
    return no_content()


async def multi_slot_activate(call: Call) -> Response:
    """``POST /multislot/events/{eventId}/activate``."""
    await _check_multi_slot(call)
    return await activate(call)


def exclusions(slots: Sequence[SlotBody], names: Sequence[str]) -> list[list[str]]:
    """What each slot must not show, so that whatever earlier slots show leaves every later one something.

    A slot with no more allowed actions than there are slots before it could be left with nothing: its baseline is kept
    for it, which no other slot has for its own.
    """
    found = [dict.fromkeys(slot.excluded_actions) for slot in slots]
    kept: set[int] = set()
    while True:
        tight = next(
            (
                index for index, out in enumerate(found)
                if index not in kept and len(names) - len(out.keys() & set(names)) <= index
            ),
            None,
        )  # fmt: skip
        if tight is None:
            return [list(out) for out in found]
        kept.add(tight)
        for index, out in enumerate(found):
            if index != tight:
                out[slots[tight].baseline_action] = None


async def _reward(call: Call, event_id: str, values: Sequence[tuple[str | None, float]]) -> None:
    """Log outcomes as the native reward does, all or none."""
    config = await call.config()
    now = utc_now()
    about = await call.service.ranker.logged.first_of(config, event_id)
    messages = []
    for slot, value in values:
        worth = outcome_value(config.reward, value, None, None)
        payload = events.outcome_payload(str(uuid.uuid4()), about, DIRECT, worth, False, slot)
        messages.append(events.encode(events.OUTCOME, now, payload))
    for message in messages:
        await call.service.writer.append(loop_stream(config.loop), message)
        call.service.metrics.outcomes.labels(config.loop).inc()


async def _check_multi_slot(call: Call) -> None:
    settings, config = await call.settings(), await call.config()
    if not settings.is_multi_slot or settings.served_arguments != config.arguments:
        raise PersonalizerError(400, "InvalidMultiSlotApiAccess", MULTI_SLOT_OFF)


def _checked_actions(actions: Sequence[ActionBody]) -> list[str]:
    names = [action.id for action in actions]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise invalid(RANK, f"two actions have the id {name!r}", f"actions.{index}.id")
        if not any(actions[index].features):
            raise invalid(RANK, f"action {name!r} has no feature", f"actions.{index}.features")
    return names


def _check_slots(slots: Sequence[SlotBody], names: Sequence[str]) -> None:
    if len(slots) > len(names):
        raise invalid(RANK, f"{len(slots)} slots for {len(names)} actions", "slots")
    for index, slot in enumerate(slots):
        earlier = slots[:index]
        if slot.id in [one.id for one in earlier]:
            raise invalid(RANK, f"two slots have the id {slot.id!r}", f"slots.{index}.id")
        if slot.baseline_action in [one.baseline_action for one in earlier]:
            why = f"{slot.baseline_action!r} is the baseline of two slots"
            raise invalid(RANK, why, f"slots.{index}.baselineAction")
        for name in (slot.baseline_action, *slot.excluded_actions):
            if name not in names:
                raise invalid(RANK, f"slot {slot.id!r} names {name!r}, which is none of the actions", f"slots.{index}")
        if slot.baseline_action in slot.excluded_actions:
            raise invalid(RANK, f"slot {slot.id!r} excludes its baseline", f"slots.{index}.excludedActions")


def _asked(call: Call, body: RankBody | MultiSlotRankBody) -> dict[str, Any]:
    """What both kinds of rank calls ask natively."""
    return {
        "loop": call.loop,
        "context": context_features(body.context_features),
        "decision_id": body.event_id,
        "defer_activation": body.defer_activation,
    }


def _candidate(index: int, action: ActionBody) -> CandidateIn:
    return CandidateIn(offer_id=action.id, features=merged(action.features, f"actions.{index}.features"))


def _slot_features(index: int, slot: SlotBody) -> dict[str, Any]:
    return anonymous(merged([*slot.features, *slot.position_features], f"slots.{index}.features"))


def _ranked(decision: Decision, names: Sequence[str]) -> list[dict[str, Any]]:
    """Every action once: what could be chosen by falling probability, the chosen one first, the rest at its place."""
    given = dict(ranking(decision))
    if decision.use == "baseline" and not is_by_campaign_baseline(decision):
        given = {name: given[name] for name in names if name in given}
    order = iter(given.items())
    places = [next(order) if name in given else (name, 0.0) for name in names]
    return [{"id": name, "probability": probability} for name, probability in places]


async def _explained(call: Call, decision: Decision) -> list[dict[str, Any]]:
    """What speaks for the model's best action, feature by feature."""
    config = await call.config()
    found = await call.service.explainer.explain(decision, config)
    offers = [offer for offer in found["offers"] if offer["policy_probability"] is not None]
    if not offers:
        return []
    best = max(offers, key=lambda offer: offer["policy_probability"])
    features = [
        {"name": _joined(one["name"]), "score": one["reward"]} for one in best["contributions"] if one["reward"]
    ]
    return [{"id": best["offer_id"], "features": features}]


def _joined(name: str) -> str:
    return "^".join(".".join(shown_name(part)) for part in name.split(" × "))
