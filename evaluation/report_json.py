"""An evaluation as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from contextual_bandit.types import Estimate
from evaluation import feature_report
from evaluation.diagnostics import LogFindings
from evaluation.evaluate import Evaluation, PolicyEvaluation
from evaluation.holdout import Reconciliation
from evaluation.series import SeriesPoint, WeightSums
from evaluation.slices import Slice, SlicedValues
from evaluation.verdict_words import verdict_in_words
from evaluation.weights import WeightDiagnostics


def to_json(evaluation: Evaluation, interval: str = "default") -> dict[str, Any]:
    """Everything in plain JSON types; numbers that do not exist are null.

    ``estimates`` and ``diagnostics`` on top are the headline policy's, ``policies`` holds each one's.

    Args:
        evaluation: the result.
        interval: which one is shown as ``low`` and ``high``: ``default``, ``normal`` or ``bootstrap``. All three are
            in ``intervals``.
    """
    headline = evaluation.policy(evaluation.headline) if evaluation.headline else None
    return {
        "verdict_in_words": verdict_in_words(evaluation),
        "verdict": evaluation.verdict,
        "reasons": list(evaluation.reasons),
        "headline": evaluation.headline,
        "against": evaluation.against,
        "loop": evaluation.loop,
        "n": evaluation.n,
        "skipped": dict(evaluation.skipped),
        "first_at": evaluation.first_at.isoformat() if evaluation.first_at else None,
        "last_at": evaluation.last_at.isoformat() if evaluation.last_at else None,
        "mean_reward": _finite(evaluation.mean_reward),
        "rewards": list(evaluation.rewards),
        "level": evaluation.level,
        "estimated_propensities": evaluation.estimated,
        "notes": list(evaluation.notes),
        "estimates": _estimates(headline, interval) if headline else {},
        "diagnostics": (_weights(headline.weights) if headline else {}) | _findings(evaluation.findings),
        "policies": {policy.name: _policy(policy, interval) for policy in evaluation.policies},
        "series": [_point(point) for point in evaluation.series],
        "totals": {name: _sums(one) for name, one in evaluation.totals.items()},
        "slices": _slices(evaluation.slices) if evaluation.slices else None,
        "slots": _slices(evaluation.slots) if evaluation.slots else None,
        "slot_series": [
            {"place": one.place, "slot_id": one.slot_id, "n": one.n, "series": [_point(point) for point in one.series]}
            for one in evaluation.slot_series
        ],
        "holdout": _holdout(evaluation.reconciliation) if evaluation.reconciliation else None,
        "features": feature_report.to_json(evaluation.features) if evaluation.features else None,
    }


def _point(point: SeriesPoint) -> dict[str, Any]:
    return {
        "n": point.n,
        "closed_at": point.closed_at.isoformat(),
        "values": {name: [_finite(one) for one in band] for name, band in point.values.items()},
        "sums": {name: _sums(one) for name, one in point.sums.items()},
    }


def _sums(one: WeightSums) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in asdict(one).items()}


def _policy(policy: PolicyEvaluation, interval: str) -> dict[str, Any]:
    return {
        "verdict": policy.gate.verdict,
        "reasons": list(policy.gate.reasons),
        "warnings": list(policy.gate.warnings),
        "estimates": _estimates(policy, interval),
        "difference": _estimate(policy.difference),
        "diagnostics": _weights(policy.weights),
        "slates": {key: _estimate(one) for key, one in policy.slates.items()},
    }


def _estimates(policy: PolicyEvaluation, interval: str) -> dict[str, Any]:
    shown: Mapping[str, Mapping[str, Estimate]] = {
        "default": policy.estimates,
        "normal": policy.normal,
        "bootstrap": policy.bootstrap,
    }
    return {
        key: _estimate(shown[interval][key]) | {"intervals": {name: _bounds(ones[key]) for name, ones in shown.items()}}
        for key in policy.estimates
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    return {
        "value": _finite(one.value),
        "low": _finite(one.low),
        "high": _finite(one.high),
        "interval": one.interval,
        "reliable": one.reliable,
        "n": one.n,
        "effective_sample_size": _finite(one.effective_sample_size),
    }


def _bounds(one: Estimate) -> dict[str, Any]:
    return {"low": _finite(one.low), "high": _finite(one.high), "interval": one.interval}


def _weights(weights: WeightDiagnostics) -> dict[str, Any]:
    found = {name: _finite(one) for name, one in asdict(weights).items() if name not in ("bars", "mean", "largest")}
    return found | {
        "mean_weight": _finite(weights.mean),
        "mean_weight_z": _finite(weights.mean_z),
        "largest_weight": _finite(weights.largest),
    }


def _findings(findings: LogFindings) -> dict[str, Any]:
    drift = findings.drift
    return {
        "log_faults": list(findings.faults),
        "log_warnings": list(findings.warnings),
        "calibration": [_plain(asdict(one)) for one in findings.calibration],
        "offers": [_plain(asdict(one)) for one in findings.offers],
        "reward_drift": None
        if drift is None
        else {
            "first": _finite(drift.first.mean),
            "last": _finite(drift.last.mean),
            "z": _finite(drift.z),
            "cusum_p": _finite(drift.cusum_p),
            "chi_square_p": _finite(drift.chi_square_p),
            "warning": drift.warning,
        },
    }


def _slices(sliced: SlicedValues) -> dict[str, Any]:
    return {
        "caption": sliced.caption,
        "level": sliced.level,
        "own_level": sliced.own_level,
        "looks": sliced.looks,
        "dimensions": {name: [_slice(one) for one in found] for name, found in sliced.dimensions.items()},
    }


def _slice(one: Slice) -> dict[str, Any]:
    return {
        "name": one.name,
        "n": one.n,
        "share": one.share,
        "values": {name: _estimate(value) if value else None for name, value in one.values.items()},
        "differences": {name: _estimate(value) if value else None for name, value in one.differences.items()},
    }


def _holdout(found: Reconciliation) -> dict[str, Any]:
    parts = {"observed": found.observed, "estimated": found.estimated, "gap": found.gap}
    return {
        "agreement": found.agreement,
        "in_words": found.words,
        **{name: _estimate(one) if one else None for name, one in parts.items()},
        "customers": found.ratio.customers,
        "customers_held_out": found.ratio.held_out,
        "learned": found.learned,
        "held_out": found.held_out,
    }


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _finite(one) if isinstance(one, float) else one for name, one in found.items()}


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
