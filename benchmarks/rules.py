"""What rules cost: a rank over 20 eligible offers with 10 rules each beside the same call over offers without rules.

One service holds the same 20 offers three times: without rules, with rules that differ from offer to offer, and with
equal rules (which a request evaluates once for all offers). Known customers, with history, demographics, consents and
weather from the table, ask one call at a time. The three take turns in short blocks, so that a change of the machine's
speed reaches all of them.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import httpx
import uvloop

from adapters.installation import Installation
from benchmarks import client, market
from benchmarks.market import offer_body, rules_of
from benchmarks.processes import CannotMeasure, free_port, learning, migrate, serving

OFFERS = 20
BAR = 1.5
LEAST_REPETITIONS = 5
PLAIN, DIFFERENT, EQUAL = "plain", "mixed", "equal"
SIDES = (PLAIN, DIFFERENT, EQUAL)
WARM_UP_SECONDS = 1.0
# Short, so that a busy neighbour meets all sides alike.
BLOCK_SECONDS = 0.1


def measure(installation: Installation, repetitions: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Median time per call over the three kinds of offers, in turn.

    Args:
        installation: Stores and a data folder of the benchmark's own.
        repetitions: How often the ratio is measured; at least 5.
        seconds: Length of one repetition.
        say: Called with one line per step.

    Returns:
        Flat figures. Microseconds are medians of the blocks' medians, ``rules_rank_ratio`` is the quotient of two of
        them, its ``_min`` and ``_max`` are those of single repetitions, ``_quiet`` is that of the fastest tenth of the
        blocks. ``rules_rank_within_bar`` says whether the ratio is at most 1.5.

    Raises:
        CannotMeasure: a process did not come up, a request failed, or rules did not do their work.
    """
    repetitions = max(repetitions, LEAST_REPETITIONS)
    port = free_port()
    migrate(installation)
    with ExitStack() as stack:
        stack.enter_context(serving(installation, port))
        with learning(installation):
            market.prepare(installation, port)
        put_offers(port)
        check(port)
        say(
            f"service is up: {OFFERS} offers without rules, with {len(rules_of(0))} rules each, with as many equal ones"
        )
        bodies = {side: [json.dumps(body).encode() for body in rank_bodies(side)] for side in SIDES}
        for side in SIDES:
            microseconds(port, bodies[side], WARM_UP_SECONDS)
        rounds = max(round(seconds / (BLOCK_SECONDS * 2 * len(SIDES))), 1)
        measured: list[dict[str, list[float]]] = []
        for number in range(repetitions):
            blocks: dict[str, list[float]] = {side: [] for side in SIDES}
            # Forth and back, so that what drifts steadily cancels.
            for side in (*SIDES, *reversed(SIDES)) * rounds:
                blocks[side].append(microseconds(port, bodies[side], BLOCK_SECONDS))
            measured.append(blocks)
            found = ", ".join(f"{side} {statistics.median(times):.0f} us" for side, times in blocks.items())
            say(f"repetition {number + 1} of {repetitions}: {found}; ratio {ratio_of(blocks):.3f}")
    ratios = [ratio_of(blocks) for blocks in measured]
    together = {side: [time for blocks in measured for time in blocks[side]] for side in SIDES}
    medians = {side: statistics.median(times) for side, times in together.items()}
    ratio = ratio_of(together)
    say(f"with rules a rank takes {ratio:.3f} x as long; the bar of {BAR:g} {'holds' if ratio <= BAR else 'is missed'}")
    return {
        "rules_rank_ratio": round(ratio, 4),
        "rules_rank_ratio_min": round(min(ratios), 4),
        "rules_rank_ratio_max": round(max(ratios), 4),
        "rules_rank_ratio_quiet": round(quiet_ratio_of(together), 4),
        "rules_rank_within_bar": ratio <= BAR,
        "rules_rank_equal_ratio": round(medians[EQUAL] / medians[PLAIN], 4),
        "rules_rank_us": round(medians[DIFFERENT], 1),
        "rules_rank_equal_us": round(medians[EQUAL], 1),
        "rules_rank_plain_us": round(medians[PLAIN], 1),
        "rules_rank_repetitions": repetitions,
        "rules_rank_seconds_per_repetition": seconds,
    }


def ratio_of(blocks: Mapping[str, Sequence[float]]) -> float:
    """The median block with rules over the median block without."""
    return statistics.median(blocks[DIFFERENT]) / statistics.median(blocks[PLAIN])


def quiet_ratio_of(blocks: Mapping[str, Sequence[float]]) -> float:
    """The same of each side's fastest tenth, in which nobody else was in the way."""
    fastest = {side: statistics.quantiles(times, n=10)[0] for side, times in blocks.items()}
    return fastest[DIFFERENT] / fastest[PLAIN]


def microseconds(port: int, bodies: Sequence[bytes], seconds: float) -> float:
    """The median call of one block, one call at a time.

    Raises:
        CannotMeasure: a call failed.
    """
    figures = uvloop.run(client.drive("127.0.0.1", port, "/v1/rank", bodies, 1, seconds))
    if figures["failed"]:
        raise CannotMeasure(f"{figures['failed']:g} of {figures['requests']:g} requests to port {port} failed")
    return 1000.0 * figures["p50_ms"]


def rank_bodies(side: str) -> list[dict[str, Any]]:
    """One request per known customer over the offers of one side; but for their names equal on all sides."""
    return market.rank_bodies(candidates=[f"{side}-{offer}" for offer in range(OFFERS)])


def put_offers(port: int) -> None:
    """The same offers three times; customers, their history and the weather are there already."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as http:
        for side, number in itertools.product(SIDES, range(OFFERS)):
            rules = {PLAIN: [], DIFFERENT: rules_of(number), EQUAL: rules_of(0)}[side]
            http.put(f"/v1/offers/{side}-{number}", json=offer_body(number) | {"rules": rules}).raise_for_status()


def check(port: int) -> None:
    """That every side has its offers eligible, and that rules remove them where they should.

    Raises:
        CannotMeasure: they do not.
    """
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as http:
        for side in SIDES:
            for body in rank_bodies(side):
                answer = http.post("/v1/rank", json=body).raise_for_status().json()
                if len(answer["ranking"]) != OFFERS:
                    raise CannotMeasure(f"{len(answer['ranking'])} of the {side} offers are eligible, not {OFFERS}")
            elsewhere = {**rank_bodies(side)[0], "channel": "kiosk"}
            is_removed = http.post("/v1/rank", json=elsewhere).raise_for_status().json()["use"] == "fallback"
            if is_removed != (side != PLAIN):
                raise CannotMeasure(f"in another channel the {side} offers are {'' if is_removed else 'not '}removed")
