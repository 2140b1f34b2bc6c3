"""What a decision costs as offers, customers and open decisions become more, and the exponent of each.

Costs are processor time of the processes that do the work, as Linux counts it, over how slow the machine is at that
moment (``Pace``): shared cores have shared caches, which makes the same work take longer in processor time too. A rank
is asked of a real worker over HTTP, over a private PostgreSQL and Valkey; what an open decision costs is measured in a
real learner.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

from adapters.installation import Installation
from benchmarks import customers, market, scale_charts
from benchmarks.fits import exponent, line_through
from benchmarks.learn import prepare
from benchmarks.open_decisions import OpenDecisions, with_offers
from benchmarks.process_use import Pace, processor_seconds, store_processes
from benchmarks.processes import CannotMeasure, environment_of, free_port, learning, running, wait_ready
from contextual_bandit.loops import DEFAULT_ARGUMENTS

OFFER_SIZES = (10, 30, 100, 300, 1_000)
CUSTOMER_SIZES = (1_000, 10_000, 100_000, 1_000_000)
OPEN_SIZES = (1_000, 10_000, 100_000, 1_000_000)
# Learning settings that are compared as offers become more: the product's own, and one made for many of them.
SETTINGS: Mapping[str, str] = {
    "plain": DEFAULT_ARGUMENTS,
    "large": f"{DEFAULT_ARGUMENTS} --large_action_space --max_actions 20",
}
# As many calls as take some tenths of a second of processor time, by how many offers each names.
OFFERS_ASKED = 12_000
MOST_CALLS, LEAST_CALLS = 400, 30
TRAINING_CALLS = 300
CUSTOMERS_ASKED = 1_000
CONNECTIONS = 4
# The join is measured with small decisions, so that a million of them can be made within a minute or two.
OFFERS_OF_OPEN = 2
OPEN_DECIDED = 3_000
LEAST_REPETITIONS = 3
TRAINED_WITHIN_SECONDS = 60.0
MOST_EXPONENT_OFFERS, MOST_EXPONENT_HELD = 1.0, 0.1


class Runs:
    """Costs by size and line, taken together at the machine's first pace."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._costs: dict[int, dict[str, list[float]]] = {}
        self._slowness: dict[int, list[float]] = {}

    def add(self, size: int, run: Callable[[], Mapping[str, float]]) -> None:
        """Measure once, with a look at the machine's pace before and after."""
        before = self._pace.slowness()
        costs = run()
        slowness = (before + self._pace.slowness()) / 2.0
        self._slowness.setdefault(size, []).append(slowness)
        lines = self._costs.setdefault(size, {})
        for line, cost in costs.items():
            lines.setdefault(line, []).append(cost / slowness)

    def curve(self) -> Curve:
        """Medians."""
        sizes = tuple(sorted(self._costs))
        lines = {
            line: tuple(statistics.median(self._costs[size][line]) for size in sizes) for line in self._costs[sizes[0]]
        }
        return Curve(sizes, lines, tuple(statistics.median(self._slowness[size]) for size in sizes))

    def told(self, size: int) -> str:
        """What was found so far at a size, in words."""
        lines = ", ".join(f"{line} {statistics.median(found):.0f} us" for line, found in self._costs[size].items())
        return f"{lines}; slowness {self._slowness[size][-1]:.2f}, load {os.getloadavg()[0]:.1f}"


@dataclass(frozen=True, slots=True)
class Curve:
    """Microseconds of processor time per decision by size, one line for each name.

    They are at the machine's first pace; ``slowness`` is how many times longer it really took.
    """

    sizes: tuple[int, ...]
    costs: Mapping[str, tuple[float, ...]]
    slowness: tuple[float, ...]

    def figures(self, name: str) -> dict[str, Any]:
        """The exponent of the first line, those of the others under their names, and all points."""
        found: dict[str, Any] = {
            f"scale_{name}_sizes": list(self.sizes),
            f"scale_{name}_slowness": [round(one, 2) for one in self.slowness],
        }
        for number, (line, costs) in enumerate(self.costs.items()):
            fit = exponent([float(size) for size in self.sizes], costs)
            key = f"scale_exponent_{name}" + (f"_{line}" if number else "")
            found |= {key: round(fit.slope, 4), f"{key}_error": round(fit.standard_error, 4)}
            found[f"scale_{name}_{line}_us"] = [round(cost, 1) for cost in costs]
        return found

    def per_thing(self, name: str) -> dict[str, float]:
        """What one more of them costs, and what a decision costs without any: a line through the points."""
        fit = line_through([float(size) for size in self.sizes], next(iter(self.costs.values())))
        return {f"scale_{name}_us_each": round(fit.slope, 2), f"scale_{name}_us_fixed": round(fit.intercept, 1)}


