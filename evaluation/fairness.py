"""Exposure and reward per demographic group, from a loop's log: what each group was shown, and what came of it."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np

from contextual_bandit.types import Action, Decision, Estimate, FeatureValue, LoggedInteraction
from evaluation.arrays import FloatArray
from evaluation.exposure import CustomerSums, ExposureTable, most_exposed
from evaluation.reward_model import by_category, by_offer

NOT_KNOWN = "(not known)"
LEAST_DECISIONS = 30
# Intervals rest on differences between customers; a handful of customers says nothing of their group.
LEAST_CUSTOMERS = 20
# A mean that is known less well than this (standard error over mean) gives a ratio without an interval.
LARGEST_RELATIVE_ERROR = 0.3
MOST_GROUPS = 40
MOST_ITEMS = 20
ITEM_KEYS: Mapping[str, Callable[[Action], str]] = {"offer": by_offer, "category": by_category}


class FairnessUnavailable(RuntimeError):
    """The library that compares groups is not installed."""

    def __init__(self) -> None:
        """Say which extra brings it."""
        super().__init__("the fairness report needs fairlearn: install offerloop[fairness]")


class TooManyGroups(ValueError):
    """A feature with so many values forms no groups."""


@dataclass(frozen=True, slots=True)
class Group:
    """One demographic group. Without enough data ``reward`` is None and no item speaks of it.

    ``reward`` is the mean reward per decision; its interval is by customer, since one customer's decisions are alike.
    """

    name: str
    decisions: int
    customers: int
    reward: Estimate | None

    @property
    def is_enough(self) -> bool:
        """Whether anything may be said of it."""
        return self.reward is not None


@dataclass(frozen=True, slots=True)
class Shown:
    """One item in one group, as shares of the group's decisions.

    ``exposure`` is the mean probability with which it was served: what was expected, free of the luck of the draws.
    ``shown`` is how often it was drawn, ``eligible`` how often the rules let it compete.
    """

    exposure: Estimate
    shown: float
    eligible: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """The clearest difference between two groups in one measure.

    The intervals are widened for all pairs of groups and all measures that were looked at (Bonferroni).
    """

    higher: str
    lower: str
    difference: Estimate
    ratio: Estimate | None

    @property
    def is_told_apart(self) -> bool:
        """Whether chance can hardly explain it."""
        return self.difference.low > 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the known groups lie apart in one measure: an item's exposure, or the mean reward (``item`` is None).

    ``difference`` is the highest group's value less the lowest's, ``ratio`` the lowest's over the highest's (None
    where it does not exist). Groups that are treated alike have no difference of exactly 0 and no ratio of exactly 1:
    ``clearest`` says whether chance can explain what there is.
    """

    item: str | None
    overall: float
    difference: float
    ratio: float | None
    clearest: Contrast


@dataclass(frozen=True, slots=True)
class Fairness:
    """The whole comparison. ``shown`` is by item and group, ``spreads`` of the reward first and then of the items."""

    loop: str
    by: str
    per: str
    decisions: int
    customers: int
    level: float
    groups: tuple[Group, ...]
    shown: Mapping[str, Mapping[str, Shown]]
    spreads: tuple[Spread, ...]
    uses: Mapping[str, int]
    first_at: datetime | None
    last_at: datetime | None
    left_out_items: int = 0

    @property
    def compared(self) -> tuple[Group, ...]:
        """The groups that are compared: known, and with enough data."""
        return tuple(group for group in self.groups if group.is_enough and group.name != NOT_KNOWN)


def compare_groups(
    interactions: Iterable[LoggedInteraction],
    by: str,
    *,
    per: str = "offer",
    level: float = 0.95,
    most_items: int = MOST_ITEMS,
    progress: Callable[[int], None] | None = None,
) -> Fairness:
    """Compare groups of customers in one pass over a log; memory grows with customers, not with decisions.

    Every closed decision counts, whatever its use: all of them were shown to somebody.

    Args:
        interactions: closed interactions, read once.
        by: the demographic feature that makes the groups, such as ``age_band``.
        per: ``offer`` or ``category``: what exposure is counted by.
        level: of the intervals, in (0, 1).
        most_items: how many of the most exposed items are compared.
        progress: called with the number of interactions read so far, now and then.

    Raises:
        FairnessUnavailable: fairlearn is not installed.
        TooManyGroups: the feature has more values than can be groups.
        ValueError: ``per`` or ``level`` is none of the allowed.
    """
    if per not in ITEM_KEYS:
        raise ValueError(f"per must be one of {', '.join(ITEM_KEYS)}, got {per!r}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level {level} is outside (0, 1)")
    key_of = ITEM_KEYS[per]
    cells: dict[tuple[str, str], CustomerSums] = {}
    uses: Counter[str] = Counter()
    loop, number = "", 0
    first_at = last_at = None
    for number, interaction in enumerate(interactions, 1):
        decision = interaction.decision
        loop = loop or decision.loop
        first_at, last_at = first_at or interaction.closed_at, interaction.closed_at
        uses[interaction.use] += 1
        customer = f"c:{decision.customer_id}" if decision.customer_id is not None else f"d:{decision.decision_id}"
        cell = (group_of(decision, by), customer)
        sums = cells.get(cell)
        if sums is None:
            sums = cells[cell] = CustomerSums()
        sums.add(decision, interaction.reward, key_of)
        if progress is not None and number % 8192 == 0:
            progress(number)
    items = most_exposed(cells)
    kept = items[:most_items]
    table = ExposureTable.of(cells, _names(cells, by), kept)
    groups = tuple(_group(table, name, level) for name in table.names)
    enough = [group.name for group in groups if group.is_enough]
    known = [name for name in enough if name != NOT_KNOWN]
    return Fairness(
        loop=loop,
        by=by,
        per=per,
        decisions=number,
        customers=len({customer for _, customer in cells}),
        level=level,
        groups=groups,
        shown={item: {name: _shown(table, item, name, level) for name in enough} for item in kept},
        spreads=_spreads(table, known, level) if len(known) > 1 else (),
        uses=dict(sorted(uses.items())),
        first_at=first_at,
        last_at=last_at,
        left_out_items=len(items) - len(kept),
    )


