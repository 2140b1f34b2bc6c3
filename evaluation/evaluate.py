"""One streaming pass over a log: every target policy's value, diagnostics and verdict against a baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import numpy as np

from contextual_bandit.types import Estimate
from evaluation.chunks import Chunk, LogSource
from evaluation.diagnostics import (
    DEFAULT_LIMITS,
    Calibration,
    CalibrationBucket,
    Gate,
    GateLimits,
    Verdict,
    WeightDiagnostics,
    Weights,
    gate,
    log_faults,
)
from evaluation.estimators import (
    DirectMethod,
    DoublyRobust,
    FloatArray,
    Ips,
    PairedDifference,
    PointEstimator,
    Snips,
    importance_weights,
)
from evaluation.intervals import PoissonBootstrap, normal_interval
from evaluation.reward_model import Rates, RewardModel
from evaluation.series import Series, SeriesPoint, as_datetime
from evaluation.targets import STANDARD_TARGETS, TargetPolicy, fixed_offer, logged

# Numerator and denominator columns of each estimator in the bootstrap of ``PolicySums``; column 0 is the count.
_RATIOS = {"ips": (2, 0), "snips": (2, 1), "dm": (3, 0), "dr": (4, 0)}


@dataclass(frozen=True, slots=True, eq=False)
class PolicySums:
    """All that is kept of a target policy; adds with ``+``."""

    ips: Ips = field(default_factory=Ips.empty)
    snips: Snips = field(default_factory=Snips.empty)
    dm: DirectMethod = field(default_factory=DirectMethod.empty)
    dr: DoublyRobust = field(default_factory=DoublyRobust.empty)
    difference: PairedDifference = field(default_factory=PairedDifference.empty)
    weights: Weights = field(default_factory=Weights.empty)
    bootstrap: PoissonBootstrap = field(default_factory=lambda: PoissonBootstrap.empty(4))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.ips + other.ips,
            self.snips + other.snips,
            self.dm + other.dm,
            self.dr + other.dr,
            self.difference + other.difference,
            self.weights + other.weights,
            self.bootstrap + other.bootstrap,
        )


@dataclass(frozen=True, slots=True)
class PolicyEvaluation:
    """One target policy: estimates by estimator name with normal and bootstrap intervals, and its gate.

    ``difference`` is the paired doubly robust difference from the baseline; its interval is widened for the number of
    policies compared (Bonferroni), so that picking the luckiest of many does not make a winner.
    """

    name: str
    estimates: Mapping[str, Estimate]
    bootstrap: Mapping[str, Estimate]
    difference: Estimate
    weights: WeightDiagnostics
    gate: Gate


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of an evaluation; ``headline`` names the policy that ``verdict`` and ``reasons`` are about."""

    loop: str
    n: int
    skipped: Mapping[str, int]
    first_at: datetime | None
    last_at: datetime | None
    mean_reward: float
    level: float
    against: str
    policies: tuple[PolicyEvaluation, ...]
    calibration: tuple[CalibrationBucket, ...]
    log_faults: tuple[str, ...]
    series: tuple[SeriesPoint, ...]
    verdict: Verdict
    headline: str | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def policy(self, name: str) -> PolicyEvaluation:
        """The evaluation of a policy by name.

        Raises:
            KeyError: when no such policy was evaluated.
        """
        for policy in self.policies:
            if policy.name == name:
                return policy
        raise KeyError(name)


