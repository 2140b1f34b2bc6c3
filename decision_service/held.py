"""The catalogue and precomputed values as a service process holds them: prepared once per change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, TypeVar

from adapters.units import Entry, entries
from contextual_bandit.actions import offer_features
from contextual_bandit.cells import Cells, decode_cells
from contextual_bandit.eligibility import PreparedOffer, prepare, sensitive_words
from contextual_bandit.similarity import Similarity, decode_similarity
from contextual_bandit.thresholds import RfmThresholds, decode_thresholds
from contextual_bandit.types import Features, Offer

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer that a call may be about, with its gates and its features; version 0 came with the request.

    ``category`` is what affinity is about; an inline offer may have none.
    """

    prepared: PreparedOffer
    offer: Offer
    features: Features
    category: str | None


def candidate_of(prepared: PreparedOffer, features: Features) -> Candidate:
    """An offer as a candidate."""
    return Candidate(prepared, prepared.offer, features, prepared.offer.category or None)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All offers at one version, by id: with their gates, as candidates with what the policy sees, and their units.

    ``sensitive`` are the categories that sensitive offers are in, with the tags whose consent opens them; ``turns``
    the moments at which an offer begins or ceases to be valid, in order.
    """

    version: int = -1
    offers: Mapping[str, Offer] = field(default_factory=dict)
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    prepared: Mapping[str, PreparedOffer] = field(default_factory=dict)
    units: Mapping[str, Entry] = field(default_factory=dict)
    sensitive: Mapping[str, frozenset[str]] = field(default_factory=dict)
    turns: Sequence[datetime] = ()

    def hidden(self, categories: Iterable[str], consents: frozenset[str]) -> frozenset[str]:
        """Those of the categories that are sensitive, by an offer's tags or by name, and not opened by consents."""
        return frozenset(
            category
            for category in categories
            if not (self.sensitive.get(category, frozenset()) | sensitive_words((category,))) <= consents
        )


@dataclass(frozen=True, slots=True)
class Precomputed:
    """What jobs computed of all customers: rates of demographic cells, similar items, limits of quintiles.

    ``marks`` are of the stored values that they were read from.
    """

    cells: Cells | None = None
    similarity: Similarity = field(default_factory=Similarity)
    thresholds: RfmThresholds = field(default_factory=RfmThresholds)
    marks: Mapping[str, bytes] = field(default_factory=dict)

    def with_value(self, name: str, value: bytes) -> Precomputed:
        """The same with one stored value read anew; the same object when that value is the one it has."""
        mark = blake2b(value, digest_size=16).digest()
        if self.marks.get(name) == mark:
            return self
        return replace(self, marks={**self.marks, name: mark}, **{name: PRECOMPUTED[name](value)})


# By name: how a stored value is read.
PRECOMPUTED: Mapping[str, Callable[[bytes], Any]] = {
    "cells": decode_cells,
    "similarity": decode_similarity,
    "thresholds": decode_thresholds,
}


def same_where_equal(before: Mapping[str, Value], fresh: Mapping[str, Value]) -> dict[str, Value]:
    """What was read afresh, with the objects from before that are equal: much is kept for the very same object."""
    return {name: before[name] if before.get(name) == value else value for name, value in fresh.items()}


def make_catalogue(version: int, offers: Sequence[Offer], before: Catalogue) -> Catalogue:
    """Everything that decisions need of the offers; what has not changed since ``before`` is taken over."""
    if version == before.version and list(offers) == list(before.offers.values()):
        return before
    prepared = {offer.offer_id: _prepared(offer, before) for offer in offers}
    sensitive: dict[str, frozenset[str]] = {}
    for entry in prepared.values():
        if entry.sensitive:
            category = entry.offer.category
            sensitive[category] = sensitive.get(category, frozenset()) | frozenset(entry.sensitive)
    return Catalogue(
        version,
        {offer.offer_id: offer for offer in offers},
        {name: candidate_of(entry, offer_features(entry.offer)) for name, entry in prepared.items()},
        prepared,
        entries(offers),
        sensitive,
        sorted({at for offer in offers for at in (offer.valid_from, offer.valid_to) if at is not None}),
    )


def _prepared(offer: Offer, before: Catalogue) -> PreparedOffer:
    known = before.prepared.get(offer.offer_id)
    return known if known is not None and known.offer == offer else prepare(offer)
