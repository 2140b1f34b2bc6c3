"""One streaming pass over a log: every target policy's value, diagnostics and verdict against a baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Self

import numpy as np

from contextual_bandit.types import Action, Decision, Estimate, LoggedInteraction
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
from evaluation.intervals import PoissonBootstrap, hash_ids, normal_interval
from evaluation.reward_model import CrossFittedRates, by_offer, fold_of
from evaluation.series import Series, SeriesPoint
from evaluation.targets import STANDARD_TARGETS, Chunk, TargetPolicy, fixed_offer, logged

CHUNK_SIZE = 8192

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


@dataclass(slots=True)
class _Reader:
    """Turns interactions into chunks and counts those that cannot be used."""

    key_of: Callable[[Action], str]
    skipped: Counter[str] = field(default_factory=Counter)
    inconsistent: int = 0
    several_slots: int = 0
    loop: str = ""
    codes: dict[str, int] = field(default_factory=dict)
    _keys: dict[str, int] = field(default_factory=dict)
    _key_of_offer: list[int] = field(default_factory=list)

    def usable(self, interactions: Iterable[LoggedInteraction]) -> Iterator[LoggedInteraction]:
        for interaction in interactions:
            self.loop = self.loop or interaction.decision.loop
            slot = interaction.decision.slots[0] if interaction.decision.slots else None
            if interaction.use != "learn":
                self.skipped[interaction.use] += 1
            elif slot is None or slot.distribution is None or slot.propensity is None:
                self.skipped["no propensity"] += 1
            elif not self._sound(interaction.decision):
                self.inconsistent += 1
                self.skipped["impossible propensity"] += 1
            else:
                self.several_slots += len(interaction.decision.slots) > 1
                yield interaction

    def _sound(self, decision: Decision) -> bool:
        slot = decision.slots[0]
        if slot.distribution is None or slot.propensity is None:
            return False
        served = slot.distribution.served
        if len(served) != len(decision.actions) or not 0 <= slot.chosen < len(served):
            return False
        return 0.0 < slot.propensity <= 1.0 and abs(served[slot.chosen] - slot.propensity) <= 1e-6

    def chunk(self, interactions: Sequence[LoggedInteraction]) -> Chunk:
        counts: list[int] = []
        chosen: list[int] = []
        offer: list[int] = []
        served: list[float] = []
        propensity: list[float] = []
        for interaction in interactions:
            decision = interaction.decision
            slot = decision.slots[0]
            assert slot.distribution is not None  # held by ``usable``
            assert slot.propensity is not None
            chosen.append(len(offer) + slot.chosen)
            counts.append(len(decision.actions))
            offer.extend(self._code(action) for action in decision.actions)
            served.extend(slot.distribution.served)
            propensity.append(slot.propensity)
        sizes = np.array(counts, dtype=np.int64)
        offers = np.array(offer, dtype=np.int64)
        return Chunk(
            decisions=tuple(one.decision for one in interactions),
            codes=self.codes,
            row=np.repeat(np.arange(len(counts), dtype=np.int64), sizes),
            first=np.cumsum(sizes) - sizes,
            chosen=np.array(chosen, dtype=np.int64),
            offer=offers,
            key=np.array(self._key_of_offer, dtype=np.int64)[offers],
            served=np.array(served),
            reward=np.array([one.reward for one in interactions], dtype=np.float64),
            propensity=np.array(propensity),
            hashes=hash_ids([one.decision.decision_id for one in interactions]),
            closed_at=tuple(one.closed_at for one in interactions),
        )

    def _code(self, action: Action) -> int:
        code = self.codes.setdefault(action.offer_id, len(self.codes))
        if code == len(self._key_of_offer):
            self._key_of_offer.append(self._keys.setdefault(self.key_of(action), len(self._keys)))
        return code


def evaluate(
    interactions: Iterable[LoggedInteraction],
    targets: Mapping[str, TargetPolicy] = STANDARD_TARGETS,
    *,
    against: str = "logged",
    fixed_offers: int = 0,
    level: float = 0.95,
    limits: GateLimits = DEFAULT_LIMITS,
    key_of: Callable[[Action], str] = by_offer,
    smoothing: float = 20.0,
    replicates: int = 1000,
    seed: int = 0,
    chunk_size: int = CHUNK_SIZE,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate target policies on a log in one pass and bounded memory.

    Only interactions of use ``learn`` with a propensity count; the rest are counted in ``skipped``. The first slot is
    evaluated. The reward model of a chunk is fitted on the other folds of all that came before and of the chunk itself.

    Args:
        interactions: closed interactions in their order; read once.
        targets: policies by name. The logged policy and ``against`` are always evaluated.
        against: name of the policy that the others are compared with.
        fixed_offers: how many offers to add as targets ``offer:ID``, most served first, from the first chunk.
        level: of the intervals, in (0, 1).
        limits: of the gate.
        key_of: the reward model's key of an action: ``by_offer`` or ``by_category``.
        smoothing: how many decisions the mean reward is worth in the reward model.
        replicates: bootstrap replicates.
        seed: of the bootstrap.
        chunk_size: decisions held at once.
        progress: called with the number of interactions used so far, after each chunk.

    Raises:
        ValueError: when ``against`` is no target, or a target gives what is no probability.
    """
    targets = {"logged": logged, **targets}
    if against not in targets:
        raise ValueError(f"policy {against!r} to compare against is not among {', '.join(targets)}")
    reader = _Reader(key_of)
    model = CrossFittedRates(smoothing)
    calibration, series = Calibration.empty(), Series()
    sums: dict[str, PolicySums] = {}
    first_at = last_at = None
    usable = reader.usable(interactions)
    while batch := list(islice(usable, chunk_size)):
        chunk = reader.chunk(batch)
        if first_at is None:
            first_at = chunk.closed_at[0]
            targets |= _fixed_targets(chunk, fixed_offers)
            sums = {name: PolicySums() for name in targets}
        last_at = chunk.closed_at[-1]
        fold = fold_of(chunk.hashes)
        model = model.learned(fold, chunk.key[chunk.chosen], chunk.reward)
        calibration += Calibration.of(chunk.row, chunk.served, chunk.chosen)
        added, terms = _policy_sums(chunk, targets, against, model.rates(fold[chunk.row], chunk.key))
        sums = {name: kept + added[name] for name, kept in sums.items()}
        series.add(chunk, terms)
        if progress is not None:
            progress(series.n)
    buckets = calibration.buckets(limits)
    faults = log_faults(buckets, reader.inconsistent, limits)
    compared = max(1, len(sums) - 1)
    policies = tuple(
        _finished(name, one, against, level, compared, faults, limits, replicates, seed) for name, one in sums.items()
    )
    verdict, headline, reasons = _verdict(policies, against, faults)
    return Evaluation(
        loop=reader.loop,
        n=series.n,
        skipped=dict(sorted(reader.skipped.items())),
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
        notes=_notes(reader, targets, fixed_offers),
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
        if target.shape != chunk.served.shape or not np.all(target >= 0.0):
            raise ValueError(f"policy {name!r} gave negative, missing or too many probabilities")
        if np.any(chunk.per_decision(target) > 1.0 + 1e-6):
            raise ValueError(f"policy {name!r} gave probabilities that sum to more than 1")
    weights = {name: importance_weights(propensity, target[chunk.chosen]) for name, target in probabilities.items()}
    q_targets = {name: chunk.per_decision(target * q) for name, target in probabilities.items()}
    robust = {name: q_targets[name] + weights[name] * (reward - q_chosen) for name in targets}
    supported = chunk.served > 0.0
    found = {}
    for name, target in probabilities.items():
        weight, chosen_target = weights[name], target[chunk.chosen]
        mass = chunk.per_decision(np.where(supported, target, 0.0))
        squares = np.divide(target**2, chunk.served, out=np.zeros_like(target), where=supported)
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


def _notes(reader: _Reader, targets: Mapping[str, TargetPolicy], fixed_offers: int) -> tuple[str, ...]:
    notes = []
    if reader.several_slots:
        notes.append(f"{reader.several_slots:,} decisions filled several slots; only the first slot was evaluated")
    missing = len(reader.codes) - sum(f"offer:{offer_id}" in targets for offer_id in reader.codes)
    if fixed_offers and missing:
        notes.append(f"{missing:,} of {len(reader.codes):,} offers were not evaluated as fixed offers")
    return tuple(notes)
