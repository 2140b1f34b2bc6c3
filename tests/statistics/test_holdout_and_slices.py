"""Slices and the holdout's comparison on many logs with fixed seeds: intervals hold as often as they promise."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from contextual_bandit.types import Action, Context, Decision
from evaluation.chunks import Chunk
from evaluation.holdout import HoldoutSums
from evaluation.slices import Slices
from evaluation.terms import Terms

AT = datetime(2026, 3, 2, tzinfo=UTC)
ACTIONS = (Action("a", {}), Action("b", {}))
CUSTOMERS = 1000
SEGMENTS = ("s0", "s1", "s2", "s3")
SERVED = np.array([0.3, 0.7])


def decisions_of(customers: np.ndarray) -> list[Decision]:
    made = {
        int(one): Decision(
            "home", "d", AT, AT, f"c{one}", Context({"H": {"segment": SEGMENTS[int(one) % 4]}}), ACTIONS, (), (), "p",
            "s", "online", "learn", False, "h",
        )
        for one in np.unique(customers)
    }  # fmt: skip
    return [made[int(one)] for one in customers]


class Log:
    """A log of both arms: customers return, and each has a taste of its own, so that decisions cluster."""

    def __init__(self, seed: int, n: int, *, taste: float, held_out_rate: float = 0.1) -> None:
        rng = np.random.default_rng((7, seed))
        customer = rng.integers(0, CUSTOMERS, n)
        is_held_out = rng.random(CUSTOMERS)[customer] < 0.3
        likes = np.clip(1.0 + taste * rng.standard_normal(CUSTOMERS), 0.0, 2.0)[customer]
        place = np.where(is_held_out, 0, (rng.random(n) < SERVED[1]).astype(np.int64))
        rate = np.where(is_held_out, held_out_rate, np.array([0.1, 0.2])[place])
        reward = (rng.random(n) < rate * likes).astype(np.float64)
        mine = ~is_held_out
        count = int(mine.sum())
        self.held_out = ([f"c{one}" for one in customer[is_held_out]], reward[is_held_out])
        self.chunk = Chunk(
            hashes=rng.integers(0, 2**62, count), reward=reward[mine], propensity=SERVED[place[mine]],
            at=np.full(count, np.datetime64("2026-03-02")), row=np.repeat(np.arange(count), 2),
            first=np.arange(count) * 2, chosen=np.arange(count) * 2 + place[mine], offer=np.tile([0, 1], count),
            codes={"a": 0, "b": 1}, served=np.tile(SERVED, count), decisions=decisions_of(customer[mine]),
        )  # fmt: skip
        self.logged = Terms.of(reward[mine], self.chunk.propensity, self.chunk.propensity)
        self.first = Terms.of(reward[mine], self.chunk.propensity, 1.0 - place[mine])


def test_estimate_and_holdout_agree_when_they_should() -> None:
    """At 95%, at most 8% of 150 logs disagree (5% expected, standard error 1.8%); all see a wrong holdout."""
    disagree = 0
    for seed in range(150):
        log = Log(seed, 6000, taste=0.5)
        sums = HoldoutSums.of_learned(log.chunk, log.logged, log.first) + HoldoutSums.of_held_out(*log.held_out)
        found = sums.result(0.3, replicates=400)
        assert found.ratio.is_sound, seed
        disagree += found.agreement == "disagree"
        assert found.agreement in ("agree", "disagree")
    assert disagree / 150 <= 0.08
    for seed in range(10):
        log = Log(seed, 6000, taste=0.5, held_out_rate=0.2)
        sums = HoldoutSums.of_learned(log.chunk, log.logged, log.first) + HoldoutSums.of_held_out(*log.held_out)
        assert sums.result(0.3, replicates=400).agreement == "disagree"


def test_all_slices_hold_together() -> None:
    """In at most 8% of 150 logs any of the slices' intervals misses its truth (5% promised, standard error 1.8%)."""
    truth = {"logged": 0.3 * 0.1 + 0.7 * 0.2, "first": 0.1}
    missed = 0
    for seed in range(150):
        log = Log(seed, 10000, taste=0.0)
        slices = Slices(("H.segment", "week"))
        slices.add(log.chunk, {"logged": log.logged, "first": log.first})
        found = slices.result()
        estimates = [
            (one.values[name], truth[name]) for slices_ in found.dimensions.values() for one in slices_ for name in truth
        ] + [
            (one.differences["first"], truth["first"] - truth["logged"])
            for slices_ in found.dimensions.values()
            for one in slices_
        ]  # fmt: skip
        assert found.looks == len(estimates) == 15
        missed += any(one is not None and not one.low <= value <= one.high for one, value in estimates)
    assert missed / 150 <= 0.08
