"""The estimate beside what the holdout shows: does off-policy evaluation agree with a randomised comparison?

The holdout's customers get the baseline or no offer, the others get the policy; which one is randomised by customer.
So the difference of mean rewards is the policy's uplift, observed. The log of the others gives the same uplift off
policy: the value of what was served minus the value of what the holdout serves. Both use known customers only, as
anonymous ones are never held out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, Self, TypeAlias

import numpy as np

from contextual_bandit.loops import BaselineSetting, Holdout
from contextual_bandit.slots import slot_interactions
from contextual_bandit.types import Estimate, LoggedInteraction
from evaluation.arrays import FloatArray, IntArray
from evaluation.bootstrap import PoissonBootstrap
from evaluation.chunks import Chunk
from evaluation.sample_ratio import CustomerSample, SampleRatio
from evaluation.significance import DEFAULT_LIMITS, GateLimits, more_decisions
from evaluation.targets import TargetPolicy, baseline, fixed_offer
from evaluation.terms import Terms

Agreement: TypeAlias = Literal["agree", "disagree", "cannot tell"]

LEAST_CUSTOMERS = 100
LEAST_REWARDED = 30.0
# An interval of the two uplifts' difference that is wider to each side than this part of the mean reward tells nothing.
WIDEST = 0.5
_BATCH = 4096
# Columns of the bootstrap; 0 is the count of rows.
_LEARNED, _LEARNED_REWARD, _HELD_OUT, _HELD_OUT_REWARD, _SERVED_TERM, _BASELINE_TERM = range(1, 7)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The observed uplift, the estimated one, and whether they agree.

    Uplift is reward per decision of known customers. Intervals are by customer, as one customer's decisions are alike.

    Attributes:
        agreement: what the two say of each other.
        words: that, in a sentence, with the reason when nothing can be told.
        observed: mean reward of customers who were served by the policy minus that of the holdout.
        estimated: off-policy value of what was served minus that of what the holdout gets.
        gap: estimated minus observed, with an interval that knows that both use the same customers.
        ratio: share of customers in the holdout, against the share that was asked for.
        learned: decisions of known customers outside the holdout.
        held_out: decisions of the holdout.
    """

    agreement: Agreement
    words: str
    observed: Estimate | None
    estimated: Estimate | None
    gap: Estimate | None
    ratio: SampleRatio
    learned: int
    held_out: int


@dataclass(frozen=True, slots=True, eq=False)
class HoldoutSums:
    """What is kept of both arms, by 4,096 buckets of customers; adds with ``+``."""

    buckets: PoissonBootstrap = field(default_factory=lambda: PoissonBootstrap.empty(6))
    customers: CustomerSample = field(default_factory=CustomerSample.empty)
    rewarded: tuple[int, int] = (0, 0)

    @classmethod
    def of_learned(cls, chunk: Chunk, served: Terms, baseline: Terms) -> Self:
        """Take a chunk's decisions of known customers as the served policy and the holdout's see them."""
        known = [row for row, decision in enumerate(chunk.decisions) if decision.customer_id is not None]
        hashes = hash_customers([str(chunk.decisions[row].customer_id) for row in known])
        reward, terms = chunk.reward[known], [_robust(one)[known] for one in (served, baseline)]
        nothing, ones = np.zeros(len(known)), np.ones(len(known))
        return cls(
            PoissonBootstrap.of(hashes, ones, reward, nothing, nothing, *terms),
            CustomerSample.of(hashes, is_held_out=False),
            (int(np.count_nonzero(reward * baseline.weight[known])), 0),
        )

    @classmethod
    def of_held_out(cls, customer_ids: Sequence[str], reward: FloatArray) -> Self:
        """Take decisions of the holdout: customers and rewards, (n,)."""
        hashes = hash_customers(customer_ids)
        nothing, ones = np.zeros(len(hashes)), np.ones(len(hashes))
        return cls(
            PoissonBootstrap.of(hashes, nothing, nothing, ones, reward, nothing, nothing),
            CustomerSample.of(hashes, is_held_out=True),
            (0, int(np.count_nonzero(reward))),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.buckets + other.buckets,
            self.customers + other.customers,
            (self.rewarded[0] + other.rewarded[0], self.rewarded[1] + other.rewarded[1]),
        )

    def result(
        self,
        share: float,
        faults: Sequence[str] = (),
        *,
        level: float = 0.95,
        limits: GateLimits = DEFAULT_LIMITS,
        replicates: int = 1000,
        seed: int = 0,
    ) -> Reconciliation:
        """Compare the two uplifts.

        Args:
            share: of customers that the loop holds out, in [0, 1).
            faults: why the estimate may not be believed (the log's faults, ``gates.weight_faults`` of what the holdout
                serves); any of them leaves the observed uplift alone.
            level: of the intervals, in (0, 1).
            limits: of the sample ratio.
            replicates: of the bootstrap over buckets of customers.
            seed: of the bootstrap.
        """
        ratio = self.customers.ratio(share, limits.sample_ratio_z)
        totals = (self.buckets.sums[0] + self.buckets.sums[1]).sum(axis=0)
        learned, held_out = int(totals[_LEARNED]), int(totals[_HELD_OUT])
        why_not = self._why_not(ratio)
        if why_not:
            return Reconciliation("cannot tell", f"cannot tell: {why_not}", None, None, None, ratio, learned, held_out)
        drawn = self.buckets.replicates(replicates, seed)
        value, spread = _uplifts(totals[np.newaxis, :])[0], _uplifts(drawn)
        observed, estimated, gap = (
            _estimate(name, float(value[index]), spread[:, index], level, learned + held_out, ratio.customers)
            for index, name in enumerate(("observed uplift", "estimated uplift", "estimated minus observed"))
        )
        mean = float(totals[_HELD_OUT_REWARD] / held_out)
        agreement, words = _judged(gap, abs(mean), faults, learned + held_out)
        shown = None if faults else estimated
        return Reconciliation(agreement, words, observed, shown, None if faults else gap, ratio, learned, held_out)

    def _why_not(self, ratio: SampleRatio) -> str | None:
        """Why the observed uplift is none."""
        if not ratio.customers - ratio.held_out or not ratio.held_out:
            return "the log holds no known customers " + ("in the holdout" if not ratio.held_out else "outside of it")
        if not ratio.is_sound:
            return f"the holdout cannot be compared: {ratio.words}"
        fewest = min(ratio.held_out, ratio.customers - ratio.held_out)
        if fewest < LEAST_CUSTOMERS:
            return f"not enough data: {fewest:,} customers on one side, {LEAST_CUSTOMERS} needed"
        if min(self.rewarded) < LEAST_REWARDED:
            return f"not enough data: {min(self.rewarded):,} rewarded decisions on one side, {LEAST_REWARDED:g} needed"
        return None


