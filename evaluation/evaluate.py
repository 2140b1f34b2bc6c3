"""One streaming pass over a log: every target policy's value, diagnostics and verdict against another policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from contextual_bandit.types import Estimate
from evaluation.bootstrap import REPLICATES
from evaluation.chunks import Chunk, LogSource
from evaluation.columns import DEFAULT_HYPERPARAMETERS, Hyperparameters
from evaluation.diagnostics import LogDiagnostics, LogFindings
from evaluation.estimators import ESTIMATORS, columns_of
from evaluation.feature_report import FeatureReport
from evaluation.gates import Gate, Verdict, gate, weight_faults
from evaluation.holdout import HoldoutLog, Reconciliation
from evaluation.policy_sums import JUDGED_BY, PolicySums, View, Views
from evaluation.reward_choice import FittingRewards
from evaluation.reward_model import RewardModel
from evaluation.series import Series, SeriesPoint, WeightSums, as_datetime
from evaluation.significance import DEFAULT_LIMITS, GateLimits
from evaluation.slices import SLOT, SlicedValues, Slices
from evaluation.slot_series import SlotSeries, SlotValues
from evaluation.targets import STANDARD_TARGETS, TargetPolicy, fixed_offer, logged
from evaluation.terms import Terms
from evaluation.weights import WeightDiagnostics


@dataclass(frozen=True, slots=True)
class Choices:
    """How a log is evaluated.

    Attributes:
        against: name of the policy that the others are compared with.
        rewards: smallest and largest possible reward; None takes [0, 1], or what the log has if that is wider.
        level: of the intervals, in (0, 1).
        limits: of the gate.
        hyperparameters: of the estimators that bound weights.
        fixed_offers: how many offers to add as targets ``offer:ID``, most served first, from the first chunk.
        estimators: keys of ``ESTIMATORS``; a verdict's own is always computed too.
        slices: dimensions to slice by (``slices.Slices``).
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """

    against: str = "logged"
    rewards: tuple[float, float] | None = None
    level: float = 0.95
    limits: GateLimits = DEFAULT_LIMITS
    hyperparameters: Hyperparameters = DEFAULT_HYPERPARAMETERS
    fixed_offers: int = 0
    estimators: tuple[str, ...] = tuple(ESTIMATORS)
    slices: tuple[str, ...] = ()
    replicates: int = REPLICATES
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.estimators:
            raise ValueError("no estimator was asked for")
        columns_of(self.estimators)


DEFAULT_CHOICES = Choices()


@dataclass(frozen=True, slots=True)
class PolicyEvaluation:
    """One target policy: estimates by estimator, with the default interval and two others, and its gate.

    ``difference`` is the paired doubly robust difference from the policy compared with; its interval is widened for the
    number of policies compared (Bonferroni), so that picking the luckiest of many does not make a winner. ``slates``
    are values of whole slates, where decisions had several slots; all else is by slot then.
    """

    name: str
    estimates: Mapping[str, Estimate]
    normal: Mapping[str, Estimate]
    bootstrap: Mapping[str, Estimate]
    difference: Estimate
    weights: WeightDiagnostics
    gate: Gate
    slates: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of an evaluation.

    ``judged`` are the policies that were asked for; ``headline`` names the one that ``verdict`` and ``reasons`` are
    about, ``against`` the one that they are compared with. ``rewards`` is the range that intervals rest on.
    """

    loop: str
    n: int
    skipped: Mapping[str, int]
    first_at: datetime | None
    last_at: datetime | None
    mean_reward: float
    rewards: tuple[float, float]
    level: float
    against: str
    judged: tuple[str, ...]
    policies: tuple[PolicyEvaluation, ...]
    findings: LogFindings
    series: tuple[SeriesPoint, ...]
    verdict: Verdict
    headline: str | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    estimated: bool = False
    slices: SlicedValues | None = None
    slots: SlicedValues | None = None
    slot_series: tuple[SlotValues, ...] = ()
    totals: Mapping[str, WeightSums] = field(default_factory=dict)
    reconciliation: Reconciliation | None = None
    features: FeatureReport | None = None

    def policy(self, name: str) -> PolicyEvaluation:
        """The evaluation of a policy by name.

        Raises:
            KeyError: when no such policy was evaluated.
        """
        for policy in self.policies:
            if policy.name == name:
                return policy
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class HoldoutArm:
    """The other arm of a loop's holdout: what was seen of it, what it serves as a target, and its share."""

    log: HoldoutLog
    target: TargetPolicy
    share: float


