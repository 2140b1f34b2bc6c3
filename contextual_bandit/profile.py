"""What a customer did, as a small state that any order of arrival gives alike, and the same for everyone together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import log
from typing import Any, Literal, TypeAlias

import orjson

ActivityKind: TypeAlias = Literal["view", "click", "cart_add", "purchase"]
DAY_SECONDS = 86400.0
HORIZON_DAYS = 800
POPULATION_HALF_LIFE_DAYS = 364.0
INTEREST_HALF_LIFE_DAYS = 7.0


@dataclass(frozen=True, slots=True)
class Activity:
    """One thing a customer did. ``amount`` is money for purchases; ``category`` is the offer's, or as sent."""

    activity_id: str
    customer_id: str
    kind: ActivityKind
    occurred_at: datetime
    category: str | None = None
    offer_id: str | None = None
    amount: float | None = None


@dataclass(slots=True)
class CategoryHistory:
    """One category's share of a profile.

    Bit k of ``days`` stands for a purchase on UTC day ``last_day - k`` (days since 1970), so that doubled and
    out-of-order messages change nothing. ``interest`` counts views, clicks and cart adds, decayed to ``interest_at``.
    """

    last_day: int = 0
    days: int = 0
    orders: int = 0
    spend: float = 0.0
    interest: float = 0.0
    interest_at: float = 0.0

    def add_day(self, day: int) -> bool:
        """Remember a purchase day; False when it was known or lies behind the horizon."""
        if not self.days:
            self.last_day, self.days = day, 1
            return True
        if day > self.last_day:
            self.days = (self.days << (day - self.last_day) | 1) & ((1 << HORIZON_DAYS) - 1)
            self.last_day = day
            return True
        bit = 1 << (self.last_day - day)
        if self.last_day - day >= HORIZON_DAYS or self.days & bit:
            return False
        self.days |= bit
        return True

    def ages(self, today: int) -> list[int]:
        """How many days before ``today`` the purchases were; later ones are left out (point in time)."""
        shift = today - self.last_day
        mask = self.days << shift if shift >= 0 else self.days >> -shift
        ages: list[int] = []
        while mask:
            low = mask & -mask
            ages.append(low.bit_length() - 1)
            mask ^= low
        return ages


@dataclass(slots=True)
class Profile:
    """A customer's history; times are seconds since 1970.

    ``money`` is what each purchase day brought, ``browsing`` the days of views, clicks and cart adds: kept by day, so
    that a decision about an earlier moment sees only what came before it.
    """

    first_at: float | None = None
    last_at: float | None = None
    last_purchase_at: float | None = None
    first_purchase_day: int | None = None
    purchases: int = 0
    spend: float = 0.0
    browses: int = 0
    money: dict[int, float] = field(default_factory=dict)
    browsing: CategoryHistory = field(default_factory=CategoryHistory)
    categories: dict[str, CategoryHistory] = field(default_factory=dict)

    def apply(self, activity: Activity) -> list[tuple[str, int]]:
        """Take one activity in; returns the (category, day) pairs of purchase days that are new."""
        at = activity.occurred_at.timestamp()
        self.first_at = at if self.first_at is None else min(self.first_at, at)
        self.last_at = at if self.last_at is None else max(self.last_at, at)
        history = None
        if activity.category is not None:
            history = self.categories.setdefault(activity.category, CategoryHistory())
        if activity.kind != "purchase":
            self.browses += 1
            self.browsing.add_day(day_of(at))
            if history is not None:
                _add_interest(history, at)
            return []
        self.purchases += 1
        self.spend += activity.amount or 0.0
        day = day_of(at)
        self.money[day] = self.money.get(day, 0.0) + (activity.amount or 0.0)
        if len(self.money) > HORIZON_DAYS:
            del self.money[min(self.money)]
        self.last_purchase_at = at if self.last_purchase_at is None else max(self.last_purchase_at, at)
        if history is None or activity.category is None:
            return []
        history.orders += 1
        history.spend += activity.amount or 0.0
        if self.first_purchase_day is None or day < self.first_purchase_day:
            self.first_purchase_day = day
        return [(activity.category, day)] if history.add_day(day) else []

    def encode(self) -> bytes:
        """The stored form."""
        return orjson.dumps(
            {
                "v": 1,
                "t": [self.first_at, self.last_at, self.last_purchase_at, self.first_purchase_day],
                "n": [self.purchases, self.spend, self.browses],
                "m": [[day, money] for day, money in self.money.items()],
                "b": [self.browsing.last_day, f"{self.browsing.days:x}"],
                "c": {
                    name: [h.last_day, f"{h.days:x}", h.orders, h.spend, h.interest, h.interest_at]
                    for name, h in self.categories.items()
                },
            }
        )


