"""What policies are compared on: rounds of decisions, and what came of every offer, in baskets and in markets.

A round is as many decisions as are made before any of their rewards is known: the same delay for every policy. All of
an episode is known beforehand, so that every policy meets the same customers, moments, offers, features and luck.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import CannotMeasure
from contextual_bandit.actions import action_of, offer_features
from contextual_bandit.cells import CellCustomer, Cells, fit_cells
from contextual_bandit.context import Known, bought_lately, build_context
from contextual_bandit.history import Affinities
from contextual_bandit.loops import LoopConfig
from contextual_bandit.policy import UniformPolicy
from contextual_bandit.profile import Activity, Population, Profile
from contextual_bandit.season import Region, season_at
from contextual_bandit.similarity import Similarity
from contextual_bandit.thresholds import RfmThresholds, fit_thresholds
from contextual_bandit.types import Action, Context, CustomerRecord, Features, Offer
from simulator.baskets import Baskets, load, plan, week_start
from simulator.drift import Drift
from simulator.households import load_demographics
from simulator.offline import OfflineLoop, Visits, draw_visits, market_loop
from simulator.replay import BURN_IN_WEEKS, PRECOMPUTE_WEEKS, TIME_ZONE, offer_ids
from simulator.responses import draw_responses
from simulator.shelf import draw_offers
from simulator.world import World, make_world

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

CUSTOMERS = 500
DAYS = 360
# Decisions of a market that are made before their rewards are known.
MARKET_ROUND = 100
# Offers of each of the ten categories in the world of many.
MANY_PER_CATEGORY = 20
TURN_DAYS = 240.0
SHIFT = 1.5
COUNTRY = "US"
NEIGHBOURS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """Decisions before any of their rewards is known, in order of time.

    ``offers`` holds the places of each decision's actions among the episode's offers. ``rewards`` is what each offer
    would bring, ``expected`` its mean where that is known (else the same), both of shape (decisions, offers); what is
    not available is 0 there.
    """

    at: Sequence[datetime]
    customers: Sequence[str]
    contexts: Sequence[Context]
    actions: Sequence[Sequence[Action]]
    offers: Sequence[Indices]
    rewards: Floats
    expected: Floats

    @property
    def size(self) -> int:
        """Number of decisions."""
        return len(self.contexts)


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """One world with one seed: the loop's settings, how many offers there are, and the rounds in order."""

    world: str
    seed: int
    loop: LoopConfig
    offers: int
    rounds: Sequence[Round]

    @property
    def size(self) -> int:
        """Number of decisions."""
        return sum(each.size for each in self.rounds)


def stationary(seed: int, decisions: int) -> Episode:
    """A market in which nothing changes but weather, season and who comes; 20 offers."""
    return market("stationary", make_world(seed, CUSTOMERS, DAYS), decisions)


def drifting(seed: int, decisions: int) -> Episode:
    """A market whose tastes turn all the time, and half-way shift; 20 offers."""
    drift = Drift(turn_days=TURN_DAYS, shift_day=DAYS / 2, shift=SHIFT)
    return market("drifting", make_world(seed, CUSTOMERS, DAYS, drift=drift), decisions)


def many_offers(seed: int, decisions: int) -> Episode:
    """A market of 200 offers."""
    offers = draw_offers(seed, per_category=MANY_PER_CATEGORY)
    return market("many_offers", make_world(seed, CUSTOMERS, DAYS, offers=offers), decisions)