def evaluate(
    log: LogSource,
    targets: Mapping[str, TargetPolicy] = STANDARD_TARGETS,
    choices: Choices = DEFAULT_CHOICES,
    *,
    model: RewardModel | None = None,
    holdout: HoldoutArm | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate target policies on a log in one pass and bounded memory.

    Args:
        log: decisions in their order; read once.
        targets: policies by name. The logged policy and ``choices.against`` are always evaluated.
        choices: how.
        model: the reward model; without one, the default that fits the log.
        holdout: of the loop, to compare the estimate with what the holdout shows.
        progress: called with the number of decisions used so far, after each chunk.

    Raises:
        ValueError: when ``against`` is no target, a target gives what is no probability, or a reward is outside the
            range that was given.
    """
    one = _Pass(
        {"logged": logged, **targets}, choices, model or FittingRewards(), holdout, is_asked="logged" in targets
    )
    for chunk in log.chunks():
        one.take(chunk)
        if progress is not None:
            progress(one.series.n)
    return one.result(log)


_HELD_OUT = "(what the holdout serves)"


class _Pass:
    """What is kept while the log is read."""

    def __init__(
        self,
        targets: dict[str, TargetPolicy],
        choices: Choices,
        model: RewardModel,
        holdout: HoldoutArm | None,
        *,
        is_asked: bool,
    ) -> None:
        if choices.against not in targets:
            raise ValueError(f"policy {choices.against!r} to compare against is not among {', '.join(targets)}")
        self.choices, self.holdout = choices, holdout
        # The logged policy is always evaluated, but a verdict is about it only when it was asked for.
        self.apart = {choices.against, *(() if is_asked else ("logged",))}
        self.keys = tuple(dict.fromkeys((*choices.estimators, JUDGED_BY)))
        self.columns = columns_of(self.keys)
        self.views = Views(targets, model, mrdr="mrdr" in self.keys)
        self.series = Series(*(choices.rewards or (0.0, 1.0)))
        self.slot_series = SlotSeries(self.series.low, self.series.high)
        self.slices = Slices(choices.slices, choices.against)
        self.slots = Slices((SLOT,), choices.against)
        self.diagnostics = LogDiagnostics()
        self.sums: dict[str, PolicySums] = {}
        self.codes: Mapping[str, int] = {}
        self.added: dict[str, TargetPolicy] = {}
        self.first_at: datetime | None = None
        self.last_at: datetime | None = None

    def take(self, chunk: Chunk) -> None:
        if self.first_at is None:
            self._start(chunk)
        self.last_at = as_datetime(chunk.at[-1])
        views = self.views.of(chunk)
        choices, against = self.choices, views[self.choices.against]
        for name, kept in self.sums.items():
            added = PolicySums.of(chunk, views[name], against, self.columns, choices.hyperparameters)
            self.sums[name] = kept + added
        self.diagnostics += LogDiagnostics.of(chunk)
        if self.holdout is not None:
            self.holdout.log.add(chunk, views["logged"].terms, views.pop(_HELD_OUT).terms)
        self.series.add(chunk.at, chunk.reward, {name: one.terms.weight for name, one in views.items()})
        self.slot_series.add(chunk, {name: one.weight for name, one in self._sliced(views).items()})
        if choices.slices:
            self.slices.add(chunk, self._sliced(views))
        if chunk.slot is not None:
            self.slots.add(chunk, self._sliced(views))

    def _start(self, chunk: Chunk) -> None:
        self.first_at, self.codes = as_datetime(chunk.at[0]), chunk.codes
        self.added = _fixed_targets(chunk, self.choices.fixed_offers)
        self.views.targets |= self.added
        if self.holdout is not None:
            self.views.targets[_HELD_OUT] = self.holdout.target
        nothing = PolicySums.empty(self.columns, self.choices.hyperparameters)
        self.sums = dict.fromkeys(self.views.targets, nothing)

    def _sliced(self, views: Mapping[str, View]) -> dict[str, Terms]:
        """Offers that nobody asked for are left out of slices, which pay for every look."""
        return {name: view.terms for name, view in views.items() if name not in self.added}

    def result(self, log: LogSource) -> Evaluation:
        choices, found, notes = self.choices, log.found, list(log.found.notes)
        findings = self.diagnostics.findings(found.inconsistent, choices.limits)
        rewards = self._rewards(notes)
        reconciliation = self._reconciliation(findings)
        self.views.close()
        compared = max(1, len(self.sums.keys() - self.apart))
        policies = tuple(
            self._finished(name, one, rewards, compared, findings, estimated=found.estimated)
            for name, one in self.sums.items()
        )
        judged = [policy for policy in policies if policy.name not in self.apart]
        verdict, headline, reasons = _verdict(judged, findings.faults)
        largest = {name: one.weights.result.largest_possible for name, one in self.sums.items()}
        return Evaluation(
            loop=found.loop,
            n=self.series.n,
            skipped=dict(sorted(found.skipped.items())),
            first_at=self.first_at,
            last_at=self.last_at,
            mean_reward=self.sums["logged"].mean_reward if self.sums else float("nan"),
            rewards=rewards,
            level=choices.level,
            against=choices.against,
            judged=tuple(policy.name for policy in judged),
            policies=policies,
            findings=findings,
            series=self.series.points(rewards, largest, choices.level),
            totals=self.series.totals(),
            verdict=verdict,
            headline=headline,
            reasons=reasons,
            notes=(*notes, *self._not_evaluated()),
            estimated=found.estimated,
            slices=self.slices.result(choices.level) if choices.slices and self.sums else None,
            slots=self.slots.result(choices.level) if self.slots.sums else None,
            slot_series=self.slot_series.values(rewards, largest, choices.level),
            reconciliation=reconciliation,
        )

    def _rewards(self, notes: list[str]) -> tuple[float, float]:
        """The range that intervals rest on."""
        if self.choices.rewards is not None or not self.sums:
            return self.choices.rewards or (0.0, 1.0)
        low, high = next(iter(self.sums.values())).observed
        if low < 0.0 or high > 1.0:
            notes.append(
                f"the range of rewards is taken from the log, {min(0.0, low):g} to {max(1.0, high):g}: intervals hold "
                "if no larger one is possible"
            )
        return min(0.0, low), max(1.0, high)

    def _reconciliation(self, findings: LogFindings) -> Reconciliation | None:
        if self.holdout is None or _HELD_OUT not in self.sums:
            return None
        served = self.sums.pop(_HELD_OUT)
        faults = (*findings.faults, *weight_faults(served.weights.result, self.choices.limits, findings.doubts))
        return self.holdout.log.sums.result(
            self.holdout.share, faults, level=self.choices.level, limits=self.choices.limits, seed=self.choices.seed
        )

    def _finished(
        self,
        name: str,
        sums: PolicySums,
        rewards: tuple[float, float],
        compared: int,
        findings: LogFindings,
        *,
        estimated: bool,
    ) -> PolicyEvaluation:
        choices = self.choices
        difference = sums.difference(rewards, 1.0 - (1.0 - choices.level) / compared)
        weights = sums.weights.result
        judged = (
            Gate("not_shown", ("this is the policy that the others are compared with",))
            if name == choices.against and not findings.faults
            else gate(weights, difference, findings.faults, choices.limits, doubts=findings.doubts, estimated=estimated)
        )
        return PolicyEvaluation(
            name,
            sums.estimates(self.keys, rewards, choices.level),
            sums.normal(self.keys, choices.level),
            sums.bootstrapped(self.keys, choices.level, choices.replicates, choices.seed),
            difference,
            weights,
            judged,
            sums.slates.estimates(rewards, choices.level),
        )

    def _not_evaluated(self) -> list[str]:
        missing = len(self.codes) - sum(f"offer:{offer_id}" in self.sums for offer_id in self.codes)
        if self.choices.fixed_offers and missing:
            return [f"{missing:,} of {len(self.codes):,} offers were not evaluated as fixed offers"]
        return []


def _fixed_targets(chunk: Chunk, most: int) -> dict[str, TargetPolicy]:
    served = Counter(chunk.offer[chunk.chosen].tolist())
    ranked = sorted(chunk.codes, key=lambda offer_id: (-served[chunk.codes[offer_id]], offer_id))
    return {f"offer:{offer_id}": fixed_offer(offer_id) for offer_id in ranked[:most]}


def _verdict(
    judged: Sequence[PolicyEvaluation], faults: tuple[str, ...]
) -> tuple[Verdict, str | None, tuple[str, ...]]:
    """The verdict on the alternative that is best supported: the one whose difference has the highest lower end."""
    if faults:
        return "refused", judged[0].name if judged else None, faults
    if not judged:
        return "refused", None, ("not enough data: no usable interaction",)
    order = {"better": 3, "not_shown": 2, "worse": 1, "refused": 0}
    best = max(judged, key=lambda policy: (order[policy.gate.verdict], policy.difference.low))
    return best.gate.verdict, best.name, best.gate.reasons
