"""What a policy that learns is worth as it goes, in a state of a few dozen numbers that a process can stop and resume.

Every decision is taken before the policy learns from it, so that its weight depends on earlier decisions alone and the
terms w r, less their means, are martingale differences: the intervals are confidence sequences and hold at every look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from contextual_bandit.types import Estimate
from evaluation.confidence_sequences import ConfidenceSequence
from evaluation.gates import Gate, gate
from evaluation.significance import z_score
from evaluation.weights import WeightDiagnostics

INTERVAL = "confidence sequence"
# Below it, mass that a log could not have served is rounding.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class WeighedSlot:
    """One draw of a log as a target policy sees it.

    Attributes:
        reward: what it brought.
        weight: w = pi / p of what was drawn.
        largest: the largest weight that the draw could have had, max_a pi(a) / p(a).
        mass: the target's probability on what could be drawn.
        variance: of the weight under the logged distribution, sum_a pi(a)^2 / p(a) - mass^2.
    """

    reward: float
    weight: float
    largest: float
    mass: float
    variance: float


def weighed(served: Sequence[float], target: Sequence[float], chosen: int, reward: float) -> WeighedSlot:
    """Weigh a draw.

    Args:
        served: probability of each action, as it was drawn from.
        target: probability of each under the target policy.
        chosen: what was drawn; its served probability is above 0.
        reward: what it brought.

    Raises:
        ValueError: the lengths differ, or what was drawn had no probability.
    """
    if len(served) != len(target) or not 0 <= chosen < len(served) or not 0.0 < served[chosen] <= 1.0 + ROUNDING:
        raise ValueError(f"action {chosen} of {len(target)} cannot be drawn from {tuple(served)!r}")
    logged, wanted = np.asarray(served, dtype=np.float64), np.asarray(target, dtype=np.float64)
    ratio = np.divide(wanted, logged, out=np.zeros_like(wanted), where=logged > 0.0)
    mass = float(wanted[logged > 0.0].sum())
    variance = max(0.0, float(wanted @ ratio) - mass**2)
    return WeighedSlot(reward, float(ratio[chosen]), float(ratio.max()), mass, variance)


@dataclass(slots=True)
class WeightSums:
    """Running sums of weights: what the gate needs to know of them.

    Attributes:
        n: draws.
        weight: sum of w.
        square: sum of w^2.
        rewarded: sum of w where the reward is not 0.
        rewarded_square: sum of w^2 there.
        missing: target's mass on what could not be drawn.
        any_missing: draws that have any.
        variance: of the sum of weights, given the logged distributions.
        largest: largest weight.
        largest_possible: largest that could have been drawn.
    """

    n: int = 0
    weight: float = 0.0
    square: float = 0.0
    rewarded: float = 0.0
    rewarded_square: float = 0.0
    missing: float = 0.0
    any_missing: int = 0
    variance: float = 0.0
    largest: float = 0.0
    largest_possible: float = 0.0

    def add(self, slot: WeighedSlot) -> None:
        """Take a draw."""
        square = slot.weight**2
        missing = 1.0 - slot.mass if slot.mass < 1.0 - ROUNDING else 0.0
        self.n += 1
        self.weight += slot.weight
        self.square += square
        if slot.reward != 0.0:
            self.rewarded += slot.weight
            self.rewarded_square += square
        self.missing += missing
        self.any_missing += missing > 0.0
        self.variance += slot.variance
        self.largest = max(self.largest, slot.weight)
        self.largest_possible = max(self.largest_possible, slot.largest)

    @property
    def result(self) -> WeightDiagnostics:
        """The weights as ``evaluation.weights`` describes them, without the histogram."""
        if self.n == 0:
            return WeightDiagnostics(0, float("nan"), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        return WeightDiagnostics(
            self.n,
            self.weight / self.n,
            z_score(self.weight - self.n, self.variance, scale=self.n),
            self.largest,
            _kish(self.weight, self.square),
            _kish(self.rewarded, self.rewarded_square),
            self.any_missing / self.n,
            self.missing / self.n,
            self.n**2 / (self.n + self.variance),
            self.largest_possible,
            self.variance,
            z_score(self.weight - (self.n - self.missing), self.variance, scale=self.n),
        )


@dataclass(slots=True)
class ProgressiveValues:
    """A target policy's value, what was served instead, and the paired difference of both on the same decisions.

    The value of a decision with several slots is the mean over its slots, each below what the log showed above it.
    Bounds of the terms follow the largest weight that any decision could have had so far, which its draw does not
    change.

    Attributes:
        value: of w r.
        logged: of r.
        gain: of (w - 1) r.
        weights: of every slot.
    """

    value: ConfidenceSequence
    logged: ConfidenceSequence
    gain: ConfidenceSequence
    weights: WeightSums

    @classmethod
    def empty(cls, low: float, high: float, level: float = 0.95) -> Self:
        """No decisions yet; rewards will be in [low, high], and what lies outside is cut to it.

        Raises:
            ValueError: the range is empty, or ``level`` is outside (0, 1).
        """
        span = high - low
        return cls(
            ConfidenceSequence(low, high, low, high, level),
            ConfidenceSequence(low, high, low, high, level),
            ConfidenceSequence(-span, span, -span, span, level),
            WeightSums(),
        )

    def add(self, decisions: Sequence[Sequence[WeighedSlot]]) -> None:
        """Take decisions in the order of the log; each is its slots, at least one."""
        if not decisions:
            return
        low, high = self.logged.low, self.logged.high
        weighted, plain = np.zeros(len(decisions)), np.zeros(len(decisions))
        for place, slots in enumerate(decisions):
            for slot in slots:
                self.weights.add(slot)
                reward = min(max(slot.reward, low), high)
                weighted[place] += slot.weight * reward / len(slots)
                plain[place] += reward / len(slots)
        most = max(1.0, self.weights.largest_possible)
        _widen(self.value, (low, high, low * most, high * most))
        _widen(self.gain, (-low, -high, (most - 1.0) * low, (most - 1.0) * high))
        self.value.update(weighted)
        self.logged.update(plain)
        self.gain.update(weighted - plain)

    @property
    def n(self) -> int:
        """Decisions so far."""
        return self.value.n

    @property
    def verdict(self) -> Gate:
        """What the difference may be believed to show."""
        weights = self.weights.result
        low, high = self.gain.interval
        estimate = Estimate("ips", self.gain.mean, low, high, self.n, weights.effective_sample_size, INTERVAL)
        return gate(weights, estimate)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a store."""
        sequences = {"value": self.value, "logged": self.logged, "gain": self.gain}
        return {name: one.to_dict() for name, one in sequences.items()} | {"weights": asdict(self.weights)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """What ``to_dict`` gave.

        Raises:
            ValueError: when the numbers are not those of such values.
        """
        try:
            value, logged, gain = (ConfidenceSequence.from_dict(stored[name]) for name in ("value", "logged", "gain"))
            return cls(value, logged, gain, WeightSums(**stored["weights"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{sorted(stored)} are not the numbers of progressive values") from error


def _widen(sequence: ConfidenceSequence, possible: Sequence[float]) -> None:
    sequence.least = min(sequence.least, *possible)
    sequence.most = max(sequence.most, *possible)


def _kish(total: float, square: float) -> float:
    return total**2 / square if square > 0.0 else 0.0