def market(name: str, world: World, decisions: int) -> Episode:
    """Visits of a market, spread evenly over its days, as an episode."""
    visits = draw_visits(world, decisions, world.seed)
    loop = market_loop(world)
    seen = OfflineLoop(world, UniformPolicy(), loop)
    expected = np.where(visits.truth.is_available, visits.truth.reward(world.objective), 0.0)
    rewards = np.where(visits.truth.is_available, _luck(world, visits), 0.0)
    known: dict[int, list[Action]] = {}
    rounds = []
    for start in range(0, visits.size, MARKET_ROUND):
        rows = range(start, min(start + MARKET_ROUND, visits.size))
        places = [np.flatnonzero(visits.truth.is_available[row]) for row in rows]
        customers = [int(visits.customer[row]) for row in rows]
        at = [world.start + timedelta(seconds=int(visits.seconds[row])) for row in rows]
        for number in customers:
            if number not in known:
                known[number] = seen.actions_of(number, np.arange(len(world.offers)))
        actions = [
            [known[number][place] for place in there.tolist()] for number, there in zip(customers, places, strict=True)
        ]
        contexts = [seen.context(number, when) for number, when in zip(customers, at, strict=True)]
        names = [world.customers[number].customer_id for number in customers]
        here = slice(rows.start, rows.stop)
        rounds.append(Round(at, names, contexts, actions, places, rewards[here], expected[here]))
    return Episode(name, world.seed, loop, len(world.offers), rounds)


def _luck(world: World, visits: Visits) -> Floats:
    """What every offer would bring at every visit, shape (rows, offers); equal luck whatever is shown."""
    columns = []
    for offer in range(len(world.offers)):
        generator = np.random.default_rng([world.seed, 8, world.seed])
        everybody = np.full(visits.size, offer)
        responses = draw_responses(world, visits.moments, visits.truth, everybody, generator)
        columns.append(responses.reward(world.objective))
    return np.stack(columns, axis=1)


