"""When simulated customers come: by hour and weekday as baskets were published, more before sales dates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from contextual_bandit.season import days_to_next_sale, holiday_on
from simulator.targets import BASKETS_BY_HOUR, BASKETS_BY_WEEKDAY
from simulator.world import DAY, SALE_WEEK_DAYS, Customer, World

# Assumed: how many more come in the week before a sales date, and how many fewer on a public holiday.
SALE_VISITS = 1.3
HOLIDAY_VISITS = 0.6
COUNTRY = "US"


@dataclass(frozen=True, slots=True)
class Visit:
    """One customer's visit; ``number`` counts all visits from 0 and names the decision."""

    number: int
    customer: Customer
    at: datetime


def plan_visits(world: World, days: int, visits_per_day: float) -> Iterator[list[Visit]]:
    """Each day's visits in order of time: a Poisson number, customers by how much they visit.

    Args:
        world: The market.
        days: How many days of it.
        visits_per_day: The usual number, all customers together.
    """
    people = world.population
    hours = np.array(BASKETS_BY_HOUR) / sum(BASKETS_BY_HOUR)
    number = 0
    for day in range(days):
        generator = np.random.default_rng([world.seed, 10, day])
        today = world.start + day * DAY
        count = int(generator.poisson(visits_per_day * busyness(today)))
        weights = np.where(people.joined_day <= day, people.visit_weight, 0.0)
        if not count or not weights.any():
            yield []
            continue
        who = generator.choice(weights.size, count, p=weights / weights.sum())
        seconds = ((generator.choice(24, count, p=hours) + generator.random(count)) * 3600.0).astype(np.int64)
        visits = []
        for second, index in sorted(zip(seconds.tolist(), who.tolist(), strict=True)):
            visits.append(Visit(number, world.customers[index], today + timedelta(seconds=second)))
            number += 1
        yield visits


def busyness(today: datetime) -> float:
    """A day's number of visits over the usual one."""
    factor = len(BASKETS_BY_WEEKDAY) * BASKETS_BY_WEEKDAY[today.weekday()]
    if days_to_next_sale(today.date()) <= SALE_WEEK_DAYS:
        factor *= SALE_VISITS
    if holiday_on(COUNTRY, today.date()) is not None:
        factor *= HOLIDAY_VISITS
    return factor
