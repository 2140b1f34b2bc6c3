"""Jobs that compute ahead of decisions: population affinities by cell, item-to-item similarity, RFM thresholds.

Each reads what all customers did in batches and replaces one value as a whole, so that running it again changes
nothing but what new activity says. "Now" is the time of the newest activity: on simulated installations the wall
clock says nothing.
"""

from __future__ import annotations

import importlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np

from adapters.catalogue import LoopStore, OfferCatalogue
from adapters.installation import Installation
from adapters.jobs import Job, JobStore
from adapters.precomputed import Behaviour, Item, PrecomputedStore
from adapters.regions import RegionStore
from contextual_bandit.cells import CellCustomer, fit_cells
from contextual_bandit.context import demographic_features, visible
from contextual_bandit.eligibility import prepare
from contextual_bandit.profile import Profile
from contextual_bandit.similarity import Similarity
from contextual_bandit.thresholds import fit_thresholds
from contextual_bandit.types import SENSITIVE_TAGS, CustomerRecord

CELLS = "cells"
SIMILARITY = "similarity"
THRESHOLDS = "thresholds"

# Bounds of one pass. Of more customers or purchases a share is drawn by hash, the same each time.
MOST_CUSTOMERS = 500_000
MOST_PURCHASES = 2_000_000
MOST_ITEMS: dict[Item, int] = {"category": 2000, "offer_id": 5000}
# Neighbours from so long ago, of items purchased so often, so many of each.
WINDOW = timedelta(days=364)
LEAST_PURCHASES = 5
NEIGHBOURS = 20
TELL_EVERY = 1000

Tell: TypeAlias = Callable[[float], None]
Result: TypeAlias = dict[str, Any]


def precompute(installation: Installation, job: Job) -> Result:
    """Job ``precompute``: all three, one after the other."""
    parts = (fill_cells, fill_similarity, fill_thresholds)
    tell = _teller(installation, job)
    result: Result = {}
    for number, part in enumerate(parts):
        result |= part(installation, _part_of(tell, number, len(parts)))
    return result


def precompute_cells(installation: Installation, job: Job) -> Result:
    """Job ``precompute_cells``: population affinities per demographic cell and season."""
    return fill_cells(installation, _teller(installation, job))


def precompute_similarity(installation: Installation, job: Job) -> Result:
    """Job ``precompute_similarity``: which categories and offers are bought together."""
    return fill_similarity(installation, _teller(installation, job))


def precompute_thresholds(installation: Installation, job: Job) -> Result:
    """Job ``precompute_thresholds``: where the quintiles of recency, frequency and monetary value begin."""
    return fill_thresholds(installation, _teller(installation, job))


def fill_cells(installation: Installation, tell: Tell) -> Result:
    """Compute and store the cells; says which features they are made of."""
    now = _now(installation)
    regions = {region.region: region for region in RegionStore(installation.engine, installation.client).all()}
    southern = frozenset(name for name, region in regions.items() if region.has_southern_seasons)
    # Who has no region is where the loops are, if those agree.
    homes = {config.region for config in LoopStore(installation.engine, installation.client).all()}
    is_home_southern = bool(homes) and homes <= southern
    sensitive = sensitive_items(installation)

    def seen() -> Iterator[CellCustomer]:
        for profile, record in _customers(installation, tell):
            is_southern = record.region in southern if record.region in regions else is_home_southern
            yield CellCustomer(_insensitive(profile, sensitive), demographic_features(record), is_southern)

    cells = fit_cells(seen(), now)
    _store(installation, CELLS, cells.encode())
    return {"cell_features": [feature.name for feature in cells.features], "cell_seasons": sorted(cells.seasons)}


def fill_similarity(installation: Installation, tell: Tell) -> Result:
    """Compute and store the neighbours; says how many items have some."""
    now = _now(installation)
    sensitive = sensitive_items(installation)
    try:
        categories = _neighbours(installation, "category", now, sensitive)
        tell(0.5)
        offers = _neighbours(installation, "offer_id", now, sensitive)
    except ModuleNotFoundError as error:
        return {"similarity_skipped": f"{error}; the extra 'batch' has it"}
    _store(installation, SIMILARITY, Similarity(categories, offers).encode())
    return {"similar_categories": len(categories), "similar_offers": len(offers)}


def fill_thresholds(installation: Installation, tell: Tell) -> Result:
    """Compute and store the thresholds; says them."""
    now = _now(installation)
    thresholds = fit_thresholds((profile for profile, _ in _customers(installation, tell)), now)
    _store(installation, THRESHOLDS, thresholds.encode())
    return {"thresholds": asdict(thresholds)}


