"""Rank, reward and activate by the official Python client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

Actions = Callable[..., list[dict[str, Any]]]


def test_a_rank_answers_every_action_with_its_probability(resource: Any, actions: Actions) -> None:
    answer = resource.client.rank({"actions": actions("a", "b", "c"), "contextFeatures": [{"user": {"kind": "new"}}]})
    assert sorted(one["id"] for one in answer["ranking"]) == ["a", "b", "c"]
    assert [one["probability"] for one in answer["ranking"]] == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert answer["rewardActionId"] == answer["ranking"][0]["id"]
    assert answer["eventId"].replace("-", "").isalnum()
    assert "inferenceExplanation" not in answer


def test_an_excluded_action_stays_at_its_place_with_probability_0(resource: Any, actions: Actions) -> None:
    body = {"actions": actions("a", "b", "c"), "excludedActions": ["b", "unknown"], "eventId": "e1"}
    answer = resource.client.rank(body)
    assert answer["ranking"][1] == {"id": "b", "probability": 0.0}
    assert sum(one["probability"] for one in answer["ranking"]) == pytest.approx(1.0)
    assert answer["rewardActionId"] in {"a", "c"}
    record = resource.record("e1")
    assert {"offer_id": "b", "reason": "excluded"} in record["removed"]
    assert [one["offer_id"] for one in record["eligible"]] == ["a", "c"]


def test_the_same_id_and_request_get_the_same_answer_and_another_request_a_fresh_one(
    resource: Any, actions: Actions, until: Callable[..., Any]
) -> None:
    body = {"actions": actions("a", "b"), "eventId": "again"}
    first = resource.client.rank(body)
    assert resource.client.rank(body) == first
    other = resource.client.rank({"actions": actions("c", "d"), "eventId": "again"})
    assert other["eventId"] == "again"
    assert other["rewardActionId"] in {"c", "d"}
    # The second is no decision: the first one stands.
    until(lambda: resource.api.get(f"/v1/loops/{resource.loop}").json()["status"]["decisions"] == 1)
    assert {one["offer_id"] for one in resource.record("again")["eligible"]} == {"a", "b"}


def test_the_event_id_seeds_the_draw(resource: Any, actions: Actions) -> None:
    names = [resource.client.rank({"actions": actions("a", "b"), "eventId": f"s{n}"})["rewardActionId"]
             for n in range(60)]  # fmt: skip
    assert 15 <= Counter(names)["a"] <= 45


@pytest.mark.parametrize("event_id", ["a b", "50%", "ü/ö", "%2F", "x" * 256, "a/reward"])
def test_event_ids_are_taken_as_they_are(resource: Any, actions: Actions, event_id: str) -> None:
    assert resource.client.rank({"actions": actions("a"), "eventId": event_id})["eventId"] == event_id
    resource.client.reward(event_id, {"value": 1})
    resource.client.activate(event_id)


def test_rewards_reach_the_event_within_the_wait_time(
    resource: Any, actions: Actions, until: Callable[..., Any]
) -> None:
    resource.configure(rewardWaitTime="PT5S", rewardAggregation="sum", defaultReward=0.25)
    for event_id in ("rewarded", "silent"):
        resource.client.rank({"actions": actions("a", "b"), "eventId": event_id})
    resource.client.reward("rewarded", {"value": -0.75})
    resource.client.reward("rewarded", {"value": 0.5})
    until(lambda: resource.record("silent")["state"] == "closed", 30.0)
    assert resource.record("rewarded")["reward"] == pytest.approx(-0.25)
    assert resource.record("silent")["reward"] == 0.25


def test_a_deferred_event_counts_only_when_it_is_activated(
    resource: Any, actions: Actions, until: Callable[..., Any]
) -> None:
    resource.configure(rewardWaitTime="PT5S")
    for event_id in ("seen", "unseen"):
        resource.client.rank({"actions": actions("a"), "eventId": event_id, "deferActivation": True})
        resource.client.reward(event_id, {"value": 1})
    resource.client.activate("seen")
    resource.client.activate("seen")
    until(lambda: resource.record("seen")["state"] == "closed", 30.0)
    assert resource.record("unseen")["state"] == "inactive"


def test_exploration_is_the_floor_of_every_selectable_action(
    resource: Any, actions: Actions, until: Callable[..., Any]
) -> None:
    resource.configure(rewardWaitTime="PT5S", modelExportFrequency="PT1S", explorationPercentage=0.3)
    resource.admin.update_policy({"name": "quick", "arguments": "--cb_explore_adf --epsilon 0.3 -l 0.5 -q ::"})
    for _ in range(40):
        answer = resource.client.rank({"actions": actions("good", "bad", "worse")})
        value = 1.0 if answer["rewardActionId"] == "good" else 0.0
        resource.client.reward(answer["eventId"], {"value": value})

    def trained() -> bool:
        ranking = resource.client.rank({"actions": actions("good", "bad", "worse")})["ranking"]
        found = {one["id"]: one["probability"] for one in ranking}
        return found == pytest.approx({"good": 0.8, "bad": 0.1, "worse": 0.1}, abs=1e-6)

    until(trained, 30.0)


def test_unknown_events_may_be_rewarded_and_activated(resource: Any) -> None:
    resource.client.reward("nobody", {"value": 1})
    resource.client.activate("nobody")


def test_features_of_every_kind_are_taken(resource: Any) -> None:
    context = [
        {"weather": "sunny", "count": 3, "is_new": True, "share": 0.25, "nothing": None, "_hidden": {"a": 1}},
        {"user": {"kind": "new", "deep": {"deeper": {"deepest": 1}}}, "embedding": [0.1, 2, -3]},
        {"tag": "a"}, {"tag": "b"}, {"user": {"age": 30}}, {"user": {"email": "somebody@shop.example"}},
    ]  # fmt: skip
    resource.client.rank(
        {
            "eventId": "f",
            "contextFeatures": context,
            "actions": [{"id": "a", "features": [{"n": {"x": 1}}, {"y": None}]}],
        }
    )
    found = resource.record("f")
    assert found["context"]["FromUrl"] == {
        "weather": "sunny", "count": 3.0, "is_new": True, "share": 0.25, "nothing": "null",
        "embedding.0": 0.1, "embedding.1": 2.0, "embedding.2": -3.0, "tag=a": 1.0, "tag=b": 1.0,
    }  # fmt: skip
    assert found["context"]["user"] == {"kind": "new", "deep.deeper.deepest": 1.0, "age": 30.0}
    assert found["eligible"][0]["features"] == {"n.x": 1.0, "y": "null"}


@pytest.mark.parametrize(
    "changes",
    [
        {"actions": None},
        {"actions": []},
        {"actions": [None]},
        {"actions": [{"id": f"a{n}", "features": [{"x": 1}]} for n in range(51)]},
        {"actions": [{"id": "", "features": [{"x": 1}]}]},
        {"actions": [{"id": "x" * 257, "features": [{"x": 1}]}]},
        {"actions": [{"id": 7, "features": [{"x": 1}]}]},
        {"actions": [{"features": [{"x": 1}]}]},
        {"actions": [{"id": "a"}]},
        {"actions": [{"id": "a", "features": []}]},
        {"actions": [{"id": "a", "features": [{}]}]},
        {"actions": [{"id": "a", "features": [None]}]},
        {"actions": [{"id": "a", "features": [{"": 1}]}]},
        {"actions": [{"id": "a", "features": [{"x": [1, "b"]}]}]},
        {"actions": [{"id": "a", "features": [{"x": 1}]}, {"id": "a", "features": [{"x": 2}]}]},
        {"contextFeatures": [None]},
        {"contextFeatures": [1]},
        {"contextFeatures": [{"x": [None]}]},
        {"contextFeatures": {"x": 1}},
        {"excludedActions": ["a", "b"]},
        {"excludedActions": "a"},
        {"eventId": ""},
        {"eventId": "x" * 257},
        {"eventId": 5},
        {"deferActivation": "yes"},
    ],
)
def test_a_rank_that_breaks_a_rule_is_refused(
    resource: Any, actions: Actions, refused: Callable[..., Any], changes: dict[str, Any]
) -> None:
    refused(400, "InvalidRankRequest", resource.client.rank, {"actions": actions("a", "b"), **changes})


def test_null_is_absent_and_unknown_fields_are_ignored(resource: Any, actions: Actions) -> None:
    resource.client.rank(
        {"actions": actions("a"), "contextFeatures": None, "excludedActions": None, "eventId": None,
         "deferActivation": None, "somethingNew": {"x": 1}}
    )  # fmt: skip


@pytest.mark.parametrize("body", [{}, {"value": None}, {"value": "1"}, {"value": True}, {"value": 1.01}, {"value": -2}])
def test_a_bad_reward_is_refused(resource: Any, refused: Callable[..., Any], body: dict[str, Any]) -> None:
    refused(400, "InvalidRewardRequest", resource.client.reward, "e", body)


def test_ids_that_are_too_long_are_refused(resource: Any, refused: Callable[..., Any]) -> None:
    refused(400, "InvalidRewardRequest", resource.client.reward, "x" * 257, {"value": 1})
    refused(400, "InvalidEventIdToActivate", resource.client.activate, "x" * 257)


def test_a_loop_with_a_log_of_its_own_keeps_its_settings(
    make_resource: Callable[..., Any], actions: Actions, until: Callable[..., Any], refused: Callable[..., Any]
) -> None:
    resource = make_resource(exploration_floor=0.5)
    answer = resource.api.post("/v1/rank", json={"loop": resource.loop, "candidates": [{"offer_id": "x"}]})
    assert answer.status_code == 200
    until(lambda: resource.api.get(f"/v1/loops/{resource.loop}").json()["status"]["decisions"] == 1)
    assert resource.admin.get_service_configuration()["explorationPercentage"] == 0.5
    assert resource.api.get(f"/v1/loops/{resource.loop}").json()["reward"]["low"] == 0.0
    resource.client.reward("e", {"value": 1})
    refused(400, "InvalidRewardRequest", resource.client.reward, "e", {"value": -1})