def measure(installation: Installation, repetitions: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """The three curves, each drawn as a picture beside the installation's folder.

    Args:
        installation: stores and a data folder of the benchmark's own.
        repetitions: how often each point is measured, at least 3; medians count.
        seconds: not used; each point takes a number of calls.
        say: called with one line per step.

    Returns:
        Flat figures. ``scale_exponent_offers``, ``_customers`` and ``_open_decisions`` with their standard errors;
        the sizes, microseconds of processor time per decision at each, and how slow the machine was then.

    Raises:
        CannotMeasure: a process did not come up or a request failed.
    """
    repetitions = max(repetitions, LEAST_REPETITIONS)
    known, pace = prepare(installation), Pace()
    with ExitStack() as stack:
        worker = Worker(installation, stack)
        curves = {
            "offers": offers_curve(worker, repetitions, pace, say),
            "customers": customers_curve(worker, repetitions, pace, say),
        }
    filled = OpenDecisions(installation, with_offers(known[-1], OFFERS_OF_OPEN))
    curves["open_decisions"] = open_curve(filled, repetitions, pace, say)
    figures: dict[str, Any] = {}
    for name, curve in curves.items():
        figures |= curve.figures(name)
        scale_charts.save(name, curve.sizes, curve.costs, installation.settings.data_dir.parent / f"scale_{name}.png")
    figures |= curves["offers"].per_thing("offers")
    return figures | {
        "scale_within_bars": figures["scale_exponent_offers"] <= MOST_EXPONENT_OFFERS
        and figures["scale_exponent_customers"] <= MOST_EXPONENT_HELD
        and figures["scale_exponent_open_decisions"] <= MOST_EXPONENT_HELD,
        "scale_repetitions": repetitions,
        "scale_load_average": round(os.getloadavg()[0], 2),
    }


class Worker:
    """A service of one worker that remembers no profile, so that each call reads its customer."""

    def __init__(self, installation: Installation, stack: ExitStack) -> None:
        """Start it; ``stack`` stops it."""
        self.installation = installation
        self.port = free_port()
        words = ("serve", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1")
        environment = environment_of(installation) | {"OFFERLOOP_PROFILE_CACHE_SECONDS": "0"}
        self.pid = stack.enter_context(running("offerloop", *words, environment=environment)).pid
        self.http = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120.0))
        wait_ready(self.port)

    def cost(self, bodies: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
        """Processor microseconds per call of the worker and of its stores, each body asked for once.

        Raises:
            CannotMeasure: a call failed.
        """
        lines = [json.dumps(body).encode() for body in bodies]
        stores = store_processes(self.installation)
        before = processor_seconds([self.pid]), processor_seconds(stores)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(self._ask, (lines[first::CONNECTIONS] for first in range(CONNECTIONS))))
        after = processor_seconds([self.pid]), processor_seconds(stores)
        worker, took = after[0] - before[0], after[1] - before[1]
        return 1e6 * worker / len(lines), 1e6 * took / len(lines)

    def _ask(self, lines: Sequence[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120.0)
        for line in lines:
            connection.request("POST", "/v1/rank", line, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                raise CannotMeasure(f"a rank was answered with {answer.status}: {said[:300]!r}")
        connection.close()


def offers_curve(worker: Worker, repetitions: int, pace: Pace, say: Callable[[str], None]) -> Curve:
    """A rank over 10 to 1,000 eligible offers, by learning setting."""
    put_offers(worker)
    with learning(worker.installation):
        for name, arguments in SETTINGS.items():
            train(worker, name, arguments)
    runs = Runs(pace)
    # In turn, so that what changes on the machine reaches all.
    for _, size in itertools.product(range(repetitions), OFFER_SIZES):
        calls = min(max(OFFERS_ASKED // size, LEAST_CALLS), MOST_CALLS)
        runs.add(size, partial(among_offers, worker, size, calls))
        say(f"{size:,} offers: {runs.told(size)}")
    return runs.curve()


def among_offers(worker: Worker, size: int, calls: int) -> dict[str, float]:
    """Costs of a rank over so many offers, by learning setting."""
    return {name: worker.cost(offer_bodies(name, size, calls))[0] for name in SETTINGS}


def put_offers(worker: Worker) -> None:
    """As many active offers as the largest size, with the market's rules."""
    rows = [
        market.offer_body(0) | market.offer_body(number) | {"offer_id": offer_id(number), "status": "active"}
        | {"priority": 0, "rules": market.rules_of(0)}
        for number in range(max(OFFER_SIZES))
    ]  # fmt: skip
    worker.http.post("/v1/offers/import", json={"offers": rows}).raise_for_status()


def offer_id(number: int) -> str:
    """The id of one of them, counted from 0."""
    return f"many-{number}"


def offer_bodies(loop: str, offers: int, calls: int) -> list[dict[str, Any]]:
    """Calls of the market's customers that name so many offers."""
    named = [offer_id(number) for number in range(offers)]
    bodies = market.rank_bodies(loop=loop, candidates=named)
    return [bodies[number % len(bodies)] for number in range(calls)]


def train(worker: Worker, loop: str, arguments: str) -> None:
    """A loop with decisions that a learner has learned; one must run.

    Raises:
        CannotMeasure: they were not learned in time.
    """
    config = {"arguments": arguments, "reward": {"wait_seconds": 2.0}, "export_frequency_seconds": 1.0}
    worker.http.put(f"/v1/loops/{loop}", json=config).raise_for_status()
    draw = random.Random(4)
    bodies = offer_bodies(loop, 50, TRAINING_CALLS)
    for start in range(0, len(bodies), 100):
        answer = worker.http.post("/v1/rank/batch", json={"requests": bodies[start : start + 100]})
        for decision in answer.raise_for_status().json()["decisions"]:
            if draw.random() < 0.1:
                reward = {"loop": loop, "decision_id": decision["decision_id"], "value": 1.0}
                worker.http.post("/v1/reward", json=reward).raise_for_status()
    deadline = time.monotonic() + TRAINED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if not worker.http.get(f"/v1/loops/{loop}").raise_for_status().json()["status"]["open"]:
            return
        time.sleep(0.2)
    raise CannotMeasure(f"the training decisions of loop {loop!r} did not close")


def customers_curve(worker: Worker, repetitions: int, pace: Pace, say: Callable[[str], None]) -> Curve:
    """A rank at random customers: asked for the first time in an hour (PostgreSQL), and again (Valkey)."""
    runs, filled = Runs(pace), 0
    for size in CUSTOMER_SIZES:
        customers.fill(worker.installation, filled, size)
        customers.remember(worker.installation, filled, size)
        filled = size
        for number in range(repetitions):
            runs.add(size, partial(among_customers, worker, size, number))
        say(f"{size:,} customers: {runs.told(size)}")
    return runs.curve()


def among_customers(worker: Worker, size: int, seed: int) -> dict[str, float]:
    """Costs of a rank at random customers, whom PostgreSQL alone knows at first."""
    chosen = random.Random(seed).sample(range(size), CUSTOMERS_ASKED)
    bodies = customer_bodies(chosen)
    customers.forget(worker.installation, chosen)
    first, stores_first = worker.cost(bodies)
    again, stores_again = worker.cost(bodies)
    return {"first": first, "again": again, "stores_first": stores_first, "stores_again": stores_again}


def customer_bodies(chosen: Sequence[int]) -> list[dict[str, Any]]:
    """A call of each of these customers, over the market's offers."""
    (body, *_) = market.rank_bodies(candidates=[f"bench-{number}" for number in range(market.ACTIVE)])
    return [{**body, "customer_id": customers.customer_id(number)} for number in chosen]


def open_curve(filled: OpenDecisions, repetitions: int, pace: Pace, say: Callable[[str], None]) -> Curve:
    """One more decision through the learner, while so many are open."""
    runs = Runs(pace)
    for size in OPEN_SIZES:
        filled.fill(size)
        with filled.learner() as pid:
            filled.send(OPEN_DECIDED)
            for _ in range(repetitions):
                runs.add(size, partial(filled.cost, pid, OPEN_DECIDED))
        say(f"{size:,} open decisions: {runs.told(size)}")
    return runs.curve()