class HoldoutLog:
    """Lets interactions through and keeps those of the holdout, which evaluation leaves out."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.sums = HoldoutSums()
        self._customers: list[str] = []
        self._rewards: list[float] = []

    def watch(self, interactions: Iterable[LoggedInteraction]) -> Iterator[LoggedInteraction]:
        """All interactions, in their order; ``sums`` is complete once the last was read."""
        for interaction in interactions:
            customer_id = interaction.decision.customer_id
            if interaction.use == "holdout" and customer_id is not None:
                # By slot, as the decisions of the other arm count.
                rewards = [one.reward for one in slot_interactions(interaction)]
                self._customers += [customer_id] * len(rewards)
                self._rewards += rewards
                if len(self._rewards) >= _BATCH:
                    self._flush()
            yield interaction
        self._flush()

    def add(self, chunk: Chunk, served: Terms, baseline: Terms) -> None:
        """Take the decisions outside the holdout, as ``HoldoutSums.of_learned``."""
        self.sums += HoldoutSums.of_learned(chunk, served, baseline)

    def _flush(self) -> None:
        if self._rewards:
            self.sums += HoldoutSums.of_held_out(self._customers, np.array(self._rewards))
            self._customers, self._rewards = [], []


def holdout_target(holdout: Holdout, setting: BaselineSetting, fallback: str) -> TargetPolicy:
    """What the holdout serves, as a target policy on the log of the others.

    Args:
        holdout: of the loop.
        setting: of the loop's baseline.
        fallback: the offer that stands for no offer; where it was not eligible, it has no support.
    """
    return fixed_offer(fallback) if holdout.serves == "no_offer" else baseline(setting)


def hash_customers(customer_ids: Sequence[str]) -> IntArray:
    """Hash customers to 63-bit integers, (n,), apart from the hashes that hold them out and draw for them."""
    digests = (blake2b(one.encode(), digest_size=8, person=b"reconcile").digest() for one in customer_ids)
    return np.fromiter((int.from_bytes(digest, "big") >> 1 for digest in digests), np.int64, len(customer_ids))


def _robust(terms: Terms) -> FloatArray:
    return np.asarray(terms.q_target + terms.weight * (terms.reward - terms.q_chosen))


def _uplifts(sums: FloatArray) -> FloatArray:
    """Observed and estimated uplift, and the second minus the first, of column sums (b, 7): shape (b, 3)."""
    learned = np.where(sums[:, _LEARNED] > 0.0, sums[:, _LEARNED], math.nan)
    held_out = np.where(sums[:, _HELD_OUT] > 0.0, sums[:, _HELD_OUT], math.nan)
    observed = sums[:, _LEARNED_REWARD] / learned - sums[:, _HELD_OUT_REWARD] / held_out
    estimated = (sums[:, _SERVED_TERM] - sums[:, _BASELINE_TERM]) / learned
    return np.stack((observed, estimated, estimated - observed), axis=1)


def _estimate(name: str, value: float, drawn: FloatArray, level: float, n: int, customers: int) -> Estimate:
    """With the bootstrap's percentiles; customers are the effective sample."""
    low, high = np.nanquantile(drawn, [0.5 - level / 2.0, 0.5 + level / 2.0])
    return Estimate(name, value, float(low), float(high), n, float(customers), "bootstrap by customer")


def _judged(gap: Estimate, mean: float, faults: Sequence[str], n: int) -> tuple[Agreement, str]:
    if faults:
        return "cannot tell", f"cannot tell: the estimate is refused: {'; '.join(faults)}"
    half = (gap.high - gap.low) / 2.0
    shown = f"they differ by {gap.value:+.4g} ({gap.low:+.4g} to {gap.high:+.4g}) reward per decision"
    if not gap.low <= 0.0 <= gap.high:
        return "disagree", f"disagree: {shown}; the log or the holdout is not what it seems"
    if half > WIDEST * mean:
        more = more_decisions(n, (WIDEST * mean) ** 2, half**2)
        return "cannot tell", f"cannot tell: not enough data: {shown}, which is wide beside a mean of {mean:.4g}{more}"
    return "agree", f"agree: {shown}"