def group_of(decision: Decision, by: str) -> str:
    """The demographic group that a decision was made for; one without the feature is a group of its own."""
    value: FeatureValue | None = decision.context.namespaces.get("D", {}).get(by)
    if value is None:
        return NOT_KNOWN
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else f"{value:g}"


def _names(cells: Mapping[tuple[str, str], CustomerSums], by: str) -> list[str]:
    names = sorted({name for name, _ in cells}, key=lambda name: (name == NOT_KNOWN, name))
    if len(names) > MOST_GROUPS:
        raise TooManyGroups(f"{by!r} has {len(names)} values, {MOST_GROUPS} at most can be compared: send bands")
    return names


def _group(table: ExposureTable, name: str, level: float) -> Group:
    mine = table.rows_of(name)
    decisions, customers = int(table.decisions[mine].sum()), int(mine.sum())
    is_enough = decisions >= LEAST_DECISIONS and customers >= LEAST_CUSTOMERS
    return Group(name, decisions, customers, table.mean(name, table.reward, level) if is_enough else None)


def _shown(table: ExposureTable, item: str, name: str, level: float) -> Shown:
    mine = table.rows_of(name)
    decisions = table.decisions[mine].sum()
    exposure, shown, competed = table.items[item]
    return Shown(
        table.mean(name, exposure, level),
        float(shown[mine].sum() / decisions),
        float(competed[mine].sum() / decisions),
    )


def _spreads(table: ExposureTable, known: Sequence[str], level: float) -> tuple[Spread, ...]:
    measures: list[tuple[str | None, FloatArray]] = [(None, table.reward)]
    measures += [(item, columns[0]) for item, columns in table.items.items()]
    # Bonferroni over everything that is looked at: the widest of many differences is not the likeliest one.
    strict = 1.0 - (1.0 - level) / (len(known) * (len(known) - 1) / 2 * len(measures))
    return tuple(_spread(table, item, column, known, strict) for item, column in measures)


def _spread(table: ExposureTable, item: str | None, column: FloatArray, known: Sequence[str], level: float) -> Spread:
    metric_frame, mean_prediction = _fairlearn()
    used = table.rows_of(*known)
    weights = table.decisions[used]
    means = column[used] / weights
    # Customers weighted by their decisions give the mean over decisions; there is no truth to compare with.
    frame = metric_frame(
        metrics=mean_prediction,
        y_true=means,
        y_pred=means,
        sensitive_features=np.array(table.names, dtype=object)[table.group_index[used]],
        sample_params={"sample_weight": weights},
    )
    values = {str(name): float(value) for name, value in frame.by_group.items()}
    ratio = float(frame.ratio()) if min(values.values()) >= 0.0 and max(values.values()) > 0.0 else None
    contrasts = [_contrast(table, column, values, pair, level) for pair in combinations(known, 2)]
    return Spread(
        item,
        float(frame.overall),
        float(frame.difference()),
        ratio,
        max(contrasts, key=lambda one: one.difference.low),
    )


def _contrast(
    table: ExposureTable, column: FloatArray, values: Mapping[str, float], pair: tuple[str, str], level: float
) -> Contrast:
    lower, higher = sorted(pair, key=lambda name: values[name])
    above, below = values[higher], values[lower]
    rows = table.rows_of(*pair)
    n, customers = int(table.decisions[rows].sum()), float(rows.sum())
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    half = z * math.sqrt(table.variance((higher, lower), (1.0, -1.0), column))
    difference = Estimate("difference", above - below, above - below - half, above - below + half, n, customers)
    ratio = None
    if below > 0.0:
        value, spread = below / above, math.inf
        if table.variance((lower,), (1.0 / below,), column) <= LARGEST_RELATIVE_ERROR**2:
            # On the logarithm's scale, where a ratio's spread is even.
            spread = z * math.sqrt(table.variance((higher, lower), (1.0 / above, -1.0 / below), column))
        ratio = Estimate("ratio", value, value * math.exp(-spread), value * math.exp(spread), n, customers)
    return Contrast(higher, lower, difference, ratio)


def _fairlearn() -> tuple[Any, Any]:
    try:
        metrics = importlib.import_module("fairlearn.metrics")
    except ImportError as missing:
        raise FairnessUnavailable from missing
    return metrics.MetricFrame, metrics.mean_prediction