@dataclass(slots=True)
class Population:
    """All customers together: what is usual among them, as sums that decay with a half-life of 52 weeks.

    ``days`` sums each category's purchase days, ``firsts`` the customers' first ones, both as of ``as_of_day``.
    """

    customers: int = 0
    buyers: int = 0
    as_of_day: int = 0
    firsts: float = 0.0
    days: dict[str, float] = field(default_factory=dict)

    def add_day(self, category: str, day: int) -> None:
        """Count one customer's new purchase day in a category."""
        weight = self._weight(day)
        self.days[category] = self.days.get(category, 0.0) + weight

    def move_first(self, old: int | None, new: int | None) -> None:
        """Follow a change of a customer's first purchase day."""
        if new is None or new == old:
            return
        weight = self._weight(new)
        self.firsts += weight
        if old is None:
            self.buyers += 1
        else:
            self.firsts -= self._weight(old)

    def rate(self, category: str, today: int) -> float:
        """Purchase days per customer and week in a category: days summed over customer-weeks, both decayed."""
        factor = 0.5 ** (max(today - self.as_of_day, 0) / POPULATION_HALF_LIFE_DAYS)
        weeks = POPULATION_HALF_LIFE_DAYS / 7.0 / log(2.0) * (self.buyers - self.firsts * factor)
        return self.days.get(category, 0.0) * factor / weeks if weeks > 1.0 else 0.0

    def _weight(self, day: int) -> float:
        """What a day counts as of ``as_of_day``. It may move that day and decay the sums: call it before them."""
        if day > self.as_of_day:
            factor = 0.5 ** ((day - self.as_of_day) / POPULATION_HALF_LIFE_DAYS)
            self.days = {name: value * factor for name, value in self.days.items()}
            self.firsts *= factor
            self.as_of_day = day
        return float(0.5 ** ((self.as_of_day - day) / POPULATION_HALF_LIFE_DAYS))

    def encode(self) -> bytes:
        """The stored form."""
        return orjson.dumps({"v": 1, "n": [self.customers, self.buyers, self.as_of_day, self.firsts], "d": self.days})


def day_of(at: float) -> int:
    """The UTC day of a time in seconds since 1970, counted from 1970-01-01."""
    return int(at // DAY_SECONDS)


def decode_profile(data: bytes) -> Profile:
    """A stored profile read back."""
    raw: Mapping[str, Any] = orjson.loads(data)
    categories = {
        name: CategoryHistory(last_day, int(days, 16), orders, spend, interest, interest_at)
        for name, (last_day, days, orders, spend, interest, interest_at) in raw["c"].items()
    }
    first_at, last_at, last_purchase_at, first_purchase_day = raw["t"]
    purchases, spend, browses = raw["n"]
    browse_day, browse_days = raw["b"]
    return Profile(
        first_at,
        last_at,
        last_purchase_at,
        first_purchase_day,
        purchases,
        spend,
        browses,
        dict(raw["m"]),
        CategoryHistory(browse_day, int(browse_days, 16)),
        categories,
    )


def decode_population(data: bytes) -> Population:
    """A stored population read back."""
    raw: Mapping[str, Any] = orjson.loads(data)
    customers, buyers, as_of_day, firsts = raw["n"]
    return Population(customers, buyers, as_of_day, firsts, raw["d"])


def _add_interest(history: CategoryHistory, at: float) -> None:
    newer = max(history.interest_at, at)
    rate = -1.0 / (INTEREST_HALF_LIFE_DAYS * DAY_SECONDS)
    kept = history.interest * 2.0 ** ((newer - history.interest_at) * rate)
    history.interest, history.interest_at = kept + 2.0 ** ((newer - at) * rate), newer
