"""Evaluations as the Personalizer API shows them, from the native report; pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from adapters.evaluations import StoredEvaluation
from decision_service.personalizer_features import shown_name
from decision_service.personalizer_times import NO_TIME, format_time, parse_time

INTERVALS = ("5", "60", "360", "720", "1440")
# Native policies that are always evaluated: the word, and their name and source here.
ALWAYS = (("logged", "online", "Online"), ("first", "baseline1", "Baseline"), ("uniform", "baselineRand", "Random"))
STATUS = {"waiting": "Running", "running": "Running", "done": "Succeeded", "failed": "Failed"}
OLD_STATUS = {
    "Running": "pending", "Succeeded": "completed", "Failed": "failed", "OptimalPolicyApplied": "optimalPolicyApplied",
    "OnlinePolicyRetained": "onlinePolicyRetained",
}  # fmt: skip
APPLIED = "OptimalPolicyApplied"
# Which of the report's estimates is shown: the doubly robust one, or the first of these that there is.
SHOWN_ESTIMATES = ("snips", "ips", "dr")
# What a report keeps of a policy's weights.
SUMS = ("terms", "weights", "squares", "nonzero")
NORMAL_95 = 1.959964
# A cumulative estimate: when, of how many decisions, its value and interval.
Point: TypeAlias = tuple[datetime, int, float, float, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """A policy of an evaluation: its word in the native report, and what is shown of it."""

    word: str
    name: str
    source: str
    arguments: str | None = None


def status(found: StoredEvaluation) -> str:
    """How far an evaluation is; one of automatic optimisation ends with what came of that."""
    if found.state == "done":
        return str(found.request["personalizer"].get("outcome", STATUS["done"]))
    return STATUS[found.state]


def judged(found: StoredEvaluation) -> list[Judged]:
    """The policies that an evaluation is about."""
    asked = found.request.get("personalizer", {}).get("policies", [])
    own = [Judged(one["word"], one["name"], one["source"], one["arguments"]) for one in asked]
    return [*(Judged(*one) for one in ALWAYS), *own]


def policy_arguments(found: StoredEvaluation) -> dict[str, str | None]:
    """The policies by name, with the arguments of those that have a model."""
    return {one.name: one.arguments for one in judged(found)}


def listed(evaluation_id: str, found: StoredEvaluation) -> dict[str, Any]:
    """An evaluation as a list has it."""
    asked = found.request["personalizer"]
    entry = {
        "id": evaluation_id,
        "name": found.name,
        "startTime": _shown_time(asked["start"]),
        "endTime": _shown_time(asked["end"]),
        "creationTime": format_time(found.created_at),
        "status": status(found),
        "evaluationType": asked.get("type", "Manual"),
    }
    best = _best(found)
    if best is not None:
        entry["optimalPolicy"] = best
    if found.error:
        entry["description"] = found.error
    return entry


def content(found: StoredEvaluation, span: tuple[datetime, datetime], minutes: int) -> dict[str, Any]:
    """The results within a span; times of nothing while there are none."""
    if found.result is None:
        return {"startTime": NO_TIME, "endTime": NO_TIME, "intervalInMinutes": 0, "value": []}
    return {
        "startTime": format_time(span[0]),
        "endTime": format_time(span[1]),
        "intervalInMinutes": minutes,
        "value": [_result(one, found.result, span, minutes) for one in judged(found)]
        + list(_slot_results(found.result, judged(found), span, minutes)),
    }


def feature_scores(found: StoredEvaluation) -> list[dict[str, Any]]:
    """Features by falling score, from 0 up: what a policy loses that must do without them."""
    report = (found.result or {}).get("features") or {}
    scores = []
    for one in report.get("worth", []):
        namespace, feature = shown_name(one["name"])
        score = max(one["lost"]["value"] or 0.0, 0.0)
        scores.append({"namespace": namespace, "featureName": feature, "score": score})
    return sorted(scores, key=lambda one: -one["score"])


def old_form(evaluation_id: str, found: StoredEvaluation, *, total: bool = False) -> dict[str, Any]:
    """An evaluation as the older versions show it; with ``total`` one summary for the whole of each policy."""
    entry = listed(evaluation_id, found)
    results = []
    if found.result is not None:
        for one in judged(found):
            result: dict[str, Any] = {"name": one.name, "policySource": one.source}
            if one.arguments is not None:
                result["arguments"] = one.arguments
            if total:
                result["totalSummary"] = _total(one.word, found)
            else:
                result["summary"] = _summaries(one.word, found)
            results.append(result)
    return {
        "id": evaluation_id,
        "name": found.name,
        "jobId": evaluation_id,
        "startTime": entry["startTime"],
        "endTime": entry["endTime"],
        "creationTime": entry["creationTime"],
        "status": OLD_STATUS[entry["status"]],
        "evaluationType": entry["evaluationType"],
        "optimalPolicy": entry.get("optimalPolicy", ""),
        "policyResults": results,
        "featureImportance": [],
    }


def _result(one: Judged, report: Mapping[str, Any], span: tuple[datetime, datetime], minutes: int) -> dict[str, Any]:
    value, low, high = _estimate(report["policies"].get(one.word, {}).get("estimates", {}))
    result: dict[str, Any] = {
        "name": one.name,
        "slotId": "",
        "policySource": one.source,
        "summary": {"expectedReward": value, "confidenceInterval": [low, high]},
        "timeseries": {"data": _shown_points(_points(one.word, report), span, minutes)},
    }
    if one.arguments is not None:
        result["arguments"] = one.arguments
    return result


def _slot_results(
    report: Mapping[str, Any], policies: Sequence[Judged], span: tuple[datetime, datetime], minutes: int
) -> Iterator[dict[str, Any]]:
    """Each slot under each policy; its id, or its place from 1 where decisions gave that several names."""
    over_time = {str(one["place"]): one for one in report.get("slot_series", [])}
    dimensions = (report.get("slots") or {}).get("dimensions", {})
    for slot in (slot for slots in dimensions.values() for slot in slots):
        found = over_time.get(slot["name"], {"series": [], "slot_id": None})
        for one in policies:
            value = (slot["values"] or {}).get(one.word)
            if not value:
                continue
            whole = (value["value"], value["low"], value["high"])
            points = _cumulative(one.word, found["series"], (report["last_at"], slot["n"], whole))
            result = {
                "name": one.name,
                "slotId": found["slot_id"] or slot["name"],
                "policySource": one.source,
                "summary": {"expectedReward": whole[0], "confidenceInterval": list(whole[1:])},
                "timeseries": {"data": _shown_points(points, span, minutes)},
            }
            yield result if one.arguments is None else {**result, "arguments": one.arguments}


def _points(word: str, report: Mapping[str, Any]) -> list[Point]:
    """Cumulative points of a policy; the whole log is the last one."""
    whole = _estimate(report["policies"].get(word, {}).get("estimates", {}))
    return _cumulative(word, report["series"], (report["last_at"], report["n"], whole))


def _cumulative(
    word: str, series: Sequence[Mapping[str, Any]], whole: tuple[str | None, int, tuple[Any, Any, Any]]
) -> list[Point]:
    """The points of a policy in a series, and behind them the whole: when it ended, its decisions, its estimate."""
    found: list[Point] = [
        (parse_time(point["closed_at"]), point["n"], *point["values"][word])
        for point in series
        if word in point["values"] and None not in point["values"][word]
    ]
    ended, n, (value, low, high) = whole
    if ended and value is not None and (not found or found[-1][1] < n):
        found.append((parse_time(ended), n, value, low, high))
    return found


def _shown_points(points: Sequence[Point], span: tuple[datetime, datetime], minutes: int) -> list[dict[str, Any]]:
    shown = _expanding(points) if minutes == 5 else _rolling(points, minutes)
    return [
        {"timeStamp": format_time(at), "expectedReward": mean, "confidenceInterval": [lower, upper]}
        for at, mean, lower, upper in shown
        if span[0] <= at <= span[1]
    ]


def _expanding(points: Sequence[Point]) -> list[tuple[datetime, float, float, float]]:
    """From the start up to the end of each five minutes."""
    last = {_bin(at, 5): (mean, low, high) for at, _, mean, low, high in points}
    return [(at, *point) for at, point in sorted(last.items())]


def _rolling(points: Sequence[Point], minutes: int) -> list[tuple[datetime, float, float, float]]:
    """Per interval: what cumulative sums differ by.

    The cumulative intervals hold all at once, so the difference of their ends holds too, wide as it is.
    """
    last: dict[datetime, tuple[int, float, float, float]] = {}
    for at, n, mean, low, high in points:
        last[_bin(at, minutes)] = (n, mean, low, high)
    rolled = []
    before = (0, 0.0, 0.0, 0.0)
    for at, point in sorted(last.items()):
        n, mean, low, high = point
        count = n - before[0]
        if count > 0:
            value = (n * mean - before[0] * before[1]) / count
            lower = (n * low - before[0] * before[3]) / count
            upper = (n * high - before[0] * before[2]) / count
            rolled.append((at, value, min(lower, value), max(upper, value)))
        before = point
    return rolled


def _bin(at: datetime, minutes: int) -> datetime:
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    step = timedelta(minutes=minutes)
    return day + (at - day) // step * step


def _estimate(estimates: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    for key in (*SHOWN_ESTIMATES, *estimates):
        if key in estimates:
            one = estimates[key]
            return one["value"], one["low"], one["high"]
    return None, None, None


def _best(found: StoredEvaluation) -> str | None:
    if found.result is None:
        return None
    if found.request["personalizer"].get("outcome") == APPLIED:
        return judged(found)[-1].name
    values = {
        one.name: _estimate(found.result.get("policies", {}).get(one.word, {}).get("estimates", {}))[0]
        for one in judged(found)
    }
    known = {name: value for name, value in values.items() if value is not None}
    return max(known, key=lambda name: known[name]) if known else None


def _summaries(word: str, found: StoredEvaluation) -> list[dict[str, Any]]:
    """One summary for each five minutes that have events, of these events alone."""
    report = found.result
    assert report is not None
    marks = {
        _bin(parse_time(point["closed_at"]), 5): (point["n"], point["sums"][word])
        for point in report["series"]
        if word in point.get("sums", {})
    }
    if word in report.get("totals", {}) and report["last_at"]:
        marks[_bin(parse_time(report["last_at"]), 5)] = (report["n"], report["totals"][word])
    summaries = []
    counted, before = 0, dict.fromkeys(SUMS, 0.0)
    for at, (n, sums) in sorted(marks.items()):
        if n > counted:
            own = {name: sums[name] - before[name] for name in SUMS}
            summaries.append(_summary(at, "PT5M", n - counted, own, _half_width(n - counted, own)))
            counted, before = n, sums
    return summaries


def _total(word: str, found: StoredEvaluation) -> dict[str, Any]:
    report = found.result
    assert report is not None
    at = parse_time(report["last_at"]) if report["last_at"] else found.created_at
    n, sums = report["n"], report.get("totals", {}).get(word) or dict.fromkeys(SUMS, 0.0)
    estimate = report["policies"].get(word, {}).get("estimates", {}).get("ips")
    half = (estimate["high"] - estimate["low"]) / 2.0 if estimate else 0.0
    return _summary(at, "PT0S", n, sums, half)


def _summary(at: datetime, window: str, n: int, sums: Mapping[str, float], half_width: float) -> dict[str, Any]:
    """Sums of inverse propensity weights over ``n`` events, and the mean that they make."""
    return {
        "timeStamp": format_time(at),
        "aggregateTimeWindow": window,
        "ipsEstimatorNumerator": sums["terms"],
        "ipsEstimatorDenominator": float(n),
        "snipsEstimatorDenominator": sums["weights"],
        "nonZeroProbability": sums["nonzero"],
        "sumOfSquares": sums["squares"],
        "confidenceInterval": half_width,
        "averageReward": sums["terms"] / n if n else 0.0,
    }


def _half_width(n: int, sums: Mapping[str, float]) -> float:
    """Of the normal interval of a window's own mean; 0 where one event says nothing of their spread."""
    if n < 2:
        return 0.0
    mean = sums["terms"] / n
    variance = max(sums["squares"] / n - mean * mean, 0.0) * n / (n - 1)
    return NORMAL_95 * math.sqrt(variance / n)


def _shown_time(text: str) -> str:
    return format_time(parse_time(text))
