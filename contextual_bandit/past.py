"""A profile as it was at a moment: nothing that came later is seen."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from contextual_bandit.profile import DAY_SECONDS, HORIZON_DAYS, HORIZON_MASK, CategoryHistory, Days, Profile, day_of

WEEKS_PER_YEAR = 52.0
# Counted as observed without a purchase, so that one early purchase makes no habit.
PRIOR_WEEKS = 4.0


@dataclass(frozen=True, slots=True)
class Orders:
    """A customer's orders up to a moment, an order being a day with purchases: how many, money, days since 1970."""

    count: int
    spend: float
    first_day: int
    last_day: int


@dataclass(frozen=True, slots=True)
class Rfm:
    """Days since the last order, orders per year (shrunk by four weeks without any), money per order."""

    recency_days: float
    per_year: float
    per_order: float


class Past:
    """A profile up to and including a moment.

    Most decisions are about now, and everything that the profile knows came before: then nothing is cut. About an
    earlier moment the days before its day are known from the bitmasks, and for its own day and for sums of money the
    recent events say what came later. Where they do not reach back to the moment, its own day and the money by
    category are left out: better too little than something from the future.
    """

    __slots__ = ("_earlier", "_later", "_later_spend", "at", "end", "is_cut", "knows_later", "profile", "today")

    def __init__(self, profile: Profile, now: datetime) -> None:
        """Look back from ``now``; ``end`` is the number of recent events up to it."""
        self.profile = profile
        self.at = now.timestamp()
        self.today = day_of(self.at)
        self.end = len(profile.recent.at)
        self.is_cut = profile.last_at is not None and profile.last_at > self.at
        self.knows_later = True
        if self.is_cut:
            self._cut()

    def window(self, seconds: float) -> int:
        """Where the recent events of the last so many seconds begin: they lie in [window, end)."""
        return bisect_right(self.profile.recent.at, self.at - seconds, 0, self.end)

    def ordered(self, category: str, history: CategoryHistory) -> list[int]:
        """How many days ago the category was bought, ascending; within the horizon."""
        ages = history.ages(self.today)
        if ages and ages[-1] >= HORIZON_DAYS:
            ages = [age for age in ages if age < HORIZON_DAYS]
        return ages[1:] if ages and ages[0] == 0 and not self._had_today(True, category) else ages

    def visits(self, category: str, history: CategoryHistory) -> int:
        """On how many days the customer viewed, clicked or put into the cart something of it; within the horizon."""
        return (self._until(history.visits, category) & HORIZON_MASK).bit_count()

    def all_visits(self) -> int:
        """On how many days the customer viewed, clicked or put into the cart anything; within the horizon."""
        return (self._until(self.profile.browsing, None) & HORIZON_MASK).bit_count()

    def has_browsed(self) -> bool:
        """Whether there was any visit that is not forgotten."""
        return self._until(self.profile.browsing, None) != 0

    def money(self) -> dict[int, float]:
        """What each order brought, by its day (since 1970)."""
        money = self.profile.money
        if not self.is_cut:
            return money
        kept = {day: spent for day, spent in money.items() if day < self.today}
        if self.today in money and self._had_today(True, None):
            recent = self.profile.recent
            later = recent.amounts[self.end : bisect_left(recent.at, (self.today + 1) * DAY_SECONDS)]
            kept[self.today] = money[self.today] - sum(later)
        return kept

    def orders(self) -> Orders | None:
        """All orders; None before the first."""
        money = self.money()
        return Orders(len(money), sum(money.values()), min(money), max(money)) if money else None

    def rfm(self, orders: Orders) -> Rfm:
        """Recency, frequency and monetary value."""
        observed_weeks = (self.today - orders.first_day) / 7.0
        per_year = WEEKS_PER_YEAR * orders.count / (observed_weeks + PRIOR_WEEKS)
        return Rfm(float(self.today - orders.last_day), per_year, orders.spend / orders.count)

    def spend_share(self, category: str, history: CategoryHistory) -> float | None:
        """The share of all money that went to the category; None when it is not known as of the moment."""
        if not self.knows_later:
            return None
        spend, total = history.spend, self.profile.spend
        if self.is_cut:
            spend, total = spend - self._later_spend.get(category, 0.0), total - sum(self._later_spend.values())
        return min(max(spend / total, 0.0), 1.0) if total > 0.0 else 0.0

    def _cut(self) -> None:
        recent = self.profile.recent
        self.end = bisect_right(recent.at, self.at)
        self.knows_later = self.at >= recent.complete_after
        begins, ends = self.today * DAY_SECONDS, (self.today + 1) * DAY_SECONDS
        self._earlier = set(self._had(bisect_left(recent.at, begins), self.end))
        self._later = set(self._had(self.end, bisect_left(recent.at, ends)))
        self._later_spend: dict[str | None, float] = {}
        for place in range(self.end, len(recent.at)):
            name = recent.categories[place]
            self._later_spend[name] = self._later_spend.get(name, 0.0) + recent.amounts[place]

    def _had(self, start: int, end: int) -> Iterator[tuple[bool, str | None]]:
        """What was done in the recent events of [start, end): bought or not, and the category; None is any."""
        recent = self.profile.recent
        for place in range(start, end):
            bought = recent.kinds[place] == "p"
            yield bought, None
            yield bought, recent.categories[place]

    def _until(self, visits: Days, category: str | None) -> int:
        mask = visits.until(self.today)
        return mask if self._had_today(False, category) else mask & ~1

    def _had_today(self, bought: bool, category: str | None) -> bool:
        """Whether today's bit stems from before the moment."""
        if not self.is_cut:
            return True
        key = bought, category
        return self.knows_later and (key in self._earlier or key not in self._later)
