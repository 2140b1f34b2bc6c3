"""The offer that is shown when the service is away, and how its decision is told from a real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from offerloop_client.wire import RankedSlotOut, RankIn, RankOut, SlotIn

PREFIX: Final = "fallback:"
# The position of an outcome or activation of a local decision: it was dropped here.
NOT_SENT: Final = "not-sent"
Fallback: TypeAlias = str | Sequence[str]


class RankAnswer(RankOut):
    """The service's decision, or with ``fallback`` the local one."""

    # Whether the service was away and the offer is the caller's own fallback. Nothing of it is logged or learned.
    fallback: bool


def local_answer(request: RankIn, fallback: Fallback) -> RankAnswer:
    """The answer without the service: the first offer of ``fallback``, or one for each slot as far as they go.

    Its decision_id says that it is local. The service may have logged a decision under the id that was asked for,
    when only its answer came too late; it drew another offer than was shown, so nothing may be credited to it.
    """
    offers = [fallback] if isinstance(fallback, str) else list(fallback)
    answer: RankAnswer = {
        "decision_id": PREFIX + str(request.get("decision_id")),
        "offer_id": offers[0],
        "ranking": [],
        "policy_id": "local-fallback",
        "snapshot_id": "",
        "learning_mode": "logging_only",
        "use": "fallback",
        "fallback": True,
    }
    slots = request.get("slots")
    if slots is not None:
        names = [str(place) for place in range(slots)] if isinstance(slots, int) else _names(slots)
        answer["slots"] = [_slot(name, offer_id) for name, offer_id in zip(names, offers, strict=False)]
    return answer


def _names(slots: Sequence[SlotIn]) -> list[str]:
    return [slot.get("id") or str(place) for place, slot in enumerate(slots)]


def _slot(slot_id: str, offer_id: str) -> RankedSlotOut:
    return {"slot_id": slot_id, "offer_id": offer_id, "propensity": None, "ranking": []}


def is_local(decision_id: str) -> bool:
    """Whether a decision was made here because the service was away."""
    return decision_id.startswith(PREFIX)
