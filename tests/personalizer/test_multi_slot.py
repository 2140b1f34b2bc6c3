"""Several slots by the official Python client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Actions = Callable[..., list[dict[str, Any]]]
ARGUMENTS = "--ccb_explore_adf --epsilon 0.4 --power_t 0 -l 0.001 --cb_type mtr -q ::"
SLOTS = [{"id": "top", "baselineAction": "a"}, {"id": "side", "baselineAction": "b", "features": [{"size": "small"}]}]


@pytest.fixture
def slotted(resource: Any) -> Any:
    """A resource with several slots switched on."""
    resource.admin.update_policy({"name": "slots", "arguments": ARGUMENTS})
    return resource


def test_it_is_off_at_first_on_by_a_policy_and_off_again_by_its_reset(
    resource: Any, actions: Actions, refused: Callable[..., Any]
) -> None:
    body = {"actions": actions("a", "b"), "slots": SLOTS}

    def check_off() -> None:
        refused(400, "InvalidMultiSlotApiAccess", resource.client.rank_multi_slot, body)
        refused(400, "InvalidMultiSlotApiAccess", resource.client.reward_multi_slot, "e", {"reward": []})
        refused(400, "InvalidMultiSlotApiAccess", resource.client.activate_multi_slot, "e")

    check_off()
    assert resource.admin.update_policy({"name": "s", "arguments": ARGUMENTS})["arguments"] == ARGUMENTS
    assert resource.admin.get_service_configuration()["explorationPercentage"] == 0.4
    resource.client.rank_multi_slot(body)
    resource.admin.reset_policy()
    check_off()


def test_no_action_twice_and_none_that_a_slot_excludes(slotted: Any, actions: Actions) -> None:
    slots = [{**SLOTS[0], "excludedActions": ["b"]}, {**SLOTS[1], "positionFeatures": [{"place": 2}]}]
    for number in range(20):
        answer = slotted.client.rank_multi_slot({"actions": actions("a", "b", "c"), "slots": slots})
        assert [one["id"] for one in answer["slots"]] == ["top", "side"]
        first, second = (one["rewardActionId"] for one in answer["slots"])
        assert first in {"a", "c"}, number
        assert second in {"a", "b", "c"} - {first}


def test_a_choice_leaves_every_later_slot_something(slotted: Any, actions: Actions) -> None:
    slots = [
        {"id": "1", "baselineAction": "c"},
        {"id": "2", "baselineAction": "b", "excludedActions": ["a"]},
        {"id": "3", "baselineAction": "a", "excludedActions": ["b", "c"]},
    ]
    seen = set()
    for _ in range(30):
        answer = slotted.client.rank_multi_slot({"actions": actions("a", "b", "c"), "slots": slots})
        first, second, third = (one["rewardActionId"] for one in answer["slots"])
        assert third == "a"
        assert {first, second} == {"b", "c"}
        seen.add(first)
    assert seen == {"b", "c"}


def test_each_slot_has_its_own_reward(slotted: Any, actions: Actions, until: Callable[..., Any]) -> None:
    slotted.configure(rewardWaitTime="PT5S", defaultReward=-0.5)
    body = {"actions": actions("a", "b", "c"), "slots": SLOTS, "eventId": "m", "deferActivation": True}
    assert slotted.client.rank_multi_slot(body)["eventId"] == "m"
    reward = {"reward": [{"slotId": "top", "value": 1}, {"slotId": "nowhere", "value": 1}]}
    slotted.client.reward_multi_slot("m", reward)
    slotted.client.reward_multi_slot("unknown", reward)
    slotted.client.activate_multi_slot("m")
    until(lambda: slotted.record("m")["state"] == "closed", 30.0)
    assert [one["reward"] for one in slotted.record("m")["slots"]] == [1.0, -0.5]
    assert [one["propensity"] for one in slotted.record("m")["slots"]] == pytest.approx([1 / 3, 1 / 2], abs=1e-6)


def test_the_baseline_of_each_slot_is_served_in_logging_only_mode(slotted: Any, actions: Actions) -> None:
    slotted.configure(learningMode="LoggingOnly")
    slots = [{"id": "top", "baselineAction": "c"}, {"id": "side", "baselineAction": "a"}]
    for _ in range(5):
        answer = slotted.client.rank_multi_slot({"actions": actions("a", "b", "c"), "slots": slots})
        assert [one["rewardActionId"] for one in answer["slots"]] == ["c", "a"]


@pytest.mark.parametrize(
    "slots",
    [
        None,
        [],
        [None],
        [{"id": "", "baselineAction": "a"}],
        [{"id": "top"}],
        [{"baselineAction": "a"}],
        [{"id": "top", "baselineAction": "nowhere"}],
        [{"id": "top", "baselineAction": "a"}, {"id": "top", "baselineAction": "b"}],
        [{"id": "top", "baselineAction": "a"}, {"id": "side", "baselineAction": "a"}],
        [{"id": "top", "baselineAction": "a", "excludedActions": ["a"]}],
        [{"id": "top", "baselineAction": "a", "excludedActions": ["nowhere"]}],
        [{"id": "top", "baselineAction": "a", "features": [None]}],
        [{"id": str(n), "baselineAction": "a"} for n in range(3)],
    ],
)
def test_slots_that_break_a_rule_are_refused(
    slotted: Any, actions: Actions, refused: Callable[..., Any], slots: Any
) -> None:
    body = {"actions": actions("a", "b"), "slots": slots}
    refused(400, "InvalidRankRequest", slotted.client.rank_multi_slot, body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reward": None},
        {"reward": {"slotId": "top", "value": 1}},
        {"reward": [{"slotId": "", "value": 1}]},
        {"reward": [{"value": 1}]},
        {"reward": [{"slotId": "top"}]},
        {"reward": [{"slotId": "top", "value": 1}, {"slotId": "side", "value": 2}]},
    ],
)
def test_a_bad_reward_is_refused(slotted: Any, refused: Callable[..., Any], body: Any) -> None:
    refused(400, "InvalidRewardRequest", slotted.client.reward_multi_slot, "e", body)


def test_it_excludes_automatic_optimization(resource: Any, refused: Callable[..., Any]) -> None:
    resource.configure(isAutoOptimizationEnabled=True)
    code = "ProblemTypeIncompatibleWithAutoOptimization"
    refused(403, code, resource.admin.update_policy, {"name": "s", "arguments": ARGUMENTS})
    resource.configure(isAutoOptimizationEnabled=False)
    resource.admin.update_policy({"name": "s", "arguments": ARGUMENTS})
    changed = {**resource.admin.get_service_configuration(), "isAutoOptimizationEnabled": True}
    refused(403, code, resource.admin.update_service_configuration, changed)
