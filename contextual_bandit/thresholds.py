"""Where quintiles of recency, frequency and monetary value begin: fixed, or fitted to a shop's customers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from math import isfinite
from typing import Any, TypeAlias

import orjson

from contextual_bandit.past import Past
from contextual_bandit.profile import Profile

FourLimits: TypeAlias = tuple[float, float, float, float]
QUINTILES = 5
# With fewer customers a limit would be the habit of a few of them.
FEWEST_CUSTOMERS = 50


class BadThresholds(ValueError):
    """Thresholds that are not four ascending numbers each."""


@dataclass(frozen=True, slots=True)
class RfmThresholds:
    """Four ascending limits each: of days since the last order, of orders per year and of money per order.

    The defaults suit a shop of daily needs: a week, four weeks, a quarter and half a year since the last order;
    quarterly, monthly, fortnightly and weekly orders; and orders of 10, 25, 50 and 100 of its currency.

    Raises:
        BadThresholds: names the field and the value.
    """

    recency_days: FourLimits = (7.0, 28.0, 91.0, 182.0)
    per_year: FourLimits = (4.0, 12.0, 26.0, 52.0)
    per_order: FourLimits = (10.0, 25.0, 50.0, 100.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))

    def encode(self) -> bytes:
        """The stored form."""
        return orjson.dumps({"v": 1, **asdict(self)})


def decode_thresholds(data: bytes) -> RfmThresholds:
    """Stored thresholds read back.

    Raises:
        BadThresholds: names what is missing or wrong.
    """
    try:
        raw: Mapping[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadThresholds(f"thresholds are no JSON: {error}") from None
    if not isinstance(raw, dict) or raw.get("v") != 1:
        raise BadThresholds(f"thresholds must be an object of version 1, got {data[:100]!r}")
    found: dict[str, Any] = {}
    for field in fields(RfmThresholds):
        limits = raw.get(field.name)
        if not isinstance(limits, list):
            raise BadThresholds(f"{field.name} must be four ascending numbers, got {limits!r}")
        found[field.name] = tuple(limits)
    return RfmThresholds(**found)


def quintile(limits: Sequence[float], value: float) -> int:
    """1 to 5: one more than the limits that lie below the value; a value on a limit is in the lower quintile."""
    return 1 + bisect_left(limits, value)


def fit_thresholds(profiles: Iterable[Profile], now: datetime) -> RfmThresholds:
    """Quintiles over the customers with a purchase up to ``now``; customers without one do not count.

    The k-th limit is the smallest value that at least k fifths of them do not exceed, so that without ties a fifth
    of them falls in each quintile. Customers with equal values share a quintile, the lowest of those they span (of
    recency that is the most recent), and quintiles may then be empty. With fewer than ``FEWEST_CUSTOMERS`` the
    defaults stay. The order of the profiles does not matter.
    """
    found = []
    for profile in profiles:
        past = Past(profile, now)
        orders = past.orders()
        if orders is not None:
            found.append(past.rfm(orders))
    if len(found) < FEWEST_CUSTOMERS:
        return RfmThresholds()
    return RfmThresholds(
        _limits([rfm.recency_days for rfm in found]),
        _limits([rfm.per_year for rfm in found]),
        _limits([rfm.per_order for rfm in found]),
    )


def _limits(values: list[float]) -> FourLimits:
    values.sort()
    # Whole numbers: k n / 5 rounded up, less one.
    one, two, three, four = (values[-(-number * len(values) // QUINTILES) - 1] for number in range(1, QUINTILES))
    return one, two, three, four


def _check(name: str, limits: Sequence[Any]) -> None:
    numbers = [limit for limit in limits if isinstance(limit, int | float) and not isinstance(limit, bool)]
    if len(limits) != QUINTILES - 1 or len(numbers) != len(limits) or not all(isfinite(limit) for limit in numbers):
        raise BadThresholds(f"{name} must be four ascending numbers, got {list(limits)!r}")
    if numbers != sorted(numbers):
        raise BadThresholds(f"{name} must ascend, got {list(limits)!r}")
