"""Rank calls with several slots: what is asked of each, checked, and the answer's part about each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from contextual_bandit.decide import ranking
from contextual_bandit.features import IDENTITY_NAMES, check_identity, rebuild_features
from contextual_bandit.slots import SlotAsked, slot_views
from contextual_bandit.types import Decision, Offer
from decision_service.problems import bad_field
from decision_service.schemas import RankIn, SlotIn


def slots_asked(request: RankIn, field: str) -> tuple[SlotAsked, ...] | None:
    """The slots of a request, each with an id; None when none are asked for.

    Raises:
        Problem: an id stands twice, or a slot excludes its own baseline.
        BadFeature: a feature cannot be used, or says who somebody is.
    """
    if request.slots is None:
        return None
    if isinstance(request.slots, int):
        return tuple(SlotAsked(str(index)) for index in range(request.slots))
    found: dict[str, SlotAsked] = {}
    for index, slot in enumerate(request.slots):
        slot_id = str(index) if slot.id is None else slot.id
        if slot_id in found:
            raise bad_field(f"{field}slots.{index}.id", slot_id, "another slot has this id")
        if slot.baseline is not None and slot.baseline in slot.exclude:
            raise bad_field(f"{field}slots.{index}.baseline", slot.baseline, "the slot excludes it")
        found[slot_id] = _asked(slot_id, slot, f"{field}slots.{index}.features")
    return tuple(found.values())


def _asked(slot_id: str, slot: SlotIn, path: str) -> SlotAsked:
    check_identity(slot.features, path, IDENTITY_NAMES)
    exclude = tuple(dict.fromkeys(slot.exclude))
    return SlotAsked(slot_id, rebuild_features(slot.features, path), slot.baseline, exclude)


def named_by_slots(request: RankIn) -> set[str]:
    """The offers that slots name as their baseline, or exclude."""
    slots = request.slots if isinstance(request.slots, list) else ()
    return {name for slot in slots for name in (slot.baseline, *slot.exclude) if name is not None}


def check_named(slots: Sequence[SlotAsked], offers: Collection[str], field: str) -> None:
    """Refuse slots that name offers which the call is not about.

    Raises:
        Problem: a baseline or an excluded offer is none of ``offers``.
    """
    for index, slot in enumerate(slots):
        if slot.baseline is not None and slot.baseline not in offers:
            raise bad_field(f"{field}slots.{index}.baseline", slot.baseline, "is none of the candidates")
        for place, name in enumerate(slot.exclude):
            if name not in offers:
                raise bad_field(f"{field}slots.{index}.exclude.{place}", name, "is none of the candidates")


def slots_out(decision: Decision, offers: Mapping[str, Offer]) -> list[dict[str, Any]]:
    """The answer's part about each slot (shape RankedSlotOut)."""
    return [
        {
            "slot_id": view.slots[0].slot_id,
            "offer_id": view.chosen.offer_id,
            "propensity": view.slots[0].propensity,
            "ranking": [{"offer_id": offer_id, "probability": one} for offer_id, one in ranking(view)],
            **shown_parts(view, offers),
        }
        for view in slot_views(decision)
    ]


def shown_parts(decision: Decision, offers: Mapping[str, Offer]) -> dict[str, Any]:
    """What the catalogue says of showing the chosen offer, if anything: its code and its creative."""
    offer = offers.get(decision.chosen.offer_id) if decision.chosen.version else None
    return {"code": offer.code, "creative": offer.creative} if offer and (offer.code or offer.creative) else {}
