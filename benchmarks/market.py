"""The shop that speed is measured in: 40 offers of which 20 are active, ten rules each, and customers with a past."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from adapters.installation import Installation
from adapters.weather import WeatherTable
from benchmarks.processes import CannotMeasure
from contextual_bandit.weather import Observation

OFFERS = 40
ACTIVE = 20
CUSTOMERS = 200
CATEGORIES = ("soup", "ice_cream", "rainwear", "garden", "coffee", "pet_food", "toys", "books")
REGION = "bench-town"
TRAINING_DECISIONS = 1000
TRAINING_SECONDS = 60.0
# Services swap a published model in within one second.
SWAP_SECONDS = 1.5


def rank_bodies(**more: Any) -> list[dict[str, Any]]:
    """One request per known customer, over the whole catalogue unless ``more`` says otherwise; equal in every run."""
    draw = random.Random(1)
    return [
        {
            "customer_id": f"bench-{number}",
            "channel": "web",
            "context": {"device": {"kind": draw.choice(("phone", "desktop"))}},
            **more,
        }
        for number in range(CUSTOMERS)
    ]


def prepare(installation: Installation, port: int) -> None:
    """Catalogue, customers, history, weather, and decisions with rewards that a learner turns into a policy.

    Service and learner must run.

    Raises:
        CannotMeasure: the learner did not do its part in time.
    """
    draw = random.Random(2)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client:

        def call(method: str, path: str, body: Mapping[str, Any]) -> Any:
            return client.request(method, path, json=body).raise_for_status().json()

        call("PUT", "/v1/loops/default", {"reward": {"wait_seconds": 2.0}, "export_frequency_seconds": 1.0})
        call("PUT", f"/v1/regions/{REGION}", {"time_zone": "America/Los_Angeles", "country": "US", "subdivision": "WA"})
        put_weather(installation)
        for number in range(OFFERS):
            call("PUT", f"/v1/offers/bench-{number}", offer_body(number) | {"rules": rules_of(0)})
        activities = []
        for number in range(CUSTOMERS):
            call("PUT", f"/v1/customers/bench-{number}", customer_body(number))
            for kind in ("view", "view", "click", "cart_add", "purchase", "purchase"):
                activities.append(
                    {"customer_id": f"bench-{number}", "kind": kind, "category": draw.choice(CATEGORIES), "amount": 5.0}
                )
        if not call("POST", "/v1/activity?wait=applied", {"activities": activities})["applied"]:
            raise CannotMeasure("the learner has not applied the customers' history")
        bodies = rank_bodies()
        for start in range(0, TRAINING_DECISIONS, 100):
            batch = [bodies[number % len(bodies)] for number in range(start, start + 100)]
            for decision in call("POST", "/v1/rank/batch", {"requests": batch})["decisions"]:
                if draw.random() < 0.1:
                    call("POST", "/v1/reward", {"decision_id": decision["decision_id"], "value": 1.0})
        deadline = time.monotonic() + TRAINING_SECONDS
        while not _is_trained(client.get("/v1/loops/default").raise_for_status().json()["status"]):
            if time.monotonic() > deadline:
                raise CannotMeasure("the training decisions were not learned")
            time.sleep(0.2)
        time.sleep(SWAP_SECONDS)
        answer = call("POST", "/v1/rank", bodies[0])
        if len(answer["ranking"]) != ACTIVE or answer["snapshot_id"].endswith("-0"):
            raise CannotMeasure(f"{len(answer['ranking'])} offers ranked by {answer['snapshot_id']}")


def _is_trained(status: Mapping[str, Any]) -> bool:
    """Whether all training decisions were learned, and a model of some of them is published."""
    return status["interactions"] >= TRAINING_DECISIONS and not status["snapshot_id"].endswith("-0")


def offer_body(number: int) -> dict[str, Any]:
    """An offer; the first half of them are active."""
    return {
        "category": CATEGORIES[number % len(CATEGORIES)],
        "status": "active" if number < ACTIVE else "paused",
        "features": {"price_band": ("low", "middle", "high")[number % 3]},
        "discount": 0.05 * (number % 6),
        "priority": number,
    }


def customer_body(number: int) -> dict[str, Any]:
    """What a customer says of themselves."""
    return {
        "demographics": {"occupation": ("student", "employee")[number % 2], "household_size": number % 5 + 1},
        "preferences": {"likes": "garden"},
        "consents": {"personalise": True},
        "age": 40 + number % 20,
        "region": REGION,
    }


def put_weather(installation: Installation) -> None:
    """Rain in the region, from yesterday to tomorrow."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    rain = Observation(temperature_c=11.0, precipitation_mm=6.0, condition="rain")
    days = [(midnight + timedelta(days=shift), rain) for shift in (-1, 0, 1)]
    WeatherTable(installation.engine).put_all(REGION, days, "benchmark", now)


def rules_of(number: int) -> list[dict[str, Any]]:
    """Ten rules that all pass, of the kinds that shops have; no two numbers have one in common."""
    # What is unknown does not pass, so a rule against a holiday or a taste says that none is fine too.
    conditions: dict[str, dict[str, Any]] = {
        "segment": {"fact": "customer.segment", "in": ["transactions_only", "both", f"tier-{number}"]},
        "region": {
            "any": [
                {"fact": "request.region", "in": [f"region-{number}", REGION]},
                {"fact": "customer.region", "is": f"region-{number}"},
            ]
        },
        "channel": {"fact": "request.channel", "in": [f"partner-{number}", "app", "web"]},
        "weather": {
            "any": [
                {"fact": "weather.condition", "in": ["drizzle", "rain", "thunder", f"storm-{number}"]},
                {"fact": "weather.precipitation", "is": "heavy"},
            ]
        },
        "season": {
            "all": [
                {"fact": "season.season", "in": ["winter", "spring", "summer", "autumn"]},
                {
                    "any": [
                        {"fact": "season.holiday", "known": False},
                        {"not": {"fact": "season.holiday", "is": f"holiday-{number}"}},
                    ]
                },
            ]
        },
        "age": {"fact": "customer.age", "between": [18 + number, 90]},
        "consent": {
            "all": [
                {"fact": "customer.consents", "has": "personalise"},
                {"not": {"fact": "customer.consents", "has": f"no-partner-{number}"}},
            ]
        },
        "priority": {"fact": "offer.priority", "at_least": number},
        "taste": {
            "any": [
                {"fact": "preferences.likes", "known": False},
                {"fact": "preferences.likes", "in": [f"theme-{number}", "garden"]},
            ]
        },
        "household": {"not": {"fact": "demographics.household_size", "more_than": 6 + number}},
    }
    return [{"code": code, "require": require} for code, require in conditions.items()]