def evaluate(
    log: LogSource,
    targets: Mapping[str, TargetPolicy] = STANDARD_TARGETS,
    *,
    against: str = "logged",
    model: RewardModel | None = None,
    fixed_offers: int = 0,
    level: float = 0.95,
    limits: GateLimits = DEFAULT_LIMITS,
    replicates: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate target policies on a log in one pass and bounded memory.

    Args:
        log: decisions in their order; read once.
        targets: policies by name. The logged policy and ``against`` are always evaluated.
        against: name of the policy that the others are compared with.
        model: the reward model; without one, smoothed rates per offer.
        fixed_offers: how many offers to add as targets ``offer:ID``, most served first, from the first chunk.
        level: of the intervals, in (0, 1).
        limits: of the gate.
        replicates: bootstrap replicates.
        seed: of the bootstrap.
        progress: called with the number of interactions used so far, after each chunk.

    Raises:
        ValueError: when ``against`` is no target, or a target gives what is no probability.
    """
    targets = {"logged": logged, **targets}
    if against not in targets:
        raise ValueError(f"policy {against!r} to compare against is not among {', '.join(targets)}")
    model = model or Rates()
    calibration, series = Calibration.empty(), Series()
    sums: dict[str, PolicySums] = {}
    codes: Mapping[str, int] = {}
    first_at = last_at = None
    for chunk in log.chunks():
        if first_at is None:
            first_at, codes = as_datetime(chunk.at[0]), chunk.codes
            targets |= _fixed_targets(chunk, fixed_offers)
            sums = {name: PolicySums() for name in targets}
        last_at = as_datetime(chunk.at[-1])
        if chunk.served is not None:
            calibration += Calibration.of(chunk.row, chunk.served, chunk.chosen)
        added, terms = _policy_sums(chunk, targets, against, model.predict(chunk))
        sums = {name: kept + added[name] for name, kept in sums.items()}
        series.add(chunk, terms)
        if progress is not None:
            progress(series.n)
    buckets = calibration.buckets(limits)
    faults = log_faults(buckets, log.found.inconsistent, limits)
    compared = max(1, len(sums) - 1)
    policies = tuple(
        _finished(name, one, against, level, compared, faults, limits, replicates, seed) for name, one in sums.items()
    )
    verdict, headline, reasons = _verdict(policies, against, faults)
    return Evaluation(
        loop=log.found.loop,
        n=series.n,
        skipped=dict(sorted(log.found.skipped.items())),
        first_at=first_at,
        last_at=last_at,
        mean_reward=sums["logged"].ips.value if sums else float("nan"),
        level=level,
        against=against,
        policies=policies,
        calibration=buckets,
        log_faults=faults,
        series=tuple(series.points),
        verdict=verdict,
        headline=headline,
        reasons=reasons,
        notes=(*log.found.notes, *_not_evaluated(codes, targets, fixed_offers)),
    )


def _fixed_targets(chunk: Chunk, most: int) -> dict[str, TargetPolicy]:
    served = Counter(chunk.offer[chunk.chosen].tolist())
    ranked = sorted(chunk.codes, key=lambda offer_id: (-served[chunk.codes[offer_id]], offer_id))
    return {f"offer:{offer_id}": fixed_offer(offer_id) for offer_id in ranked[:most]}


def _policy_sums(
    chunk: Chunk, targets: Mapping[str, TargetPolicy], against: str, q: FloatArray
) -> tuple[dict[str, PolicySums], dict[str, FloatArray]]:
    """Each policy's sums of a chunk, and its IPS terms in order."""
    reward, propensity, q_chosen = chunk.reward, chunk.propensity, q[chunk.chosen]
    probabilities = {name: np.asarray(target(chunk), dtype=np.float64) for name, target in targets.items()}
    for name, target in probabilities.items():
        if target.shape != chunk.row.shape or not np.all(target >= 0.0):
            raise ValueError(f"policy {name!r} gave negative, missing or too many probabilities")
        if np.any(chunk.per_decision(target) > 1.0 + 1e-6):
            raise ValueError(f"policy {name!r} gave probabilities that sum to more than 1")
    weights = {name: importance_weights(propensity, target[chunk.chosen]) for name, target in probabilities.items()}
    q_targets = {name: chunk.per_decision(target * q) for name, target in probabilities.items()}
    robust = {name: q_targets[name] + weights[name] * (reward - q_chosen) for name in targets}
    # Where the chosen action's probability alone is known, every offer is taken to have had one.
    served = np.ones(len(chunk.row)) if chunk.served is None else chunk.served
    supported = served > 0.0
    found = {}
    for name, target in probabilities.items():
        weight, chosen_target = weights[name], target[chunk.chosen]
        mass = chunk.per_decision(np.where(supported, target, 0.0))
        squares = np.divide(target**2, served, out=np.zeros_like(target), where=supported)
        found[name] = PolicySums(
            ips=Ips.of(reward, propensity, chosen_target),
            snips=Snips.of(reward, propensity, chosen_target),
            dm=DirectMethod.of(q_targets[name]),
            dr=DoublyRobust.of(reward, propensity, chosen_target, q_chosen, q_targets[name]),
            difference=PairedDifference.of(weight, robust[name], robust[against]),
            weights=Weights.of(weight, reward, mass, np.maximum(0.0, chunk.per_decision(squares) - mass**2)),
            bootstrap=PoissonBootstrap.of(chunk.hashes, weight, weight * reward, q_targets[name], robust[name]),
        )
    return found, {name: weight * reward for name, weight in weights.items()}


def _finished(
    name: str,
    sums: PolicySums,
    against: str,
    level: float,
    compared: int,
    faults: tuple[str, ...],
    limits: GateLimits,
    replicates: int,
    seed: int,
) -> PolicyEvaluation:
    points: dict[str, PointEstimator] = {"ips": sums.ips, "snips": sums.snips, "dm": sums.dm, "dr": sums.dr}
    estimates, bootstrap = {}, {}
    ratios = (_RATIOS[estimator] for estimator in points)
    drawn = sums.bootstrap.intervals(*ratios, level=level, replicates=replicates, seed=seed)
    for (estimator, point), (low, high) in zip(points.items(), drawn, strict=True):
        estimates[estimator] = one = normal_interval(point, estimator, level)
        bootstrap[estimator] = Estimate(estimator, one.value, low, high, one.n, one.effective_sample_size)
    difference = normal_interval(sums.difference, "dr difference", 1.0 - (1.0 - level) / compared)
    weights = sums.weights.result
    judged = (
        Gate("not_shown", ("this is the policy that the others are compared with",))
        if name == against and not faults
        else gate(weights, difference, faults, limits)
    )
    return PolicyEvaluation(name, estimates, bootstrap, difference, weights, judged)


def _verdict(
    policies: Sequence[PolicyEvaluation], against: str, faults: tuple[str, ...]
) -> tuple[Verdict, str | None, tuple[str, ...]]:
    """The verdict on the alternative that is best supported: the one whose difference has the highest lower end."""
    if faults:
        return "refused", None, faults
    others = [policy for policy in policies if policy.name != against]
    if not others:
        return "refused", None, ("not enough data: no usable interaction",)
    judged = [policy for policy in others if policy.gate.verdict != "refused"] or others
    order = {"better": 2, "not_shown": 1, "worse": 0, "refused": 0}
    best = max(judged, key=lambda policy: (order[policy.gate.verdict], policy.difference.low))
    return best.gate.verdict, best.name, best.gate.reasons


def _not_evaluated(codes: Mapping[str, int], targets: Mapping[str, TargetPolicy], fixed_offers: int) -> list[str]:
    missing = len(codes) - sum(f"offer:{offer_id}" in targets for offer_id in codes)
    if fixed_offers and missing:
        return [f"{missing:,} of {len(codes):,} offers were not evaluated as fixed offers"]
    return []
