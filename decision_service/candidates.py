"""The offers that a rank call is about, split by the rules into those to decide among and those that are out."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from contextual_bandit.actions import no_offer
from contextual_bandit.eligibility import KILLED, LoopRules, Situation, prepare, reason_against, split
from contextual_bandit.features import rebuild_features
from contextual_bandit.types import Action, Offer, Removed
from decision_service.held import Candidate, Catalogue, candidate_of
from decision_service.problems import bad_field
from decision_service.schemas import CandidateIn, RankIn


@dataclass(frozen=True, slots=True)
class Asked:
    """Offers that a call names, in its order; absent candidates mean the whole catalogue."""

    offers: Sequence[Candidate]


def asked(request: RankIn, catalogue: Catalogue, field: str) -> Asked:
    """The offers a request asks about.

    Raises:
        Problem: an offer is named twice or unknown.
        BadFeature: an inline offer's feature cannot be used.
    """
    if request.candidates is None:
        return Asked(list(catalogue.candidates.values()))
    ids = [entry if isinstance(entry, str) else entry.offer_id for entry in request.candidates]
    if len(set(ids)) < len(ids):
        repeated = next(offer_id for index, offer_id in enumerate(ids) if offer_id in ids[:index])
        raise bad_field(field + "candidates", repeated, "an offer may be a candidate once")
    unknown = unknown_ids(request, catalogue)
    if unknown:
        raise bad_field(field + "candidates", ", ".join(unknown[:10]), "unknown offers")
    found: list[Candidate] = []
    for index, entry in enumerate(request.candidates):
        if isinstance(entry, CandidateIn):
            found.append(_inline(entry, catalogue, f"{field}candidates.{index}.features"))
        else:
            found.append(catalogue.candidates[entry])
    return Asked(found)


def unknown_ids(request: RankIn, catalogue: Catalogue) -> list[str]:
    """Named candidates that this version of the catalogue lacks."""
    named = [entry for entry in request.candidates or () if isinstance(entry, str)]
    return [offer_id for offer_id in named if offer_id not in catalogue.offers]


def eligible(
    asked_for: Asked, situation: Situation, rules: LoopRules, killed: Set[str] = frozenset()
) -> tuple[list[Candidate], list[Removed]]:
    """Those among whom to decide, and the removed ones with their reasons; ``killed`` are out whatever rules say."""
    offers, stopped = asked_for.offers, list[Removed]()
    if killed:
        stopped = [Removed(one.offer.offer_id, KILLED) for one in offers if one.offer.offer_id in killed]
        offers = [one for one in offers if one.offer.offer_id not in killed]
    kept, removed = split([candidate.prepared for candidate in offers], situation, rules)
    candidates = {candidate.offer.offer_id: candidate for candidate in offers}
    return [candidates[entry.offer.offer_id] for entry in kept], stopped + removed


def fallback_of(
    name: str, catalogue: Catalogue, situation: Situation, rules: LoopRules, action: Callable[[Candidate], Action],
    killed: Set[str] = frozenset(),
) -> Action:  # fmt: skip
    """What is served when nothing is eligible: the loop's fallback if the rules let it, else no offer at all.

    An offer with limits cannot be a fallback: nobody would count it.
    """
    prepared = catalogue.prepared.get(name)
    if prepared is None or name in killed or reason_against(prepared, situation, rules) is not None:
        return no_offer()
    entry = catalogue.units.get(name)
    if entry is not None and entry.is_limited:
        return no_offer()
    return action(catalogue.candidates[name])


def _inline(entry: CandidateIn, catalogue: Catalogue, path: str) -> Candidate:
    features = rebuild_features(entry.features, path)
    category = features.get("category")
    name = category if isinstance(category, str) else ""
    known = catalogue.prepared.get(entry.offer_id)
    if known is not None:
        # An offer of the catalogue keeps its gates and limits, whatever features a request gives it.
        offer = replace(known.offer, category=name or known.offer.category, features=features, version=0)
        return candidate_of(replace(known, offer=offer), features)
    # What is sensitive in the catalogue is so when it comes with a request.
    tags = tuple(sorted(catalogue.sensitive.get(name, ())))
    return candidate_of(prepare(Offer(entry.offer_id, name, features=features, tags=tags, version=0)), features)
