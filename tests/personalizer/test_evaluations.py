"""Evaluations and feature importances by the official Python client, and the older form by plain HTTP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

START, END = datetime(2022, 9, 20, tzinfo=UTC), datetime(2122, 9, 20, tzinfo=UTC)
SPAN = {"startTime": "2022-09-20", "endTime": "2122-09-20T00:00:00Z"}
CUSTOM = {"name": "mine", "arguments": "--cb_explore_adf --epsilon 0.1 -l 0.5 -q ::"}
Actions = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def played(make_resource: Callable[..., Any], actions: Actions, until: Callable[..., Any]) -> Any:
    """A resource with a closed log: action "good" is worth 1, the first action 0."""
    resource = make_resource()
    resource.configure(rewardWaitTime="PT5S")
    for number in range(60):
        context = [{"day": "even" if number % 2 else "odd"}]
        answer = resource.client.rank({"actions": actions("bad", "good"), "contextFeatures": context})
        resource.client.reward(answer["eventId"], {"value": 1.0 if answer["rewardActionId"] == "good" else 0.0})
    until(lambda: resource.api.get(f"/v1/loops/{resource.loop}").json()["status"]["interactions"] == 60, 30.0)
    return resource


def _ended(resource: Any, name: str, until: Callable[..., Any], **more: Any) -> Any:
    def ended() -> Any:
        found = resource.admin.get_evaluation(name, start_time=START, end_time=END, **more)
        return None if found["status"] == "Running" else found

    return until(ended, 120.0)


def test_an_evaluation_compares_policies(played: Any, until: Callable[..., Any], unique: Callable[[str], str]) -> None:
    name = unique("ev 1/ü%")
    played.admin.create_evaluation(
        name, {"name": "first", **SPAN, "policies": [CUSTOM], "enablePolicyOptimization": True}
    )
    found = _ended(played, name, until)
    assert (found["id"], found["name"], found["status"], found["evaluationType"]) == (
        name, "first", "Succeeded", "Manual",
    )  # fmt: skip
    results = {one["name"]: one for one in found["content"]["value"]}
    sources = {name: one["policySource"] for name, one in results.items()}
    assert sources | {
        "online": "Online", "baseline1": "Baseline", "baselineRand": "Random", "mine": "Custom",
        "Hyper1": "OfflineExperimentation",
    } == sources  # fmt: skip
    assert results["baseline1"]["summary"]["expectedReward"] == pytest.approx(0.0, abs=0.01)
    assert results["mine"]["summary"]["expectedReward"] > results["online"]["summary"]["expectedReward"]
    assert results["mine"]["arguments"] == CUSTOM["arguments"]
    assert found["optimalPolicy"] in results
    for one in results.values():
        low, high = one["summary"]["confidenceInterval"]
        assert low <= one["summary"]["expectedReward"] <= high
        times = [point["timeStamp"] for point in one["timeseries"]["data"]]
        assert times
        assert times == sorted(times)
        assert one["slotId"] == ""


@pytest.mark.parametrize("minutes", [60, 360, 720, 1440])
def test_a_rolling_window_has_values_per_interval(
    played: Any, until: Callable[..., Any], unique: Callable[[str], str], minutes: int
) -> None:
    name = unique("rolling")
    played.admin.create_evaluation(name, {"name": "r", **SPAN})
    found = _ended(played, name, until, interval_in_minutes=minutes, window="Rolling")
    assert found["content"]["intervalInMinutes"] == minutes
    online = found["content"]["value"][0]
    assert online["timeseries"]["data"]
    total = online["summary"]["expectedReward"]
    assert min(one["expectedReward"] for one in online["timeseries"]["data"]) <= total + 1e-9


@pytest.mark.parametrize(
    "query",
    [
        {"startTime": None}, {"endTime": None}, {"startTime": "yesterday"}, {"intervalInMinutes": "7"},
        {"intervalInMinutes": "60", "window": "Expanding"}, {"intervalInMinutes": "5", "window": "Rolling"},
        {"window": "Sliding"},
    ],
)  # fmt: skip
def test_a_query_that_breaks_a_rule_is_refused(played: Any, query: dict[str, Any]) -> None:
    asked = {"api-version": "2022-09-01-preview", **SPAN, **query}
    asked = {name: value for name, value in asked.items() if value is not None}
    answer = played.api.get(f"/loops/{played.loop}/personalizer/evaluations/x", params=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidRequest")


def test_an_applied_policy_is_the_current_one(
    played: Any, until: Callable[..., Any], unique: Callable[[str], str], refused: Callable[..., Any]
) -> None:
    name, apply = unique("apply"), played.admin.apply_from_evaluation
    played.admin.create_evaluation(name, {"name": "a", **SPAN, "policies": [CUSTOM]})
    _ended(played, name, until)
    apply({"evaluationId": name, "policyName": "mine"})
    assert played.admin.get_policy()["arguments"] == CUSTOM["arguments"]
    assert played.admin.get_service_configuration()["explorationPercentage"] == 0.1
    apply({"evaluationId": name, "policyName": "online"})
    refused(404, "EvaluationNotFound", apply, {"evaluationId": "nothing", "policyName": "mine"})
    refused(404, "LearningSettingsNotFound", apply, {"evaluationId": name, "policyName": "nothing"})
    refused(404, "EvaluationModelNotFound", apply, {"evaluationId": name, "policyName": "baselineRand"})
    refused(400, "InvalidRequest", apply, {"evaluationId": name})
    refused(400, "InvalidRequest", apply, {"policyName": "mine"})


def test_evaluations_are_listed_page_by_page(resource: Any, refused: Callable[..., Any]) -> None:
    for number in range(5):
        resource.admin.create_evaluation(f"e{number}", {"name": "n", **SPAN})
    newest_first = ["e4", "e3", "e2", "e1", "e0"]

    def ids(**more: Any) -> list[str]:
        return [one["id"] for one in resource.admin.list_evaluations(**more)]

    assert ids() == newest_first
    assert ids(top=2) == newest_first[:2]
    assert ids(skip=3) == newest_first[3:]
    assert ids(filter_expression="metadata=evaluationType eq 'Manual'", params={"maxpagesize": 2}) == newest_first
    assert ids(top=3, skip=1, params={"maxpagesize": 2}) == newest_first[1:4]
    assert ids(filter_expression="metadata=evaluationType eq 'Auto'") == []
    page = resource.call("GET", "/evaluations", expect=200, headers={"Host": "127.0.0.1:4321"})
    assert "nextLink" not in page
    answer = resource.api.get(
        f"/loops/{resource.loop}/personalizer/evaluations",
        params={"api-version": "2022-09-01-preview", "maxpagesize": 2, "top": 3},
    )
    assert answer.json()["nextLink"].startswith(f"{resource.endpoint}/personalizer/evaluations?api-version=2022-09-01")
    for query in ({"filter": "name eq 'n'"}, {"top": "-1"}, {"skip": "x"}, {"maxpagesize": "0"}):
        asked = {"api-version": "2022-09-01-preview", **query}
        answer = resource.api.get(f"/loops/{resource.loop}/personalizer/evaluations", params=asked)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidRequest")


def test_an_evaluation_of_no_events_ends_without_results(resource: Any, until: Callable[..., Any]) -> None:
    resource.admin.create_evaluation("empty", {"name": "n", **SPAN, "policies": [CUSTOM]})
    found = _ended(resource, "empty", until)
    assert found["status"] == "Succeeded", found
    assert [one["timeseries"]["data"] for one in found["content"]["value"]] == [[]] * 4
    assert all(one["summary"]["expectedReward"] is None for one in found["content"]["value"])
    old = resource.api.get(f"/loops/{resource.loop}/personalizer/v1.0/evaluations/empty").json()
    assert old["status"] == "completed"


def test_evaluations_are_deleted(resource: Any, refused: Callable[..., Any]) -> None:
    resource.admin.create_evaluation("once", {"name": "n", **SPAN})
    refused(400, "EvaluationAlreadyExists", resource.admin.create_evaluation, "once", {"name": "n", **SPAN})
    resource.admin.delete_evaluation("once")
    refused(404, "EvaluationNotFound", resource.admin.delete_evaluation, "once")
    get = resource.admin.get_evaluation
    refused(404, "EvaluationNotFound", get, "once", start_time=START, end_time=END)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("InvalidEvaluationContract", {"name": None}),
        ("InvalidEvaluationContract", {"name": "n" * 257}),
        ("InvalidEvaluationContract", {"startTime": None}),
        ("InvalidEvaluationContract", {"endTime": "then"}),
        ("InvalidEvaluationContract", {"startTime": "2122-09-21"}),
        ("InvalidEvaluationContract", {"policies": [{"name": "x", "arguments": "--no_such"}]}),
        ("InvalidEvaluationContract", {"policies": [{**CUSTOM, "name": f"p{n}"} for n in range(11)]}),
        ("DuplicateCustomPolicyNames", {"policies": [CUSTOM, CUSTOM]}),
    ],
)
def test_an_evaluation_that_breaks_a_rule_is_refused(
    resource: Any, refused: Callable[..., Any], code: str, changes: dict[str, Any]
) -> None:
    refused(400, code, resource.admin.create_evaluation, "bad", {"name": "n", **SPAN, **changes})


def test_features_are_ranked(
    resource: Any, actions: Actions, until: Callable[..., Any], refused: Callable[..., Any]
) -> None:
    name, played = "fi 1", resource
    played.configure(rewardWaitTime="PT5S", explorationPercentage=1)
    played.admin.update_policy({"name": "quick", "arguments": "--cb_explore_adf --epsilon 1 -l 0.5 -q ::"})
    for number in range(200):
        day, night = [{"time": "day"}], [{"time": "night"}]
        answer = played.client.rank(
            {"actions": actions("sun", "moon"), "contextFeatures": day if number % 2 else night}
        )
        value = 1.0 if (answer["rewardActionId"] == "sun") == bool(number % 2) else 0.0
        played.client.reward(answer["eventId"], {"value": value})
    until(lambda: played.api.get(f"/v1/loops/{played.loop}").json()["status"]["interactions"] == 200, 60.0)
    played.admin.update_policy({"name": "quick", "arguments": "--cb_explore_adf --epsilon 0.1 -l 0.5 -q ::"})
    played.admin.create_feature_importance(name, {"name": "f", **SPAN})

    def ended() -> Any:
        found = played.admin.get_feature_importance(name)
        return None if found["status"] == "Running" else found

    found = until(ended, 120.0)
    assert found["status"] == "Succeeded", found
    scores = found["featureScores"]
    best = scores[0]
    assert (best["namespace"], best["featureName"]) == ("FromUrl", "time"), scores
    assert best["score"] > 0.1
    assert [one["score"] for one in scores] == sorted((one["score"] for one in scores), reverse=True)
    assert [one["id"] for one in played.admin.list_feature_importances(top=1)] == [name]
    assert "featureScores" not in next(iter(played.admin.list_feature_importances()))
    again = played.admin.create_feature_importance
    refused(400, "FeatureImportanceAlreadyExists", again, name, {"name": "f", **SPAN})
    refused(400, "InvalidContract", again, "bad", {"name": "f"})
    played.admin.delete_feature_importance(name)
    refused(404, "FeatureImportanceNotFound", played.admin.get_feature_importance, name)
    refused(404, "FeatureImportanceNotFound", played.admin.delete_feature_importance, name)


@pytest.mark.parametrize("version", ["v1.0", "v1.1-preview.1", "v1.1-preview.2", "v1.1-preview.3"])
def test_the_older_form(played: Any, until: Callable[..., Any], version: str) -> None:
    base = f"/loops/{played.loop}/personalizer/{version}/evaluations"
    body = {"name": "old", **SPAN, "policies": [CUSTOM], "enableOfflineExperimentation": False}
    made = played.api.post(base, json=body)
    assert made.status_code == 201, made.text
    name = made.json()["id"]
    assert made.json()["status"] in ("pending", "completed")
    assert made.headers["location"] == f"{played.endpoint}/personalizer/{version}/evaluations/{name}"

    def ended() -> Any:
        found = played.api.get(f"{base}/{name}").json()
        return None if found["status"] == "pending" else found

    found = until(ended, 120.0)
    assert (found["status"], found["jobId"], found["featureImportance"]) == ("completed", name, [])
    sources = [one["policySource"] for one in found["policyResults"]]
    assert sources == ["Online", "Baseline", "Random", "Custom"]
    summary = found["policyResults"][0]["summary"][0]
    assert summary["aggregateTimeWindow"] == "PT5M"
    assert summary["averageReward"] == pytest.approx(
        summary["ipsEstimatorNumerator"] / summary["ipsEstimatorDenominator"]
    )
    listed = next(one for one in played.api.get(base).json() if one["id"] == name)
    assert listed["policyResults"][0]["totalSummary"]["aggregateTimeWindow"] == "PT0S"
    assert played.api.delete(f"{base}/{name}").status_code == 204
    gone = played.api.get(f"{base}/{name}")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "EvaluationNotFound")
