"""Locust users of an offer service: a browser shopper, a returning customer, an anonymous visitor.

The catalogue must hold offers (``python -m loadtest`` puts 40); against a service with keys, set ``LOADTEST_KEY``.
"""

from __future__ import annotations

import os
import random
import uuid
from typing import Any

from locust import HttpUser, between

CUSTOMERS = 2000
CATEGORIES = ("soup", "ice_cream", "rainwear", "garden", "coffee", "pet_food", "toys", "books")
CLICK_SHARE = 0.12
HEADERS = {"authorization": f"Bearer {os.environ['LOADTEST_KEY']}"} if "LOADTEST_KEY" in os.environ else {}


def rank(user: Any, customer_id: str | None, device: str) -> dict[str, Any] | None:
    """One rank call over the whole catalogue; None when it failed, which Locust has counted."""
    body: dict[str, Any] = {
        "context": {
            "device": {"kind": device},
            "weather": {"band": random.choice(("cold", "mild", "hot")), "condition": random.choice(("clear", "rain"))},
        }
    }
    if customer_id is not None:
        body["customer_id"] = customer_id
    answer = user.client.post("/v1/rank", json=body, headers=HEADERS, name="rank")
    return answer.json() if answer.ok else None


def perhaps_click(user: Any, decision: dict[str, Any] | None, kind: str = "click") -> bool:
    """Reward a share of the decisions; whether this one was."""
    if decision is None or random.random() >= CLICK_SHARE:
        return False
    body = {"decision_id": decision["decision_id"], "kind": kind, "outcome_id": str(uuid.uuid4())}
    user.client.post("/v1/reward", json=body, headers=HEADERS, name="reward")
    return True


def act(user: Any, customer_id: str, *kinds: str) -> None:
    """Report what a customer did in one batch."""
    activities = [
        {"customer_id": customer_id, "kind": kind, "category": random.choice(CATEGORIES), "amount": 4.5}
        for kind in kinds
    ]
    user.client.post("/v1/activity", json={"activities": activities}, headers=HEADERS, name="activity")


def browse(user: Any) -> None:
    """Look at pages, see an offer, perhaps click it."""
    act(user, user.customer_id, *["view"] * random.randint(1, 4))
    if perhaps_click(user, rank(user, user.customer_id, "desktop")):
        act(user, user.customer_id, "click")


def come_back(user: Any) -> None:
    """See an offer first, perhaps redeem it, and buy now and then."""
    redeemed = perhaps_click(user, rank(user, user.customer_id, "phone"), "redemption")
    if redeemed or random.random() < 0.3:
        act(user, user.customer_id, "cart_add", "purchase")


def look_anonymously(user: Any) -> None:
    """See an offer without being known."""
    perhaps_click(user, rank(user, None, random.choice(("phone", "desktop"))))


class Known(HttpUser):  # type: ignore[misc]
    """A visitor whom the shop knows, from among a fixed number of customers."""

    abstract = True

    def on_start(self) -> None:
        """Be someone."""
        self.customer_id = f"load-{random.randrange(CUSTOMERS)}"


class BrowserShopper(Known):
    """Looks at many pages with little pause."""

    weight = 5
    wait_time = between(0.5, 2.0)
    tasks = [browse]  # noqa: RUF012  (Locust's own way)


class ReturningCustomer(Known):
    """Comes for an offer and buys."""

    weight = 3
    wait_time = between(1.0, 4.0)
    tasks = [come_back]  # noqa: RUF012


class AnonymousVisitor(HttpUser):  # type: ignore[misc]
    """Has no customer id and so no history."""

    weight = 2
    wait_time = between(0.5, 3.0)
    tasks = [look_anonymously]  # noqa: RUF012
