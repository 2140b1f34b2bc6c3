"""Evaluations as the Personalizer API shows them, from the native report; pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from adapters.evaluations import StoredEvaluation
from decision_service.personalizer_features import shown_name
from decision_service.personalizer_times import NO_TIME, format_time, parse_time

INTERVALS = ("5", "60", "360", "720", "1440")
# Native policies that are always evaluated: the word, and their name and source here.
ALWAYS = (("logged", "online", "Online"), ("first", "baseline1", "Baseline"), ("uniform", "baselineRand", "Random"))
STATUS = {"waiting": "Running", "running": "Running", "done": "Succeeded", "failed": "Failed"}
OLD_STATUS = {"Running": "pending", "Succeeded": "completed", "Failed": "failed"}
# Which of the report's estimates is shown: the doubly robust one, or the first of these that there is.
SHOWN_ESTIMATES = ("snips", "ips", "dr")


@dataclass(frozen=True, slots=True)
class Judged:
    """A policy of an evaluation: its word in the native report, and what is shown of it."""

    word: str
    name: str
    source: str
    arguments: str | None = None


def status(found: StoredEvaluation) -> str:
    """How far an evaluation is."""
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
        "evaluationType": "Manual",
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
        + list(_slot_results(found.result, judged(found))),
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
    points = _expanding(one.word, report) if minutes == 5 else _rolling(one.word, report, minutes)
    data = [
        {"timeStamp": format_time(at), "expectedReward": mean, "confidenceInterval": [lower, upper]}
        for at, mean, lower, upper in points
        if span[0] <= at <= span[1]
    ]
    result: dict[str, Any] = {
        "name": one.name,
        "slotId": "",
        "policySource": one.source,
        "summary": {"expectedReward": value, "confidenceInterval": [low, high]},
        "timeseries": {"data": data},
    }
    if one.arguments is not None:
        result["arguments"] = one.arguments
    return result


def _slot_results(report: Mapping[str, Any], policies: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    dimensions = (report.get("slots") or {}).get("dimensions", {})
    for slots in dimensions.values():
        for slot in slots:
            for one in policies:
                value = (slot["values"] or {}).get(one.word)
                if value:
                    result = {
                        "name": one.name,
                        "slotId": slot["name"],
                        "policySource": one.source,
                        "summary": {
                            "expectedReward": value["value"],
                            "confidenceInterval": [value["low"], value["high"]],
                        },
                        "timeseries": {"data": []},
                    }
                    yield result if one.arguments is None else {**result, "arguments": one.arguments}


def _points(word: str, report: Mapping[str, Any]) -> list[tuple[datetime, int, float, float, float]]:
    """Cumulative points (time, decisions, value, low, high) of a policy; the whole log is the last one."""
    found = [
        (parse_time(point["closed_at"]), point["n"], *point["values"][word])
        for point in report["series"]
        if word in point["values"] and None not in point["values"][word]
    ]
    value, low, high = _estimate(report["policies"].get(word, {}).get("estimates", {}))
    if report["last_at"] and value is not None and (not found or found[-1][1] < report["n"]):
        found.append((parse_time(report["last_at"]), report["n"], value, low, high))
    return found


def _expanding(word: str, report: Mapping[str, Any]) -> list[tuple[datetime, float, float, float]]:
    """From the start up to the end of each five minutes."""
    last = {_bin(at, 5): (mean, low, high) for at, _, mean, low, high in _points(word, report)}
    return [(at, *point) for at, point in sorted(last.items())]


def _rolling(word: str, report: Mapping[str, Any], minutes: int) -> list[tuple[datetime, float, float, float]]:
    """Per interval: what cumulative sums differ by.

    The cumulative intervals hold all at once, so the difference of their ends holds too, wide as it is.
    """
    last: dict[datetime, tuple[int, float, float, float]] = {}
    for at, n, mean, low, high in _points(word, report):
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
    values = {
        one.name: _estimate(found.result.get("policies", {}).get(one.word, {}).get("estimates", {}))[0]
        for one in judged(found)
    }
    known = {name: value for name, value in values.items() if value is not None}
    return max(known, key=lambda name: known[name]) if known else None


def _summaries(word: str, found: StoredEvaluation) -> list[dict[str, Any]]:
    """One summary for each five minutes that have events."""
    assert found.result is not None
    summaries = []
    counted = 0
    for at, n, mean, low, high in _points(word, found.result):
        if n > counted:
            summaries.append(_summary(word, found.result, at, "PT5M", n, (mean, low, high)))
            counted = n
    return summaries


def _total(word: str, found: StoredEvaluation) -> dict[str, Any]:
    assert found.result is not None
    report = found.result
    at = parse_time(report["last_at"]) if report["last_at"] else found.created_at
    values = _estimate(report["policies"].get(word, {}).get("estimates", {}))
    mean, low, high = (0.0 if one is None else one for one in values)
    return _summary(word, report, at, "PT0S", report["n"], (mean, low, high))


def _summary(
    word: str, report: Mapping[str, Any], at: datetime, window: str, n: int, values: tuple[float, float, float]
) -> dict[str, Any]:
    mean, low, high = values
    weights = report["policies"].get(word, {}).get("diagnostics", {})
    return {
        "timeStamp": format_time(at),
        "aggregateTimeWindow": window,
        "ipsEstimatorNumerator": mean * n,
        "ipsEstimatorDenominator": float(n),
        "snipsEstimatorDenominator": n * (weights.get("mean_weight") or 0.0),
        "nonZeroProbability": float(n),
        "confidenceInterval": (high - low) / 2.0,
        "averageReward": mean,
    }


def _shown_time(text: str) -> str:
    return format_time(parse_time(text))
