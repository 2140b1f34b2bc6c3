"""Rank calls at a constant rate, each timed from the moment it was due (a Locust file of its own).

Users who wait for their answers slow down with the service, so that a stall is seen by the few who happened to wait
and hides all calls that it kept from being made ("coordinated omission"). Here calls start by the clock, whether the
ones before are answered or not, and ``rank from due`` counts from when each should have started.

``--user-rate`` is of each of ``--users``, on whichever machine it is: Locust tells its workers no total.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

import gevent
from gevent.pool import Pool
from locust import constant, events
from locust.contrib.fasthttp import FastHttpUser

from loadtest.objective import FROM_DUE
from loadtest.visits import CUSTOMERS, perhaps_click, rank

# Beyond so many unanswered calls of one user the service has fallen over: more of them would say nothing.
MOST_WAITING = 500
MORE_SECONDS = 5.0


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_rate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user-rate", type=float, default=5.0, help="rank calls per second of each user")


def arrive(user: Arrivals) -> None:
    """Wait until the next call is due, and start it without waiting for its answer."""
    gevent.sleep(max(0.0, user.due - time.perf_counter()))
    if user.calls.full():
        _count(user.environment, 0.0, RuntimeError(f"{MOST_WAITING} calls are unanswered"))
    else:
        user.calls.spawn(user.one, user.due)
    user.due += user.seconds_between


class Arrivals(FastHttpUser):  # type: ignore[misc]
    """Makes calls by the clock, as many customers would."""

    tasks = [arrive]  # noqa: RUF012  (Locust's own way)
    wait_time = constant(0)
    concurrency = MOST_WAITING

    def on_start(self) -> None:
        """Begin at a moment of one's own."""
        self.seconds_between = 1.0 / self.environment.parsed_options.user_rate
        self.calls = Pool(MOST_WAITING)
        self.due = time.perf_counter() + random.random() * self.seconds_between

    def one(self, due: float) -> None:
        """One customer's call, timed from when it was due; some click a while later."""
        decision = rank(self.client, f"load-{random.randrange(CUSTOMERS)}", random.choice(("phone", "desktop")))
        failed = None if decision is not None else RuntimeError("the rank call failed")
        _count(self.environment, (time.perf_counter() - due) * 1000.0, failed)
        gevent.sleep(random.random())
        perhaps_click(self.client, decision)

    def on_stop(self) -> None:
        """Let calls that are under way end."""
        self.calls.join(timeout=MORE_SECONDS)


def _count(environment: Any, milliseconds: float, error: Exception | None) -> None:
    environment.events.request.fire(
        request_type="DUE", name=FROM_DUE, response_time=milliseconds, response_length=0, exception=error, context={}
    )
