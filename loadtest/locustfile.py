"""Locust users of an offer service: a browser shopper, a returning customer, an anonymous visitor, a bot.

Each waits for its answers before it goes on, as people do; ``constant_rate.py`` does not. The catalogue must hold
offers (``python -m loadtest`` puts 40); against a service with keys, set ``LOADTEST_KEY``.
"""

from __future__ import annotations

import random

from locust import between
from locust.contrib.fasthttp import FastHttpUser

from loadtest import visits


def browse(user: Known) -> None:
    """Pages, an offer that may stay out of sight, perhaps a click."""
    visits.browse(user.client, user.customer_id)


def come_back(user: Known) -> None:
    """Three offers, perhaps a redemption, now and then a purchase."""
    visits.come_back(user.client, user.customer_id)


def look_anonymously(user: FastHttpUser) -> None:
    """An offer, perhaps a click."""
    visits.look_anonymously(user.client)


def crawl(user: FastHttpUser) -> None:
    """A page, and the same again."""
    visits.crawl(user.client)


class Known(FastHttpUser):  # type: ignore[misc]
    """A visitor whom the shop knows, from among a fixed number of customers."""

    abstract = True

    def on_start(self) -> None:
        """Be someone."""
        self.customer_id = f"load-{random.randrange(visits.CUSTOMERS)}"


class BrowserShopper(Known):
    """Looks at many pages with little pause."""

    weight = 10
    wait_time = between(0.5, 2.0)
    tasks = [browse]  # noqa: RUF012  (Locust's own way)


class ReturningCustomer(Known):
    """Comes for the drawer of offers, and buys."""

    weight = 6
    wait_time = between(1.0, 4.0)
    tasks = [come_back]  # noqa: RUF012


class AnonymousVisitor(FastHttpUser):  # type: ignore[misc]
    """Has no customer id and so no history."""

    weight = 4
    wait_time = between(0.5, 3.0)
    tasks = [look_anonymously]  # noqa: RUF012


class Bot(FastHttpUser):  # type: ignore[misc]
    """Fetches pages one right after the other, each of them twice, and never buys."""

    weight = 1
    wait_time = between(0.1, 0.3)
    tasks = [crawl]  # noqa: RUF012
