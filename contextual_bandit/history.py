"""What a customer did, as features of a moment: history, and this customer's affinity to a category."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from math import log, log2

from contextual_bandit.past import PRIOR_WEEKS, WEEKS_PER_YEAR, Past
from contextual_bandit.profile import DAY_SECONDS, HORIZON_DAYS, MOST_RECENT, CategoryHistory, Profile, day_of
from contextual_bandit.thresholds import RfmThresholds, quintile
from contextual_bandit.types import Features, FeatureValue

HALF_LIVES_DAYS = {"r4": 28.0, "r16": 112.0, "r52": 364.0}
# A share is of so many orders or visits more than there were: one of one is no certainty.
SHARE_DOUBT = 2.0
RECENCY_BANDS = (7, 14, 28, 56, 112)
RECENCY_NAMES = ("week", "fortnight", "month", "two_months", "four_months", "longer")
MONETARY_BANDS = (5.0, 10.0, 20.0, 50.0, 100.0)
FREQUENCY_BANDS = (6.0, 12.0, 26.0, 52.0, 104.0)
SEGMENTS = ("new", "browsing_only", "transactions_only", "both")
WINDOWS_SECONDS = {"day": DAY_SECONDS, "hour": 3600.0, "minute": 60.0}
# By so much an event counts as gone early: sums of seconds since 1970 are rounded.
SLACK_SECONDS = 1e-3

_KINDS = {"views": "v", "clicks": "c", "cart_adds": "a"}
_INTEREST = {"v": "viewed_day", "c": "clicked_day", "a": "carted_day"}
_COUNTS = tuple(round(log2(1 + count), 2) for count in range(MOST_RECENT + 1))
_NO_ORDERS: Features = {
    "recency": "never", "frequency": "f0", "monetary": "m0",
    "recency_quintile": "none", "frequency_quintile": "none", "monetary_quintile": "none",
}  # fmt: skip
# By a purchase day's age: what it counts with each half-life, and the weeks that were observed since, decayed alike.
_DECAY = tuple(
    tuple(0.5 ** ((age - 0.5) / half_life) for half_life in HALF_LIVES_DAYS.values()) for age in range(HORIZON_DAYS)
)
_WEEKS = {
    name: tuple(half_life / 7.0 / log(2.0) * (1.0 - 0.5 ** (age / half_life)) for age in range(HORIZON_DAYS))
    for name, half_life in HALF_LIVES_DAYS.items()
}


class Affinities:
    """A customer's interest in categories at one moment.

    ``r4``, ``r16`` and ``r52`` are purchase days per year with half-lives of 4, 16 and 52 weeks, shrunk towards what
    is usual: 52 (S + K p) / (n + K), where S is the decayed count of the customer's purchase days, n the weeks
    observed decayed alike, p the prior's days per customer-week and K = 4 weeks. A customer without history has the
    prior's rate.

    ``order_share`` is d / (n + 2): n orders (days with a purchase), d of them with the category. ``visit_share`` is
    the same of days with a view, click or cart add. ``value_share`` is m n / (n + 2), where m is the category's share
    of the customer's money. They shrink towards 0, which is also what an absent feature counts, as the rates have the
    prior already. Money by category and day is not kept; a moment that the recent events do not reach back to takes
    every order to be worth the same.
    """

    def __init__(self, profile: Profile | None, prior: Callable[[str], float], now: datetime) -> None:
        """Look at a profile; ``prior`` gives purchase days per week in a category of customers like this one."""
        self._prior = prior
        today = day_of(now.timestamp())
        first = profile.first_purchase_day if profile else None
        observed = 0 if first is None else min(max(today - first, 0), HORIZON_DAYS - 1)
        self._scales = [WEEKS_PER_YEAR / (weeks[observed] + PRIOR_WEEKS) for weeks in _WEEKS.values()]
        self._past = Past(profile, now) if profile else None
        # As far back as the days of a category go.
        oldest = today - HORIZON_DAYS + 1
        self._orders = sum([day >= oldest for day in self._past.money()]) if self._past else 0
        self._visits = self._past.all_visits() if self._past else 0
        self._recent = _recent_interest(self._past) if self._past else {}
        self._abandoned = set(abandoned_carts(self._past)) if self._past else set()
        self._found: dict[str, Features] = {}

    def of(self, category: str | None) -> Features:
        """Affinity features for one category; none for an offer without a category."""
        if category is None:
            return {}
        features = self._found.get(category)
        if features is None:
            features = self._found[category] = self._features(category)
        return features

    def _features(self, category: str) -> Features:
        past = self._past
        history = past.profile.categories.get(category) if past is not None else None
        ages = past.ordered(category, history) if past is not None and history is not None else []
        prior = PRIOR_WEEKS * self._prior(category)
        r4 = r16 = r52 = 0.0
        for age in ages:
            decayed = _DECAY[age]
            r4 += decayed[0]
            r16 += decayed[1]
            r52 += decayed[2]
        scale4, scale16, scale52 = self._scales
        features: dict[str, FeatureValue] = {
            "r4": round((prior + r4) * scale4, 2),
            "r16": round((prior + r16) * scale16, 2),
            "r52": round((prior + r52) * scale52, 2),
        }
        if past is not None and history is not None:
            self._add_shares(features, past, category, history, len(ages))
            for name, counts in self._recent.items():
                if category in counts:
                    features[name] = _COUNTS[counts[category]]
            if category in self._abandoned:
                features["abandoned"] = 1.0
        return features

    def _add_shares(
        self, features: dict[str, FeatureValue], past: Past, category: str, history: CategoryHistory, ordered: int
    ) -> None:
        if ordered:
            orders = self._orders + SHARE_DOUBT
            features["order_share"] = round(min(ordered / orders, 1.0), 3)
            spent = past.spend_share(category, history)
            worth = ordered / orders if spent is None else spent * self._orders / orders
            if value_share := round(min(worth, 1.0), 3):
                features["value_share"] = value_share
        if visits := past.visits(category, history):
            features["visit_share"] = round(visits / (self._visits + SHARE_DOUBT), 3)


def history_features(profile: Profile | None, now: datetime, thresholds: RfmThresholds) -> Features:
    """Segment, recency, frequency and monetary value, and what was done in the last minute, hour and day.

    All from what happened up to and including ``now``. An order is a day with purchases: recency is days since the
    last one, frequency orders a year (shrunk by four weeks without any), monetary value the average order's. Bands
    are the same for everybody, quintiles (5 is the most recent, most frequent, highest) by ``thresholds``. Counts are
    log2(1 + n), absent when 0.
    """
    if profile is None:
        return {"segment": "new", **_NO_ORDERS}
    past = Past(profile, now)
    orders = past.orders()
    browsed = past.has_browsed()
    features: dict[str, FeatureValue] = {}
    if orders is None:
        features.update(segment="browsing_only" if browsed else "new", **_NO_ORDERS)
    else:
        rfm = past.rfm(orders)
        features.update(
            segment="both" if browsed else "transactions_only",
            recency=RECENCY_NAMES[bisect_right(RECENCY_BANDS, rfm.recency_days)],
            frequency=f"f{bisect_right(FREQUENCY_BANDS, rfm.per_year)}",
            monetary=f"m{bisect_right(MONETARY_BANDS, rfm.per_order)}",
            recency_quintile=f"r{6 - quintile(thresholds.recency_days, rfm.recency_days)}",
            frequency_quintile=f"f{quintile(thresholds.per_year, rfm.per_year)}",
            monetary_quintile=f"m{quintile(thresholds.per_order, rfm.per_order)}",
        )
    _add_windows(features, past)
    return features


def unchanged_until(profile: Profile, now: datetime) -> float:
    """Until when (seconds since 1970) all that is derived here of a profile stays as it is at ``now``.

    That is the end of the UTC day, or sooner where an event leaves a window before. ``now`` itself for an earlier
    moment of the profile, about which more may change.
    """
    at, events = now.timestamp(), profile.recent.at
    if profile.last_at is not None and profile.last_at > at:
        return at
    until = (day_of(at) + 1) * DAY_SECONDS
    for seconds in WINDOWS_SECONDS.values():
        start = bisect_right(events, at - seconds)
        if start < len(events):
            until = min(until, events[start] + seconds - SLACK_SECONDS)
    return until


def abandoned_carts(past: Past) -> list[str | None]:
    """The category of each cart add of the last day that was not purchased since.

    A purchase ends the cart adds of its category, or all of them if it names none; a cart add that names none ends
    with any purchase.
    """
    recent, start, end = past.profile.recent, past.window(DAY_SECONDS), past.end
    kinds, categories = recent.kinds[start:end], recent.categories[start:end]
    if "p" not in kinds:
        return [category for category, kind in zip(categories, kinds, strict=True) if kind == "a"]
    bought: set[str | None] = set()
    abandoned: list[str | None] = []
    for category, kind in zip(reversed(categories), reversed(kinds), strict=True):
        if kind == "p":
            bought.add(category)
        elif kind == "a" and category not in bought and None not in bought and (category or not bought):
            abandoned.append(category)
    return abandoned


def _add_windows(features: dict[str, FeatureValue], past: Past) -> None:
    recent, end = past.profile.recent, past.end
    starts = {window: past.window(seconds) for window, seconds in WINDOWS_SECONDS.items()}
    if starts["day"] == end:
        return
    for window, start in starts.items():
        kinds = recent.kinds[start:end]
        for name, code in _KINDS.items():
            if kinds and (count := kinds.count(code)):
                features[f"{name}_{window}"] = _COUNTS[count]
    for place in range(end - 1, starts["hour"] - 1, -1):
        category = recent.categories[place]
        if category is not None and recent.kinds[place] != "p":
            features["last_category"] = category
            break
    if abandoned := len(abandoned_carts(past)):
        features["abandoned"] = _COUNTS[abandoned]


def _recent_interest(past: Past) -> dict[str, Counter[str | None]]:
    """How often the customer did what with each category on the last day."""
    recent, start, end = past.profile.recent, past.window(DAY_SECONDS), past.end
    if start == end:
        return {}
    kinds, categories = recent.kinds[start:end], recent.categories[start:end]
    return {
        name: Counter([category for category, kind in zip(categories, kinds, strict=True) if kind == code])
        for code, name in _INTEREST.items()
    }