def baskets(seed: int, decisions: int) -> Episode:
    """The demo's replay: each week the same number of households, one of 20 categories for each; a week is a round.

    Raises:
        CannotMeasure: the published data are not installed.
    """
    try:
        data, demographics = _published()
    except ModuleNotFoundError as error:
        raise CannotMeasure(f"{error}: the published baskets are in the extra offerloop[demo]") from None
    weeks = data.weeks - BURN_IN_WEEKS
    decided = plan(seed, data, households_per_week=max(decisions // weeks, 1), burn_in_weeks=BURN_IN_WEEKS)
    shop = _Shop(data, demographics)
    rounds = []
    for week in range(1, data.weeks + 1):
        if week > BURN_IN_WEEKS:
            if (week - BURN_IN_WEEKS) % PRECOMPUTE_WEEKS == 1:
                shop.precompute()
            rounds.append(shop.round(week, decided.household[decided.week == week]))
        shop.take(week)
    return Episode("baskets", seed, shop.loop, len(data.categories), rounds)


@lru_cache(maxsize=1)
def _published() -> tuple[Baskets, dict[str, dict[str, str]]]:
    return load(), load_demographics()


class _Shop:
    """What the service would know of the households, week by week; without the weather that the demo assumes."""

    def __init__(self, data: Baskets, demographics: Mapping[str, Mapping[str, str]]) -> None:
        self.loop = LoopConfig("baskets", time_zone=TIME_ZONE)
        self._data = data
        self._names = offer_ids(data.categories)
        self._records = {name: CustomerRecord(dict(features)) for name, features in demographics.items()}
        self._profiles: dict[str, Profile] = {}
        self._population = Population()
        self._region = Region("shop", TIME_ZONE, COUNTRY)
        self._cells = Cells()
        self._similarity = Similarity()
        self._thresholds = RfmThresholds()
        self._newest = week_start(1)
        self._together = np.zeros((len(data.categories), len(data.categories)))
        self._listed = [
            Offer(name, category, features={}) for name, category in zip(self._names, data.categories, strict=True)
        ]
        self._features = [offer_features(offer) for offer in self._listed]

    def take(self, week: int) -> None:
        """What everybody bought in a week, into the profiles."""
        bought = self._data.purchases[week - 1]
        for household, category, at, amount, basket in zip(
            bought.household_id.tolist(), bought.category.tolist(), bought.occurred_at, bought.sales_value.tolist(),
            bought.basket_id.tolist(), strict=True,
        ):  # fmt: skip
            name = f"h{household}"
            when = at.astype("datetime64[us]").item().replace(tzinfo=UTC)
            self._newest = max(self._newest, when)
            self._apply(
                Activity(
                    f"b{basket}-{category}", name, "purchase", when, self._data.categories[category],
                    amount=max(amount, 0.0),
                )
            )  # fmt: skip
        self._count_together(bought.basket_id, bought.category)

    def precompute(self) -> None:
        """What the scheduled job does: cells, similarities and quintiles of all customers."""
        nobody = CustomerRecord()
        customers = [
            CellCustomer(profile, self._records.get(name, nobody).demographics)
            for name, profile in sorted(self._profiles.items())
        ]
        self._cells = fit_cells(customers, self._newest)
        self._thresholds = fit_thresholds(self._profiles.values(), self._newest)
        self._similarity = Similarity(_neighbours(self._together, self._data.categories))

    def round(self, week: int, households: Indices) -> Round:
        """A week's decisions at its start, with what was bought in it."""
        at = week_start(week)
        names = [f"h{self._data.household_ids[household]}" for household in households.tolist()]
        known = [self._known(name) for name in names]
        bought = self._data.bought[households, week - 1].astype(np.float64)
        return Round(
            [at] * len(names),
            names,
            [build_context(self.loop, at, one, {})[0] for one in known],
            [self._actions(one, at) for one in known],
            [np.arange(len(self._names))] * len(names),
            bought,
            bought,
        )

    def _known(self, name: str) -> Known:
        record = self._records.get(name, CustomerRecord())
        return Known(self._profiles.get(name), record, "shop", self._region, thresholds=self._thresholds)

    def _actions(self, known: Known, at: datetime) -> list[Action]:
        season = str(season_at(at, self._region, TIME_ZONE)["season"])
        cell = self._cells.of(known.record.demographics, season)
        today = int(at.timestamp() // 86400)
        rates = {category: cell(category, self._population.rate(category, today)) for category in self._data.categories}
        affinities = Affinities(known.profile, rates.__getitem__, at)
        bought = bought_lately(known.profile, at) if known.profile else {}
        return [
            action_of(offer, features, self._affinity(affinities, bought, offer.category), "promoted")
            for offer, features in zip(self._listed, self._features, strict=True)
        ]

    def _affinity(self, affinities: Affinities, bought: Mapping[str, float], category: str) -> Features:
        features = affinities.of(category)
        also = self._similarity.affinity(bought, category) if bought else 0.0
        return {**features, "also": also} if also else features

    def _apply(self, activity: Activity) -> None:
        profile = self._profiles.get(activity.customer_id)
        if profile is None:
            profile = self._profiles[activity.customer_id] = Profile()
            self._population.customers += 1
        first = profile.first_purchase_day
        for category, day in profile.apply(activity):
            self._population.add_day(category, day)
        self._population.move_first(first, profile.first_purchase_day)

    def _count_together(self, baskets: Indices, categories: Indices) -> None:
        numbers = np.unique(baskets, return_inverse=True)[1]
        held = np.zeros((int(numbers.max(initial=-1)) + 1, len(self._names)))
        held[numbers, categories] = 1.0
        self._together += held.T @ held


def _neighbours(together: Floats, categories: Sequence[str]) -> dict[str, dict[str, float]]:
    """The nearest categories of each by cosine over baskets, the nearest first."""
    lengths = np.sqrt(np.maximum(np.diag(together), 1.0))
    cosine = np.round(together / np.outer(lengths, lengths), 4)
    np.fill_diagonal(cosine, 0.0)
    return {
        category: {
            categories[other]: float(cosine[place, other])
            for other in np.argsort(-cosine[place], kind="stable")[:NEIGHBOURS].tolist()
            if cosine[place, other] > 0.0
        }
        for place, category in enumerate(categories)
    }


WORLDS: Mapping[str, Callable[[int, int], Episode]] = {
    "baskets": baskets, "stationary": stationary, "drifting": drifting, "many_offers": many_offers,
}  # fmt: skip
