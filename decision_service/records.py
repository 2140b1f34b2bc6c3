"""Stored things as the API shows them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from adapters.interaction_log import LoopCounts, StoredDecision
from adapters.records import loop_record, offer_record
from contextual_bandit.loops import LoopConfig
from contextual_bandit.profile import Profile
from contextual_bandit.slots import is_match
from contextual_bandit.types import CustomerRecord, Decision, Offer, OwnChoice, SlotDecision
from decision_service.catalogue_schemas import CustomerOut, OfferOut
from decision_service.loop_schemas import FeatureSchemaOut, LoopOut, LoopStatusOut
from decision_service.schemas import ActionOut, DecisionOut, OutcomeOut, OwnChoiceOut, RemovedOut, SlotOut


def decision_out(decision: Decision, stored: StoredDecision | None) -> DecisionOut:
    """A decision's whole record; without ``stored`` it is logged but not yet joined."""
    return DecisionOut.model_validate(
        {
            "loop": decision.loop,
            "decision_id": decision.decision_id,
            "state": stored.state if stored else "logged",
            "decided_at": decision.decided_at,
            "occurred_at": decision.occurred_at,
            "customer_id": decision.customer_id,
            "context": decision.context.namespaces,
            "eligible": [
                ActionOut(
                    offer_id=action.offer_id, version=action.version, features=dict(action.features),
                    affinity=dict(action.affinity),
                )
                for action in decision.actions
            ],
            "removed": [RemovedOut(offer_id=entry.offer_id, reason=entry.reason) for entry in decision.removed],
            "slots": _slots(decision, stored),
            "policy_id": decision.policy_id,
            "snapshot_id": decision.snapshot_id,
            "learning_mode": decision.learning_mode,
            "use": decision.use,
            "deferred": decision.deferred,
            "sources": decision.sources,
            "dropped": list(decision.dropped),
            "outcomes": _outcomes(stored),
            "reward": stored.reward if stored else None,
            "closed_at": stored.closed_at if stored else None,
            "own": [_own(decision, index, own) for index, own in enumerate(decision.own)],
        }
    )  # fmt: skip


def offer_out(offer: Offer) -> OfferOut:
    """A stored offer."""
    return OfferOut.model_validate({**offer_record(offer), "offer_id": offer.offer_id, "version": offer.version})


def customer_out(customer_id: str, record: CustomerRecord, profile: Profile | None) -> CustomerOut:
    """A stored customer, with what the activity adds up to."""
    return CustomerOut.model_validate(
        {**asdict(record), "customer_id": customer_id, "profile": profile_out(profile) if profile else None}
    )


def loop_out(config: LoopConfig, counts: LoopCounts | None, snapshots: int, serving: str | None) -> LoopOut:
    """Stored settings, with the loop's state when it was counted."""
    status = None
    if counts is not None:
        status = LoopStatusOut(**asdict(counts), snapshots=snapshots, snapshot_id=serving)
    return LoopOut.model_validate(loop_record(config) | {"status": status})


def schema_out(config: LoopConfig) -> FeatureSchemaOut:
    """A loop's feature schema; an empty one when it has none."""
    schema = loop_record(config)["schema"] or {"features": {}, "unknown": "drop"}
    return FeatureSchemaOut.model_validate({**schema, "loop": config.loop, "version": config.version})


def profile_out(profile: Profile) -> dict[str, Any]:
    """A profile for people: counts and, per category, purchase days and the newest of them (days since 1970)."""
    return {
        "purchases": profile.purchases,
        "spend": profile.spend,
        "browses": profile.browses,
        "categories": {
            name: {
                "purchase_days": history.days.bit_count(), "last_day": history.last_day, "orders": history.orders,
                "spend": history.spend, "interest": history.interest,
            }
            for name, history in sorted(profile.categories.items())
        },
    }  # fmt: skip


def _slots(decision: Decision, stored: StoredDecision | None) -> list[SlotOut]:
    rewards = stored.slot_rewards if stored else ()
    return [
        _slot(decision, slot, rewards[index] if rewards else None) for index, slot in enumerate(decision.slots)
    ]  # fmt: skip


def _slot(decision: Decision, slot: SlotDecision, reward: float | None) -> SlotOut:
    given = slot.distribution
    return SlotOut(
        offer_id=decision.shown(slot.index).offer_id, propensity=slot.propensity,
        policy_probabilities=list(given.policy) if given else None,
        served_probabilities=list(given.served) if given else None, draw=slot.draw,
        slot_id=slot.slot_id or None, features=dict(slot.features), baseline=slot.baseline,
        exclude=list(slot.exclude), reward=reward,
        removed=[RemovedOut(offer_id=entry.offer_id, reason=entry.reason) for entry in slot.removed],
    )  # fmt: skip


def _own(decision: Decision, index: int, own: OwnChoice) -> OwnChoiceOut:
    return OwnChoiceOut(
        offer_id=decision.actions[own.chosen].offer_id, propensity=own.propensity,
        policy_probabilities=list(own.distribution.policy), served_probabilities=list(own.distribution.served),
        draw=own.draw, is_match=is_match(decision, index),
    )  # fmt: skip


def _outcomes(stored: StoredDecision | None) -> list[OutcomeOut]:
    if stored is None:
        return []
    return [
        OutcomeOut(
            outcome_id=outcome.outcome_id, kind=outcome.kind, value=outcome.value, final=outcome.final,
            received_at=outcome.received_at, state=state, slot=outcome.slot,
        )
        for outcome, state in stored.outcomes
    ]  # fmt: skip
