"""Where a moment is as features: the region by name and how far the store is; never coordinates."""

from __future__ import annotations

from contextual_bandit.types import Features, FeatureValue

# Each band ends below its limit, in kilometres.
STORE_BANDS = ((1.0, "walk"), (5.0, "near"), (20.0, "drive"), (float("inf"), "far"))


def location_features(region: str | None, store_km: float | None = None) -> Features:
    """Features of the namespace L; what is not known is left out.

    Args:
        region: The region's name.
        store_km: Kilometres to the customer's store, at least 0; becomes a band: walk below 1, near below 5, drive
            below 20, far.
    """
    features: dict[str, FeatureValue] = {}
    if region is not None:
        features["region"] = region
    if store_km is not None:
        features["store_distance"] = next(name for limit, name in STORE_BANDS if store_km < limit)
    return features
