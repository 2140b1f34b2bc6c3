"""What a log says of itself, in one accumulator: propensities, rewards over time, and what that means for verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from evaluation.calibration import CALIBRATION_EDGES, Calibration, CalibrationBucket, bucket_faults
from evaluation.chunks import Chunk
from evaluation.drift import Drift, RewardDrift
from evaluation.gates import Gate, Verdict, gate
from evaluation.group_calibration import GroupCalibration, GroupCheck
from evaluation.significance import DEFAULT_LIMITS, GateLimits, bonferroni_z, z_score
from evaluation.weights import WeightDiagnostics, Weights

__all__ = [
    "CALIBRATION_EDGES",
    "DEFAULT_LIMITS",
    "Calibration",
    "CalibrationBucket",
    "Gate",
    "GateLimits",
    "LogDiagnostics",
    "LogFindings",
    "Verdict",
    "WeightDiagnostics",
    "Weights",
    "bonferroni_z",
    "gate",
    "log_faults",
    "z_score",
]

MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class LogFindings:
    """What a log's own checks found.

    Attributes:
        faults: why the log supports no verdict at all.
        doubts: what is either a wrong propensity or a missing support; they count where the mean weight is off too.
        warnings: what to watch all the same: the doubts, and rewards that changed.
        calibration: served frequency by logged probability; empty for a log of chosen probabilities alone.
        offers: the most served offers, each checked.
        drift: of the rewards; None when the log is too short.
    """

    faults: tuple[str, ...]
    doubts: tuple[str, ...]
    warnings: tuple[str, ...]
    calibration: tuple[CalibrationBucket, ...]
    offers: tuple[GroupCheck, ...]
    drift: Drift | None


@dataclass(frozen=True, slots=True, eq=False)
class LogDiagnostics:
    """All that a log's own checks keep; adds with ``+``. Its size grows with the number of offers, not of decisions."""

    calibration: Calibration = field(default_factory=Calibration.empty)
    offers: GroupCalibration = field(default_factory=lambda: GroupCalibration.empty("offer"))
    positions: GroupCalibration = field(default_factory=lambda: GroupCalibration.empty("position"))
    features: GroupCalibration = field(default_factory=lambda: GroupCalibration.empty("feature"))
    probabilities: GroupCalibration = field(default_factory=lambda: GroupCalibration.empty("probability"))
    drift: RewardDrift = field(default_factory=RewardDrift.empty)

    @classmethod
    def of(cls, chunk: Chunk) -> Self:
        """Take a chunk's decisions."""
        drift = RewardDrift.of(chunk.at, chunk.reward)
        if chunk.served is None and chunk.is_flat:
            # A log of the chosen actions alone does not tell what else there was to choose from.
            return cls(drift=drift)
        return cls(
            Calibration.empty() if chunk.served is None else Calibration.of(chunk.row, chunk.served, chunk.chosen),
            GroupCalibration.by_offer(chunk),
            GroupCalibration.by_position(chunk),
            GroupCalibration.by_feature(chunk),
            GroupCalibration.by_probability(chunk),
            drift,
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.calibration + other.calibration,
            self.offers + other.offers,
            self.positions + other.positions,
            self.features + other.features,
            self.probabilities + other.probabilities,
            self.drift + other.drift,
        )

    def findings(self, inconsistent: int = 0, limits: GateLimits = DEFAULT_LIMITS) -> LogFindings:
        """Judge all that was added.

        Args:
            inconsistent: decisions whose propensity is impossible or not their distribution's (``LogNotes``).
            limits: of the gate.
        """
        buckets, drift = self.calibration.buckets(limits), self.drift.result(limits.drift_p)
        families = [one.checks(limits) for one in (self.offers, self.positions, self.features, self.probabilities)]
        wrong, doubtful = [], []
        for checks in families:
            off = [one for one in checks if one.finding not in ("right", "not tested")]
            certain = [one for one in off if one.expected is not None or one.finding == "too often"]
            wrong += _named(certain, "propensities are wrong")
            doubtful += _named(
                [one for one in off if one not in certain],
                "propensities are wrong, or the offer could not be served where the log says that it was eligible",
            )
        faults = (*log_faults(buckets, inconsistent, limits), *wrong)
        warnings = (*doubtful, *([drift.warning] if drift is not None and drift.warning else ()))
        return LogFindings(faults, tuple(doubtful), warnings, buckets, families[0], drift)


def log_faults(
    calibration: Sequence[CalibrationBucket], inconsistent: int, limits: GateLimits = DEFAULT_LIMITS
) -> tuple[str, ...]:
    """Say why the log itself supports no verdict, by buckets alone; empty when it may.

    Args:
        calibration: buckets of the log.
        inconsistent: decisions whose propensity is not their distribution's probability of the chosen action.
        limits: the gate's limits.
    """
    faults = bucket_faults(tuple(calibration), limits)
    if not inconsistent:
        return faults
    wrong = (
        f"calibration: {inconsistent:,} decisions carry a propensity that is missing, impossible or not the "
        "probability their distribution gives the chosen offer"
    )
    return (wrong, *faults)


def _named(checks: Sequence[GroupCheck], meaning: str) -> list[str]:
    """One line a group, the worst first; many are counted."""
    worst = sorted(checks, key=lambda one: -abs(one.z or 0.0))
    lines = [f"calibration: {_in_words(one)}: {meaning}" for one in worst[:MOST_NAMED]]
    if len(worst) > MOST_NAMED:
        lines.append(f"calibration: and {len(worst) - MOST_NAMED:,} more by {worst[0].kind}")
    return lines


def _in_words(one: GroupCheck) -> str:
    subject = {"offer": "offer ", "probability": "offers chosen with probability "}.get(one.kind, "") + one.name
    if one.kind == "probability" and one.name == "all":
        subject = "all offers together"
    expected = "" if one.expected is None else f" where {one.expected:,.0f} were expected"
    z = f", z = {one.z:.1f}" if one.z is not None else ""
    return f"{subject}: served {one.observed:,} times{expected} ({one.ratio:.3g} of what 1/propensity says{z})"
