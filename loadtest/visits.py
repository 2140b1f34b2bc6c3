"""What users do on one visit: the calls a shop makes for them, as Locust counts them."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Sequence
from typing import Any

CUSTOMERS = 2000
BOTS = 20
CATEGORIES = ("soup", "ice_cream", "rainwear", "garden", "coffee", "pet_food", "toys", "books")
CLICK_SHARE = 0.12
SEEN_SHARE = 0.6
DOUBLED_SHARE = 0.05
DRAWER_SLOTS = 3
HEADERS = {"authorization": f"Bearer {os.environ['LOADTEST_KEY']}"} if "LOADTEST_KEY" in os.environ else {}


def rank_body(customer_id: str | None, device: str, **more: Any) -> dict[str, Any]:
    """A rank call over the whole catalogue."""
    context = {
        "device": {"kind": device},
        "weather": {"band": random.choice(("cold", "mild", "hot")), "condition": random.choice(("clear", "rain"))},
    }
    body: dict[str, Any] = {"context": context, **more}
    if customer_id is not None:
        body["customer_id"] = customer_id
    return body


def call(client: Any, path: str, body: Any, name: str) -> dict[str, Any] | None:
    """One call; None when it failed, which Locust has counted."""
    answer = client.post(path, json=body, headers=HEADERS, name=name)
    found: dict[str, Any] | None = answer.json() if answer.ok else None
    return found


def rank(client: Any, customer_id: str | None, device: str, **more: Any) -> dict[str, Any] | None:
    """One offer, or one for each of several slots."""
    name = "rank slots" if "slots" in more else "rank"
    return call(client, "/v1/rank", rank_body(customer_id, device, **more), name)


def reward(client: Any, decision: dict[str, Any], kind: str = "click", **more: Any) -> None:
    """Tell of an outcome; now and then the message comes twice, as shops' queues have it."""
    body = {"decision_id": decision["decision_id"], "kind": kind, "outcome_id": str(uuid.uuid4()), **more}
    for _ in range(2 if random.random() < DOUBLED_SHARE else 1):
        call(client, "/v1/reward", body, "reward")


def perhaps_click(client: Any, decision: dict[str, Any] | None, kind: str = "click", **more: Any) -> bool:
    """Reward a share of the decisions; whether this one was."""
    if decision is None or random.random() >= CLICK_SHARE:
        return False
    reward(client, decision, kind, **more)
    return True


def act(client: Any, customer_id: str, kinds: Sequence[str]) -> None:
    """Report what a customer did in one batch."""
    activities = [
        {"customer_id": customer_id, "kind": kind, "category": random.choice(CATEGORIES), "amount": 4.5}
        for kind in kinds
    ]
    call(client, "/v1/activity", {"activities": activities}, "activity")


def browse(client: Any, customer_id: str) -> None:
    """Look at pages, scroll to an offer perhaps, and click it perhaps."""
    act(client, customer_id, ["view"] * random.randint(1, 4))
    decision = rank(client, customer_id, "desktop", defer_activation=True)
    if decision is None or random.random() >= SEEN_SHARE:
        return
    call(client, "/v1/activate", {"decision_id": decision["decision_id"]}, "activate")
    if perhaps_click(client, decision):
        act(client, customer_id, ["click"])


def come_back(client: Any, customer_id: str) -> None:
    """Open the drawer of one's own offers, perhaps redeem one of them, and buy now and then."""
    drawer = rank(client, customer_id, "phone", slots=DRAWER_SLOTS)
    redeemed = perhaps_click(client, drawer, "redemption", slot=random.randrange(DRAWER_SLOTS))
    if redeemed or random.random() < 0.3:
        act(client, customer_id, ["cart_add", "purchase"])


def look_anonymously(client: Any) -> None:
    """See an offer without being known."""
    perhaps_click(client, rank(client, None, random.choice(("phone", "desktop"))))


def crawl(client: Any) -> None:
    """Fetch a page twice under one id, as crawlers that retry do; no outcome ever follows."""
    body = rank_body(f"bot-{random.randrange(BOTS)}", "bot", decision_id=str(uuid.uuid4()))
    for _ in range(2):
        call(client, "/v1/rank", body, "rank")
