"""Item-to-item similarity, "bought this, also bought": the neighbours of a category or offer in baskets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

# Cosine in (0, 1] of each item's nearest neighbours, the nearest first; never the item itself.
Neighbours: TypeAlias = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Similarity:
    """Neighbours by category and by offer id, from which baskets they shared.

    The cosine of two items is baskets with both / sqrt(baskets with one x baskets with the other).
    """

    categories: Neighbours = field(default_factory=dict)
    offers: Neighbours = field(default_factory=dict)

    def affinity(self, bought: Mapping[str, float], category: str) -> float:
        """What the customer bought of the categories that are bought together with this one.

            sum of s_j b_j / sum of s_j

        over the category's neighbours j, s_j being the cosine and b_j the customer's (decayed) purchase days in j:
        a weighted mean of purchase days over all neighbours, also those never bought. The category itself does not
        count. Rounded to three decimals; 0 without neighbours or history.

        Args:
            bought: Purchase days by category, decayed to the moment, at least 0.
            category: The offer's category.
        """
        return _mean(bought, self.categories.get(category, {}), category)

    def offer_affinity(self, bought: Mapping[str, float], offer_id: str) -> float:
        """The same over offers, for purchases that name them."""
        return _mean(bought, self.offers.get(offer_id, {}), offer_id)

    def encode(self) -> bytes:
        """The stored form, compact JSON."""
        return orjson.dumps({"v": 1, "c": self.categories, "o": self.offers})


def decode_similarity(data: bytes) -> Similarity:
    """Stored neighbours read back; empty bytes are none."""
    if not data:
        return Similarity()
    raw: Mapping[str, Any] = orjson.loads(data)
    return Similarity(raw["c"], raw["o"])


def _mean(bought: Mapping[str, float], neighbours: Mapping[str, float], own: str) -> float:
    total = weighted = 0.0
    for item, cosine in neighbours.items():
        if item != own:
            total += cosine
            weighted += cosine * bought.get(item, 0.0)
    return round(weighted / total, 3) if total > 0.0 else 0.0
