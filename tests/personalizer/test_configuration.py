"""Service configuration and policy by the official Python client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

DEFAULT = "--cb_explore_adf --epsilon 0.2 --power_t 0 -l 0.001 --cb_type mtr -q ::"
Actions = Callable[..., list[dict[str, Any]]]


def test_a_new_resource_has_the_original_defaults(resource: Any) -> None:
    found = resource.admin.get_service_configuration()
    expected = {
        "rewardWaitTime": "PT10M", "defaultReward": 0.0, "rewardAggregation": "earliest", "explorationPercentage": 0.2,
        "modelExportFrequency": "PT5M", "logRetentionDays": 90, "modelRetrainDays": 2, "learningMode": "Online",
        "isAutoOptimizationEnabled": False, "autoOptimizationFrequency": "P28D",
        "isInferenceExplainabilityEnabled": False,
    }  # fmt: skip
    assert found | expected == found
    assert found["lastConfigurationEditDate"].endswith("Z")
    assert resource.admin.get_policy()["arguments"] == DEFAULT


def test_what_was_read_may_be_sent_back(resource: Any) -> None:
    found = resource.admin.get_service_configuration()
    assert resource.admin.update_service_configuration(found) == found


@pytest.mark.parametrize("aggregation", ["earliest", "sum", "average", "median", "min", "max"])
def test_every_field_is_stored(resource: Any, aggregation: str) -> None:
    changes = {
        "rewardWaitTime": "PT4H", "defaultReward": -0.5, "rewardAggregation": aggregation, "explorationPercentage": 0.35,
        "modelExportFrequency": "PT1M30S", "logRetentionDays": -1, "modelRetrainDays": 1000, "learningMode": "LoggingOnly",
        "isAutoOptimizationEnabled": True, "autoOptimizationFrequency": "P7D",
        "autoOptimizationStartDate": "2031-02-03T00:00:00Z", "isInferenceExplainabilityEnabled": True,
        "logMirrorEnabled": False, "logMirrorSasUri": "https://storage.example/x",
    }  # fmt: skip
    before = resource.admin.get_service_configuration()
    answer = resource.configure(**changes)
    assert answer | changes == answer
    assert resource.admin.get_service_configuration() == answer
    assert answer["lastConfigurationEditDate"] > before["lastConfigurationEditDate"]
    assert resource.admin.get_policy()["arguments"] == DEFAULT.replace("0.2", "0.35")


def test_optional_fields_left_out_keep_what_is_stored(resource: Any) -> None:
    resource.configure(learningMode="Apprentice", modelRetrainDays=7, isInferenceExplainabilityEnabled=True)
    required = {
        "rewardWaitTime": "PT10M", "defaultReward": 0, "rewardAggregation": "earliest", "explorationPercentage": 1,
        "modelExportFrequency": "PT5M", "logRetentionDays": 30,
    }  # fmt: skip
    answer = resource.admin.update_service_configuration(required)
    assert (answer["learningMode"], answer["modelRetrainDays"]) == ("Apprentice", 7)
    assert answer["isInferenceExplainabilityEnabled"] is True


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("InvalidRewardWaitTime", {"rewardWaitTime": "PT4S"}),
        ("InvalidRewardWaitTime", {"rewardWaitTime": "P2DT1S"}),
        ("InvalidRewardWaitTime", {"rewardWaitTime": "ten minutes"}),
        ("InvalidServiceConfiguration", {"rewardWaitTime": None}),
        ("InvalidServiceConfiguration", {"defaultReward": 1.5}),
        ("InvalidServiceConfiguration", {"rewardAggregation": "latest"}),
        ("InvalidServiceConfiguration", {"explorationPercentage": 1.01}),
        ("InvalidServiceConfiguration", {"explorationPercentage": "0.2"}),
        ("InvalidServiceConfiguration", {"modelExportFrequency": "PT0S"}),
        ("InvalidServiceConfiguration", {"modelExportFrequency": None}),
        ("InvalidLogRetentionDays", {"logRetentionDays": 0}),
        ("InvalidLogRetentionDays", {"logRetentionDays": -2}),
        ("InvalidLogRetentionDays", {"rewardWaitTime": "P1DT1H", "logRetentionDays": 2}),
        ("InvalidLogRetentionDays", {"logRetentionDays": 2**31}),
        ("InvalidModelRetrainDays", {"modelRetrainDays": 91}),
        ("InvalidModelRetrainDays", {"modelRetrainDays": -1}),
        ("InvalidServiceConfiguration", {"learningMode": "Offline"}),
        ("InvalidServiceConfiguration", {"autoOptimizationFrequency": "PT12H"}),
        ("InvalidServiceConfiguration", {"autoOptimizationStartDate": "soon"}),
        ("InvalidLearningModeServiceConfiguration", {"learningMode": "Apprentice", "defaultReward": 0.5}),
        ("InvalidLearningModeServiceConfiguration", {"learningMode": "Apprentice", "rewardWaitTime": "PT5M"}),
        ("InvalidLearningModeServiceConfiguration", {"learningMode": "Apprentice", "rewardAggregation": "sum"}),
    ],
)
def test_a_configuration_that_breaks_a_rule_is_refused_and_changes_nothing(
    resource: Any, refused: Callable[..., Any], code: str, changes: dict[str, Any]
) -> None:
    before = resource.admin.get_service_configuration()
    changed = {**before, "isInferenceExplainabilityEnabled": True, **changes}
    refused(400, code, resource.admin.update_service_configuration, changed)
    assert resource.admin.get_service_configuration() == before


def test_a_policy_is_kept_as_it_was_sent(resource: Any, refused: Callable[..., Any]) -> None:
    sent = "--cb_explore_adf  --quadratic GT --ignore A -l 0.5 --cb_type ips --power_t 0.5 --epsilon 0.25"
    assert resource.admin.update_policy({"name": "mine", "arguments": sent})["arguments"] == sent
    assert resource.admin.get_policy() == {"name": "mine", "arguments": sent}
    assert resource.admin.get_service_configuration()["explorationPercentage"] == 0.25
    resource.configure(explorationPercentage=0.5)
    assert resource.admin.get_policy()["arguments"] == sent.replace("0.25", "0.5")
    assert resource.admin.reset_policy()["arguments"] == DEFAULT
    assert resource.admin.get_service_configuration()["explorationPercentage"] == 0.2


@pytest.mark.parametrize(
    "more", ["--cb_type dr", "--bag 3", "--cover 2", "--softmax --lambda 10", "--first 3", "--regcb"]
)
def test_other_explorers_are_accepted(resource: Any, actions: Actions, more: str) -> None:
    arguments = f"--cb_explore_adf {more} -q ::"
    assert resource.admin.update_policy({"name": "other", "arguments": arguments})["arguments"] == arguments
    ranking = resource.client.rank({"actions": actions("a", "b")})["ranking"]
    assert sum(one["probability"] for one in ranking) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("code", "policy"),
    [
        ("InvalidPolicyContract", {"name": "n"}),
        ("InvalidPolicyContract", {"arguments": DEFAULT}),
        ("InvalidPolicyContract", {"name": "", "arguments": DEFAULT}),
        ("InvalidPolicyContract", {"name": "n" * 257, "arguments": DEFAULT}),
        ("InvalidPolicyContract", {"name": "n", "arguments": ""}),
        ("InvalidPolicyContract", {"name": "n", "arguments": DEFAULT + " " * 1024}),
        ("InvalidPolicyConfiguration", {"name": "n", "arguments": "--epsilon 0.2"}),
        ("InvalidPolicyConfiguration", {"name": "n", "arguments": "--cb_explore_adf --no_such_option"}),
        ("InvalidPolicyConfiguration", {"name": "n", "arguments": "--cb_explore_adf -f /tmp/model"}),
        ("InvalidPolicyConfiguration", {"name": "n", "arguments": "--cb_explore_adf --epsilon 2"}),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_and_changes_nothing(
    resource: Any, refused: Callable[..., Any], code: str, policy: dict[str, Any]
) -> None:
    before = resource.admin.get_policy()
    refused(400, code, resource.admin.update_policy, policy)
    assert resource.admin.get_policy() == before


@pytest.mark.parametrize("mode", ["Apprentice", "LoggingOnly"])
def test_the_baseline_is_served_in_the_order_of_the_request(resource: Any, actions: Actions, mode: str) -> None:
    resource.configure(learningMode=mode)
    answer = resource.client.rank({"actions": actions("a", "b", "c"), "excludedActions": ["a"]})
    assert [one["id"] for one in answer["ranking"]] == ["a", "b", "c"]
    assert answer["rewardActionId"] == "b"
    resource.configure(learningMode="Online")
    answer = resource.client.rank({"actions": actions("a", "b")})
    assert [one["probability"] for one in answer["ranking"]] == pytest.approx([0.5, 0.5], abs=1e-6)


def test_an_apprentice_is_measured(resource: Any, actions: Actions, until: Callable[..., Any]) -> None:
    assert "latestApprenticeModeMetrics" not in resource.admin.get_service_configuration()
    resource.configure(rewardWaitTime="PT5S")
    found = resource.configure(learningMode="Apprentice")["latestApprenticeModeMetrics"]
    assert (found["numberOfEvents"], found["lastBatchMetrics"]["numberOfEvents"]) == (0, 0)
    for _ in range(20):
        answer = resource.client.rank({"actions": actions("a", "b")})
        resource.client.reward(answer["eventId"], {"value": 0.5})

    def metrics() -> Any:
        found = resource.admin.get_service_configuration()["latestApprenticeModeMetrics"]
        return found if found["numberOfEvents"] == 20 else None

    counted = until(metrics, 30.0)
    assert counted["sumOfRewards"] == pytest.approx(10.0)
    assert counted["sumOfImitatedRewards"] == pytest.approx(0.5 * counted["numberOfImitatedEvents"])
    assert 0 < counted["numberOfImitatedEvents"] < 20
    assert counted["startTime"] <= counted["lastProcessedEventTime"]
    sent = resource.admin.get_service_configuration()
    assert resource.admin.update_service_configuration(sent) == sent


def test_the_best_action_is_explained(resource: Any, actions: Actions, until: Callable[..., Any]) -> None:
    resource.configure(
        rewardWaitTime="PT5S", modelExportFrequency="PT1S", isInferenceExplainabilityEnabled=True,
        explorationPercentage=0.5,
    )  # fmt: skip
    resource.admin.update_policy({"name": "quick", "arguments": "--cb_explore_adf --epsilon 0.5 -l 0.5 -q ::"})
    for _ in range(20):
        answer = resource.client.rank({"actions": actions("good", "bad"), "contextFeatures": [{"day": "monday"}]})
        resource.client.reward(answer["eventId"], {"value": 1.0 if answer["rewardActionId"] == "good" else -1.0})

    def explained() -> Any:
        body = {"actions": actions("good", "bad"), "contextFeatures": [{"day": "monday"}]}
        found = resource.client.rank(body)["inferenceExplanation"]
        return found if found and found[0]["id"] == "good" and found[0]["features"] else None

    best = until(explained, 30.0)[0]
    assert any("j.kind=good" in one["name"] for one in best["features"]), best
    assert all(isinstance(one["score"], float) for one in best["features"])


def test_native_settings_and_this_api_are_one(resource: Any) -> None:
    resource.configure(explorationPercentage=0.6, rewardWaitTime="PT1H")
    loop = resource.api.get(f"/v1/loops/{resource.loop}").json()
    assert (loop["exploration_floor"], loop["reward"]["wait_seconds"]) == (0.6, 3600.0)
    assert (loop["reward"]["low"], loop["reward"]["high"]) == (-1.0, 1.0)
    body = {name: value for name, value in loop.items() if name not in ("loop", "version", "status", "challengers")}
    body["arguments"] = "--cb_explore_adf --squarecb"
    assert resource.api.put(f"/v1/loops/{resource.loop}", json=body).status_code == 200
    assert resource.admin.get_policy()["arguments"] == "--cb_explore_adf --squarecb --epsilon 0.6"
