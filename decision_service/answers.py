"""Decisions as rank calls are answered (shape RankOut)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contextual_bandit.decide import ranking
from contextual_bandit.slots import slot_view
from contextual_bandit.types import Decision
from decision_service.schemas import RankIn
from decision_service.slates import shown_parts, slots_out
from decision_service.state import Service
from decision_service.sticky import SessionDecision


async def rank_answer(service: Service, body: RankIn, decision: Decision) -> Mapping[str, Any]:
    """The answer to a request for which a decision was made."""
    offers = service.serving.catalogue.offers
    answer = {**_rank_out(decision), **shown_parts(decision, offers)}
    if isinstance(decision, SessionDecision):
        answer["sticky"] = True
    if body.slots is not None:
        answer["slots"] = slots_out(decision, offers)
    if body.explain:
        answer["why"] = await service.explainer.explain(decision, service.serving.loops.get(decision.loop))
    return answer


def _rank_out(decision: Decision) -> dict[str, Any]:
    return {
        "decision_id": decision.decision_id,
        "offer_id": decision.chosen.offer_id,
        "ranking": [{"offer_id": offer_id, "probability": p} for offer_id, p in ranking(slot_view(decision, 0))],
        "policy_id": decision.policy_id,
        "snapshot_id": decision.snapshot_id,
        "learning_mode": decision.learning_mode,
        "use": decision.use,
    }
