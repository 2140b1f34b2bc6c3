"""What a simulated shop tells the service: bodies of its calls, without any network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from contextual_bandit.loops import DEFAULT_ARGUMENTS
from simulator.assumed import CATEGORIES, MARGINS, USUAL_PRICES
from simulator.delays import reporting_delays
from simulator.offline import COUNTRY, REWARD_RANGES
from simulator.responses import Responses
from simulator.shelf import MarketOffer
from simulator.world import DAY, Customer, Objective, World

WAIT_DAYS = 3.0
GRACE_SECONDS = 3600.0
EXPORT_SECONDS = 6 * 3600.0
DOUBLED_SHARE = 0.05
# Namespaces that the loop of the ablation does not see.
WEATHER_AND_SEASON = "WS"


@dataclass(order=True, slots=True)
class Due:
    """An outcome on its way to the service: when it is sent, and its body; ``doubled`` ones are sent twice."""

    at: datetime
    number: int
    body: dict[str, Any] = field(compare=False)
    doubled: bool = field(compare=False)
    is_late: bool = field(compare=False)


def loop_settings(objective: Objective, *, hidden: str = "") -> dict[str, Any]:
    """A loop of the market; namespaces whose letters are ``hidden`` are kept from its policy."""
    low, high = REWARD_RANGES[objective]
    reward: dict[str, Any] = {"low": low, "high": high, "wait_seconds": WAIT_DAYS * 86400.0}
    if objective == "clicks":
        reward |= {"aggregation": "earliest", "kinds": {"click": 1.0, "purchase": 0.0, "refund": 0.0}}
    else:
        # Money of the offer's own purchases by its margin; what else is bought is sent as the money that it earns.
        reward |= {
            "aggregation": "sum",
            "kinds": {
                "contact": -1.0, "click": 0.0, "purchase": {"measure": "margin"}, "organic": 1.0,
                "refund": {"worth": -1.0, "measure": "margin", "correction": True},
                "organic_refund": {"worth": -1.0, "correction": True},
            },
        }  # fmt: skip
    return {
        "arguments": DEFAULT_ARGUMENTS + (f" --ignore {hidden}" if hidden else ""),
        "clock": "simulated",
        "reward": reward,
        "grace_seconds": GRACE_SECONDS,
        "export_frequency_seconds": EXPORT_SECONDS,
    }


def offer_body(offer: MarketOffer, start: datetime) -> dict[str, Any]:
    """An offer of the catalogue; the shop itself counts what a contact costs."""
    if offer.is_none:
        return {"category": offer.category, "type": "none"}
    body: dict[str, Any] = {
        "category": offer.category, "type": "percentage", "discount": offer.discount, "price": offer.price,
        "margin": offer.margin, "features": offer.features,
    }  # fmt: skip
    if offer.first_day > 0.0:
        body["valid_from"] = (start + offer.first_day * DAY).isoformat()
    if np.isfinite(offer.last_day):
        body["valid_to"] = (start + offer.last_day * DAY).isoformat()
    return body


def customer_body(customer: Customer, seed: int) -> dict[str, Any]:
    """What the shop says of a customer."""
    return {"demographics": customer.demographics, "region": region_name(customer.region, seed)}


def region_name(region: str, seed: int) -> str:
    """A region of the market as the service knows it."""
    return f"market-{seed}-{region}"


def region_body() -> dict[str, Any]:
    """Regions have the market's clock and a country's holidays; the shop itself sends the weather."""
    return {"time_zone": "UTC", "country": COUNTRY}


def outcomes(
    world: World, decision: tuple[str, str], at: datetime, offer: MarketOffer, found: Responses,
    generator: np.random.Generator, number: int,
) -> list[Due]:  # fmt: skip
    """The outcomes of one visit that a shop reports, in no order.

    Args:
        world: The market.
        decision: Loop and decision id.
        at: When it was decided.
        offer: What was shown.
        found: What came of it, one row.
        generator: Luck of reporting: how late, and whether twice.
        number: The visit's number, which orders outcomes of one moment.
    """
    events: list[tuple[str, float | None, float]] = []
    paid = float(found.purchase_seconds[0])
    if world.objective == "margin" and not offer.is_none:
        events.append(("contact", offer.cost, 0.0))
    if found.clicked[0]:
        events.append(("click", None, float(found.click_seconds[0])))
    if found.redeemed[0]:
        amount = offer.price if world.objective == "margin" else None
        events.append(("purchase", amount, paid))
        if found.returned[0]:
            events.append(("refund", amount, paid + float(found.return_seconds[0])))
    if world.objective == "margin":
        for index in np.flatnonzero(found.organic[0]):
            earned = round(USUAL_PRICES[CATEGORIES[index]] * MARGINS[CATEGORIES[index]], 4)
            events.append(("organic", earned, 0.5 * paid))
            if found.organic_returned[0, index]:
                events.append(("organic_refund", earned, 0.5 * paid + float(found.return_seconds[0])))
    later = reporting_delays(generator.random(len(events)), generator.standard_normal(len(events)))
    doubled = generator.random(len(events)) < DOUBLED_SHARE
    return [
        _due(decision, at, kind, amount, seconds + float(later[place]), number, place, bool(doubled[place]))
        for place, (kind, amount, seconds) in enumerate(events)
    ]


def _due(
    decision: tuple[str, str], at: datetime, kind: str, amount: float | None, seconds: float, number: int, place: int,
    doubled: bool,
) -> Due:  # fmt: skip
    when = at + timedelta(seconds=seconds)
    body: dict[str, Any] = {
        "loop": decision[0],
        "decision_id": decision[1],
        "kind": kind,
        "outcome_id": f"{decision[1]}-{kind}-{place}",
        "occurred_at": when.isoformat(),
    }
    if amount is not None:
        body["amount"] = amount
    return Due(when, number, body, doubled, seconds > WAIT_DAYS * 86400.0)


def activity(
    visit_id: str, customer: Customer, at: datetime, kind: str, category: str, *,
    offer: MarketOffer | None = None, amount: float | None = None, place: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """One thing a customer did; purchases of one visit share an order."""
    entry: dict[str, Any] = {
        "activity_id": f"{visit_id}-{kind}-{place}",
        "customer_id": customer.customer_id,
        "kind": kind,
        "occurred_at": at.isoformat(),
        "category": category,
    }
    if offer is not None:
        entry["offer_id"] = offer.offer_id
    if amount is not None:
        entry["amount"] = round(amount, 2)
        entry["order_id"] = visit_id
    return entry


def session(
    visit_id: str, customer: Customer, at: datetime, viewed: Sequence[str], offer: MarketOffer | None, found: Responses
) -> list[dict[str, Any]]:
    """Everything that a customer did around one visit: page views, clicks, what they put into the cart, and bought."""
    entries = [activity(visit_id, customer, at, "view", category, place=place) for place, category in enumerate(viewed)]
    if offer is not None and not offer.is_none:
        if found.clicked[0]:
            entries.append(activity(visit_id, customer, at, "click", offer.category, offer=offer))
        if found.carted[0]:
            entries.append(activity(visit_id, customer, at, "cart_add", offer.category, offer=offer))
        if found.redeemed[0]:
            paid = offer.price * (1.0 - offer.discount)
            entries.append(activity(visit_id, customer, at, "purchase", offer.category, offer=offer, amount=paid))
    for place, index in enumerate(np.flatnonzero(found.organic[0]).tolist(), 1):
        name = CATEGORIES[index]
        entries.append(
            activity(visit_id, customer, at, "purchase", name, amount=USUAL_PRICES[name], place=place)
        )  # fmt: skip
    return entries
