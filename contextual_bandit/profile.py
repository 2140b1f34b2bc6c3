"""What a customer did, as a small state that any order of arrival gives alike, and the same for everyone together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from math import log
from typing import Any, Literal, TypeAlias

import orjson

ActivityKind: TypeAlias = Literal["view", "click", "cart_add", "purchase"]
DAY_SECONDS = 86400.0
HORIZON_DAYS = 800
HORIZON_MASK = (1 << HORIZON_DAYS) - 1
POPULATION_HALF_LIFE_DAYS = 364.0
INTEREST_HALF_LIFE_DAYS = 7.0
MOST_RECENT = 200
RECENT_SECONDS = 30 * DAY_SECONDS
# In the order of events at one time: a purchase of that second ends what was put into the cart in it.
KIND_CODES: dict[ActivityKind, str] = {"cart_add": "a", "click": "c", "purchase": "p", "view": "v"}


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
    order_id: str | None = None


@dataclass(slots=True)
class Days:
    """Days as a bitmask, so that doubled and out-of-order messages change nothing.

    Bit k of ``days`` stands for the UTC day ``last_day - k`` (days since 1970).
    """

    last_day: int = 0
    days: int = 0

    def add_day(self, day: int) -> bool:
        """Remember a day; False when it was known or lies behind the horizon."""
        if not self.days:
            self.last_day, self.days = day, 1
            return True
        if day > self.last_day:
            self.days = (self.days << (day - self.last_day) | 1) & HORIZON_MASK
            self.last_day = day
            return True
        bit = 1 << (self.last_day - day)
        if self.last_day - day >= HORIZON_DAYS or self.days & bit:
            return False
        self.days |= bit
        return True

    def until(self, today: int) -> int:
        """The days as of ``today``: bit k stands for k days before it; later ones are left out (point in time)."""
        shift = today - self.last_day
        return self.days << shift if shift >= 0 else self.days >> -shift

    def ages(self, today: int) -> list[int]:
        """How many days before ``today`` the days were, ascending; later ones are left out."""
        mask = self.until(today)
        ages: list[int] = []
        while mask:
            age = mask.bit_length() - 1
            ages.append(age)
            mask ^= 1 << age
        ages.reverse()
        return ages


@dataclass(slots=True)
class CategoryHistory(Days):
    """One category's share of a profile.

    Its days are those with a purchase, ``visits`` those with a view, click or cart add. ``interest`` counts the
    latter, decayed to ``interest_at``. There is no money by category and day: that would be most of the profile.
    """

    orders: int = 0
    spend: float = 0.0
    interest: float = 0.0
    interest_at: float = 0.0
    visits: Days = field(default_factory=Days)

    def row(self) -> list[Any]:
        """The stored form."""
        return [self.last_day, f"{self.days:x}", self.orders, self.spend, self.interest, self.interest_at,
                self.visits.last_day, f"{self.visits.days:x}"]  # fmt: skip


class Categories(MutableMapping[str, CategoryHistory]):
    """Histories by category. A stored one is read when it is first asked for: a decision asks for few of them."""

    __slots__ = ("_histories",)

    def __init__(self, rows: dict[str, Any] | None = None) -> None:
        self._histories: dict[str, Any] = {} if rows is None else rows

    def __getitem__(self, name: str) -> CategoryHistory:
        found = self._histories[name]
        if isinstance(found, list):
            last_day, days, orders, spend, interest, at, visit_day, visits = found
            seen = Days(visit_day, int(visits, 16))
            found = self._histories[name] = CategoryHistory(last_day, int(days, 16), orders, spend, interest, at, seen)
        history: CategoryHistory = found
        return history

    def __setitem__(self, name: str, history: CategoryHistory) -> None:
        self._histories[name] = history

    def __delitem__(self, name: str) -> None:
        del self._histories[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._histories)

    def __len__(self) -> int:
        return len(self._histories)

    def without(self, names: Container[str]) -> Categories:
        """The others, read or not."""
        return Categories({name: found for name, found in self._histories.items() if name not in names})

    def rows(self) -> dict[str, list[Any]]:
        """The stored form."""
        return {name: found if isinstance(found, list) else found.row() for name, found in self._histories.items()}


@dataclass(slots=True)
class Recent:
    """The newest events one by one, by time: for windows, and to tell what came after a moment.

    Columns, since they are read on every decision: seconds since 1970, a letter of ``KIND_CODES`` each, categories,
    and the money of purchases. At most ``MOST_RECENT``, from the 30 days before the newest; ``complete_after`` is the
    newest time of which something was dropped. Which events are kept does not depend on the order of arrival.
    """

    at: list[float] = field(default_factory=list)
    kinds: str = ""
    categories: list[str | None] = field(default_factory=list)
    amounts: list[float] = field(default_factory=list)
    complete_after: float = 0.0

    def add(self, at: float, kind: ActivityKind, category: str | None, amount: float) -> None:
        """Put an event in its place, and drop what is too old or too many."""
        code = KIND_CODES[kind]
        place = bisect_right(self.at, at)
        while place and self.at[place - 1] == at and self._tie(place - 1) > (code, category or "", amount):
            place -= 1
        self.at.insert(place, at)
        self.kinds = self.kinds[:place] + code + self.kinds[place:]
        self.categories.insert(place, category)
        self.amounts.insert(place, amount)
        drop = max(bisect_right(self.at, self.at[-1] - RECENT_SECONDS), len(self.at) - MOST_RECENT)
        if drop > 0:
            self.complete_after = max(self.complete_after, self.at[drop - 1])
            self.kinds = self.kinds[drop:]
            del self.at[:drop], self.categories[:drop], self.amounts[:drop]

    def _tie(self, place: int) -> tuple[str, str, float]:
        return self.kinds[place], self.categories[place] or "", self.amounts[place]


@dataclass(slots=True)
class Profile:
    """A customer's history; times are seconds since 1970.

    ``money`` is what each purchase day brought, ``browsing`` the days of views, clicks and cart adds: kept by day, so
    that a decision about an earlier moment sees only what came before it (``contextual_bandit.past``). Days are
    idempotent; counts and sums are not: an activity that comes twice must be applied once.
    """

    first_at: float | None = None
    last_at: float | None = None
    last_purchase_at: float | None = None
    first_purchase_day: int | None = None
    purchases: int = 0
    spend: float = 0.0
    browses: int = 0
    money: dict[int, float] = field(default_factory=dict)
    browsing: Days = field(default_factory=Days)
    categories: Categories = field(default_factory=Categories)
    recent: Recent = field(default_factory=Recent)

    def apply(self, activity: Activity) -> list[tuple[str, int]]:
        """Take one activity in; returns the (category, day) pairs of purchase days that are new."""
        at = activity.occurred_at.timestamp()
        self.first_at = at if self.first_at is None else min(self.first_at, at)
        self.last_at = at if self.last_at is None else max(self.last_at, at)
        history = None
        if activity.category is not None:
            history = self.categories.setdefault(activity.category, CategoryHistory())
        day = day_of(at)
        if activity.kind != "purchase":
            self.recent.add(at, activity.kind, activity.category, 0)
            self.browses += 1
            self.browsing.add_day(day)
            if history is not None:
                history.visits.add_day(day)
                _add_interest(history, at)
            return []
        amount = activity.amount or 0.0
        self.recent.add(at, "purchase", activity.category, amount)
        self.purchases += 1
        self.spend += amount
        self.money[day] = self.money.get(day, 0.0) + amount
        if len(self.money) > HORIZON_DAYS:
            del self.money[min(self.money)]
        self.last_purchase_at = at if self.last_purchase_at is None else max(self.last_purchase_at, at)
        if history is None or activity.category is None:
            return []
        history.orders += 1
        history.spend += amount
        if self.first_purchase_day is None or day < self.first_purchase_day:
            self.first_purchase_day = day
        return [(activity.category, day)] if history.add_day(day) else []

    def encode(self) -> bytes:
        """The stored form."""
        recent = self.recent
        place: dict[str | None, int] = {name: number for number, name in enumerate(self.categories)}
        place[None] = -1
        return orjson.dumps(
            {
                "v": 2,
                "t": [self.first_at, self.last_at, self.last_purchase_at, self.first_purchase_day],
                "n": [self.purchases, self.spend, self.browses],
                "m": [list(self.money), list(self.money.values())],
                "b": [self.browsing.last_day, f"{self.browsing.days:x}"],
                "c": self.categories.rows(),
                "r": [recent.at, recent.kinds, [place[name] for name in recent.categories], recent.amounts,
                      recent.complete_after],
            }
        )  # fmt: skip


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
    """A stored profile read back.

    Raises:
        ValueError: a version that this code does not know.
    """
    raw: Mapping[str, Any] = orjson.loads(data)
    if raw["v"] == 1:
        raw = _from_version_1(raw)
    elif raw["v"] != 2:
        raise ValueError(f"a profile of version {raw['v']!r} cannot be read, only 1 and 2")
    browse_day, browse_days = raw["b"]
    recent_at, kinds, places, amounts, complete_after = raw["r"]
    names = [*raw["c"], None]  # -1 is none
    first_at, last_at, last_purchase_at, first_purchase_day = raw["t"]
    purchases, spend, browses = raw["n"]
    return Profile(
        first_at,
        last_at,
        last_purchase_at,
        first_purchase_day,
        purchases,
        spend,
        browses,
        dict(zip(*raw["m"], strict=True)),
        Days(browse_day, int(browse_days, 16)),
        Categories(raw["c"]),
        Recent(recent_at, kinds, [names[place] for place in places], amounts, complete_after),
    )


def _from_version_1(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Version 1 knew no single events, and of a category's visits the newest only."""
    return {
        **raw,
        "m": list(zip(*raw["m"], strict=True)) or [[], []],
        "c": {name: [*row, day_of(row[5]), "1" if row[4] else "0"] for name, row in raw["c"].items()},
        "r": [[], "", [], [], raw["t"][1] or 0.0],
    }


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
