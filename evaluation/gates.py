"""The gate: what an estimate may be believed to show. A failed gate means no verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from contextual_bandit.types import Estimate
from evaluation.default_interval import OWN_EXPECTATION
from evaluation.significance import DEFAULT_LIMITS, GateLimits, more_decisions, skewed_limit
from evaluation.weights import WeightDiagnostics

Verdict: TypeAlias = Literal["better", "worse", "not_shown", "refused"]

# Intervals that promise nothing of themselves when few rewards carry weight.
UNGUARDED_INTERVALS = frozenset({"normal", "bootstrap"})


@dataclass(frozen=True, slots=True)
class Gate:
    """A verdict on one policy against another, why, and what to watch all the same."""

    verdict: Verdict
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def gate(
    weights: WeightDiagnostics,
    difference: Estimate,
    faults: Sequence[str] = (),
    limits: GateLimits = DEFAULT_LIMITS,
    *,
    doubts: Sequence[str] = (),
    estimated: bool = False,
) -> Gate:
    """Judge a target policy by its paired difference from another policy on the same decisions.

    Args:
        weights: the target's weights.
        difference: target minus other, with the interval that the verdict rests on. An interval that is not
            ``reliable`` shows nothing.
        faults: of the log (``LogFindings.faults``); any of them refuses.
        limits: when to refuse.
        doubts: what may be wrong with the log (``LogFindings.doubts``); they count when the mean weight is off.
        estimated: whether the propensities are estimates; then nothing is shown.
    """
    refusals = (*faults, *weight_faults(weights, limits, doubts))
    warnings = _warnings(weights, limits)
    if refusals:
        return Gate("refused", refusals, warnings)
    if difference.value == difference.low == difference.high == 0.0:
        return Gate("not_shown", ("both policies give every logged decision the same probabilities",), warnings)
    reason = _why_not(weights, difference, limits, estimated)
    if reason:
        return Gate("not_shown", (reason,), warnings)
    shown = f"difference {difference.value:+.4g}, interval [{difference.low:+.4g}, {difference.high:+.4g}]"
    if difference.low > 0.0:
        return Gate("better", (shown,), warnings)
    if difference.high < 0.0:
        return Gate("worse", (shown,), warnings)
    half = (difference.high - difference.low) / 2.0
    more = more_decisions(weights.n, abs(difference.value) ** 2, half**2) if difference.value else ""
    return Gate("not_shown", (f"{shown} holds 0{more}",), warnings)


def weight_faults(
    weights: WeightDiagnostics, limits: GateLimits = DEFAULT_LIMITS, doubts: Sequence[str] = ()
) -> tuple[str, ...]:
    """Say why a policy cannot be judged by a log: missing support, wrong propensities, too few or too heavy weights.

    Args:
        weights: the policy's weights.
        limits: when to refuse.
        doubts: what may be wrong with the log, given as the reason where the mean weight is off.
    """
    return (*_support_faults(weights, limits, doubts), *_effective_faults(weights, limits))


def _support_faults(weights: WeightDiagnostics, limits: GateLimits, doubts: Sequence[str]) -> list[str]:
    faults = []
    if weights.unsupported_mass > limits.most_unsupported_mass:
        faults.append(
            f"not supported: {weights.unsupported_mass:.1%} of the policy's probability lies on offers that could not "
            f"be served (in {weights.unsupported_share:.1%} of decisions)"
        )
    expected = 1.0 - weights.unsupported_mass
    if weights.propensity_z is not None and _is_off(weights.propensity_z, weights, limits):
        faults.append(
            f"calibration: mean weight is {weights.mean:.3f} where {expected:.3g} is expected "
            f"(z = {weights.propensity_z:.1f}): propensities are wrong"
        )
    elif _is_off(weights.mean_z, weights, limits):
        words = f"mean weight is {weights.mean:.3f} where 1 is expected (z = {weights.mean_z:.1f})"
        if weights.propensity_z is not None:
            faults.append(f"not supported: {words}")
        elif weights.mean_z > 0.0:
            faults.append(f"calibration: {words}: propensities are wrong")
        else:
            faults.append(
                f"not supported, or calibration: {words}: the policy wants what could not be served, or propensities "
                "are wrong"
            )
            faults.extend(doubts)
    return faults


def _is_off(z: float, weights: WeightDiagnostics, limits: GateLimits) -> bool:
    limit = limits.mean_weight_z
    return not -limit <= z <= skewed_limit(limit, weights.largest_possible, weights.variance)


def _effective_faults(weights: WeightDiagnostics, limits: GateLimits) -> list[str]:
    faults = []
    effective, what = weights.effective_sample_size, "effective sample size"
    if weights.expected_effective_sample_size < effective:
        effective = weights.expected_effective_sample_size
        what = f"with weights of up to {weights.largest_possible:,.0f}, drawn or not, effective sample size"
    too_heavy = effective < limits.least_effective_share * weights.n
    if effective < limits.least_effective_sample_size:
        more = "" if too_heavy else more_decisions(weights.n, effective, limits.least_effective_sample_size)
        faults.append(
            f"not enough data: {what} {effective:.0f} of {weights.n:,} decisions, "
            f"{limits.least_effective_sample_size:g} needed{more}"
        )
    if too_heavy:
        faults.append(
            f"not enough data: weights too heavy: {what} is {effective / weights.n:.2%} of the decisions, "
            f"{limits.least_effective_share:.0%} needed; more decisions like these do not change that, more "
            "exploration does"
        )
    return faults


def _warnings(weights: WeightDiagnostics, limits: GateLimits) -> tuple[str, ...]:
    if abs(weights.mean_z) <= limits.mean_weight_warning_z or _is_off(weights.mean_z, weights, limits):
        return ()
    return (f"mean weight is {weights.mean:.3f} (z = {weights.mean_z:.1f}), 1 expected",)


def _why_not(weights: WeightDiagnostics, difference: Estimate, limits: GateLimits, estimated: bool) -> str | None:
    """Why the interval shows nothing, whatever it holds."""
    shown = f"difference {difference.value:+.4g}, interval [{difference.low:+.4g}, {difference.high:+.4g}]"
    if estimated:
        return f"not supported: propensities are estimates, on which no verdict rests ({shown})"
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return "not enough data: no interval can be computed"
    if difference.interval == OWN_EXPECTATION:
        return f"not supported: the estimator is biased by what its model cannot know ({shown})"
    few, needed = weights.effective_rewards, limits.least_effective_rewards
    more = more_decisions(weights.n, few, needed)
    if not difference.reliable:
        more = more or "; how many more it takes cannot be told yet, twice as many is a first try"
        because = f"on {few:.1f} effective rewarded decisions"
        if few >= needed:
            because = f"where one decision may weigh up to {weights.largest_possible:,.0f}"
        return f"not enough data: the {difference.interval} interval cannot promise its level {because} ({shown}){more}"
    if difference.interval in UNGUARDED_INTERVALS and few < needed:
        return (
            f"not enough data: the estimate rests on {few:.1f} effective rewarded decisions, {needed:g} are needed for "
            f"its interval to hold{more}"
        )
    return None
