"""Evaluations in the Personalizer API's words, from reports."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.evaluations import StoredEvaluation
from decision_service.personalizer_evaluation_forms import content, listed, old_form

START = datetime(2026, 3, 2, 9, 31, tzinfo=UTC)
SPAN = (START - timedelta(days=1), START + timedelta(days=1))


def point(minute: int, n: int, terms: float, weights: float, squares: float, nonzero: float) -> dict[str, Any]:
    return {
        "n": n,
        "closed_at": (START + timedelta(minutes=minute)).isoformat(),
        "values": {"first": [terms / n, 0.0, 1.0]},
        "sums": {"first": {"terms": terms, "weights": weights, "squares": squares, "nonzero": nonzero}},
    }


def stored(**asked: Any) -> StoredEvaluation:
    """60 events in 8 minutes; the series was counted at 25 and 50."""
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    report = {
        "n": 60,
        "last_at": (START + timedelta(minutes=8)).isoformat(),
        "policies": {"first": {"estimates": {"ips": estimate, "snips": estimate}}},
        "series": [point(2, 25, 10.0, 24.0, 30.0, 8.0), point(7, 50, 26.0, 51.0, 60.0, 18.0)],
        "totals": {"first": {"terms": 30.0, "weights": 61.0, "squares": 70.0, "nonzero": 20.0}},
        "slots": {
            "dimensions": {
                "slot": [
                    {"name": "1", "n": 30, "values": {"first": {"value": 0.7, "low": 0.5, "high": 0.9}}},
                    {"name": "2", "n": 30, "values": {"first": None}},
                ]
            }
        },
        "slot_series": [{"place": 1, "slot_id": "top", "n": 30, "series": [point(2, 25, 15.0, 25.0, 30.0, 9.0)]}],
    }
    span = {"start": START.isoformat(), "end": START.isoformat(), "policies": []}
    return StoredEvaluation(
        "personalizer:l:e", "l", "name", {"personalizer": {**span, **asked}}, "done", 1.0, report, None, START, START
    )


def test_old_summaries_are_sums_of_each_five_minutes() -> None:
    baseline = old_form("e", stored())["policyResults"][1]
    assert baseline["policySource"] == "Baseline"
    first, second = baseline["summary"]
    assert first["timeStamp"] == "2026-03-02T09:30:00Z"
    assert (first["ipsEstimatorNumerator"], first["ipsEstimatorDenominator"]) == (10.0, 25.0)
    # The second window has what came up to the end of the log.
    assert {name: second[name] for name in second if name not in ("timeStamp", "confidenceInterval")} == {
        "aggregateTimeWindow": "PT5M", "ipsEstimatorNumerator": 20.0, "ipsEstimatorDenominator": 35.0,
        "snipsEstimatorDenominator": 37.0, "nonZeroProbability": 12.0, "sumOfSquares": 40.0,
        "averageReward": pytest.approx(20.0 / 35.0),
    }  # fmt: skip
    variance = (40.0 / 35.0 - (20.0 / 35.0) ** 2) * 35.0 / 34.0
    assert second["confidenceInterval"] == pytest.approx(1.96 * math.sqrt(variance / 35.0), rel=1e-3)


def test_an_old_total_is_of_the_whole_log() -> None:
    total = old_form("e", stored(), total=True)["policyResults"][1]["totalSummary"]
    assert (total["aggregateTimeWindow"], total["nonZeroProbability"], total["sumOfSquares"]) == ("PT0S", 20.0, 70.0)
    assert total["averageReward"] == total["ipsEstimatorNumerator"] / total["ipsEstimatorDenominator"] == 0.5
    assert total["confidenceInterval"] == pytest.approx(0.1)


def test_slots_have_their_ids_and_series() -> None:
    found = [one for one in content(stored(), SPAN, 5)["value"] if one["slotId"]]
    (top,) = found
    assert (top["name"], top["slotId"], top["summary"]["expectedReward"]) == ("baseline1", "top", 0.7)
    assert [one["timeStamp"] for one in top["timeseries"]["data"]] == ["2026-03-02T09:30:00Z", "2026-03-02T09:35:00Z"]
    assert [one["expectedReward"] for one in top["timeseries"]["data"]] == [0.6, 0.7]
    rolling = next(one for one in content(stored(), SPAN, 60)["value"] if one["slotId"])["timeseries"]["data"]
    assert [one["expectedReward"] for one in rolling] == [pytest.approx(0.7)]


@pytest.mark.parametrize(
    ("outcome", "old"),
    [("OptimalPolicyApplied", "optimalPolicyApplied"), ("OnlinePolicyRetained", "onlinePolicyRetained")],
)
def test_what_came_of_an_automatic_optimisation(outcome: str, old: str) -> None:
    better = {"name": "Hyper1", "arguments": "--cb_explore_adf", "source": "OfflineExperimentation", "word": "vw:x"}
    auto = stored(type="Auto", outcome=outcome, policies=[better])
    assert (listed("e", auto)["evaluationType"], listed("e", auto)["status"]) == ("Auto", outcome)
    assert old_form("e", auto)["status"] == old
    assert listed("e", auto)["optimalPolicy"] == ("Hyper1" if outcome == "OptimalPolicyApplied" else "baseline1")
    assert listed("e", stored())["evaluationType"] == "Manual"