def sensitive_items(installation: Installation) -> frozenset[str]:
    """Categories and ids of sensitive offers: what is bought of them says nothing about anybody else."""
    prepared = [prepare(offer) for offer in OfferCatalogue(installation.engine, installation.client).all()]
    found = [entry.offer for entry in prepared if entry.sensitive]
    return frozenset({offer.category for offer in found} | {offer.offer_id for offer in found})


def neighbours_of(pairs: Iterable[tuple[int, str]], items: Sequence[str], most: int) -> dict[str, dict[str, float]]:
    """The nearest items of each by cosine over baskets, at most ``most``, rounded to four decimals, without zeros.

    Args:
        pairs: number of a basket (from 0, ascending) and an item in it, each pair once.
        items: what to compare; others in the baskets are left out.
        most: neighbours per item.

    Raises:
        ModuleNotFoundError: the extra ``batch`` is not installed.
    """
    index = {item: number for number, item in enumerate(items)}
    baskets, columns = array("i"), array("i")
    for basket, item in pairs:
        if item in index:
            baskets.append(basket)
            columns.append(index[item])
    nearest = importlib.import_module("implicit.nearest_neighbours")
    sparse = importlib.import_module("scipy.sparse")
    if not baskets:
        return {}
    rows, items_of = np.frombuffer(baskets, np.intc), np.frombuffer(columns, np.intc)
    # Columns of length 1, so that their products are cosines. The library's CosineRecommender would do this too, and
    # warn of the form that it has made itself.
    weights = 1.0 / np.sqrt(np.bincount(items_of)[items_of])
    matrix = sparse.csr_matrix((weights, (rows, items_of)), shape=(baskets[-1] + 1, len(items)))
    # Each item is its own nearest.
    model = nearest.ItemItemRecommender(K=most + 1, num_threads=1)
    model.fit(matrix, show_progress=False)
    found: dict[str, dict[str, float]] = {}
    for number, item in enumerate(items):
        row = model.similarity[number]
        others = [
            (-min(round(float(cosine), 4), 1.0), items[other])
            for other, cosine in zip(row.indices.tolist(), row.data.tolist(), strict=True)
            if other != number
        ]
        if near := {other: -cosine for cosine, other in sorted(others)[:most] if cosine < 0.0}:
            found[item] = near
    return found


def _neighbours(
    installation: Installation, item: Item, now: datetime, sensitive: frozenset[str]
) -> dict[str, dict[str, float]]:
    behaviour = Behaviour(installation.engine)
    since = now - WINDOW
    purchases = behaviour.items(item, since, now, LEAST_PURCHASES, MOST_ITEMS[item])
    items = sorted(name for name in purchases if name not in sensitive and not _is_sensitive(name))
    share = min(1.0, MOST_PURCHASES / max(sum(purchases.values()), 1))
    return neighbours_of(behaviour.baskets(item, since, now, share), items, NEIGHBOURS)


def _customers(installation: Installation, tell: Tell) -> Iterator[tuple[Profile, CustomerRecord]]:
    """Customers with their records, at most about MOST_CUSTOMERS; tells how far it came."""
    behaviour = Behaviour(installation.engine)
    total = behaviour.count()
    share = min(1.0, MOST_CUSTOMERS / max(total, 1))
    for number, found in enumerate(behaviour.customers(share)):
        if number and number % TELL_EVERY == 0:
            tell(number / (total * share))
        yield found


def _insensitive(profile: Profile, sensitive: frozenset[str]) -> Profile | None:
    hidden = {name for name in profile.categories if name in sensitive or _is_sensitive(name)}
    return visible(profile, frozenset(hidden)) if hidden else profile


def _is_sensitive(name: str) -> bool:
    """Whether a category is called as a sensitive tag, offers or not."""
    return name.strip().casefold() in SENSITIVE_TAGS


def _now(installation: Installation) -> datetime:
    return Behaviour(installation.engine).newest() or datetime.now(UTC)


def _store(installation: Installation, name: str, value: bytes) -> None:
    PrecomputedStore(installation.engine, installation.client).put(name, value, datetime.now(UTC))


def _teller(installation: Installation, job: Job) -> Tell:
    store = JobStore(installation.engine)
    return lambda share: store.progress(job, share, datetime.now(UTC))


def _part_of(tell: Tell, number: int, parts: int) -> Tell:
    return lambda share: tell((number + min(share, 1.0)) / parts)
