"""Which policies of several slots Vowpal Wabbit draws itself, and the way there and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Actions = Callable[..., list[dict[str, Any]]]
SLOTS = [{"id": "top", "baselineAction": "a"}, {"id": "side", "baselineAction": "b"}]


def test_a_policy_of_several_slots_is_drawn_inside_where_its_explorer_has_an_epsilon(
    resource: Any, actions: Actions, until: Callable[..., Any]
) -> None:
    offers = [{"offer_id": name, "features": {"kind": name}} for name in "abc"]

    def serves(prefix: str) -> bool:
        body = {"loop": resource.loop, "candidates": offers, "slots": 2}
        return bool(resource.api.post("/v1/rank", json=body).json()["policy_id"].startswith(prefix))

    resource.admin.update_policy({"name": "slots", "arguments": "--ccb_explore_adf --epsilon 0.4 -q ::"})
    until(lambda: serves("ccb-"), 30.0)
    loop = resource.api.get(f"/v1/loops/{resource.loop}").json()
    assert (loop["arguments"], loop["exploration_floor"]) == ("--ccb_explore_adf -q ::", 0.4)
    answer = resource.client.rank_multi_slot({"actions": actions("a", "b", "c"), "slots": SLOTS, "eventId": "m"})
    assert len({slot["rewardActionId"] for slot in answer["slots"]}) == 2
    assert resource.client.rank({"actions": actions("a", "b")})["rewardActionId"] in {"a", "b"}
    # Its epsilon is the percentage, at once and without learning anew.
    resource.configure(explorationPercentage=1.0)
    assert resource.api.get(f"/v1/loops/{resource.loop}").json()["arguments"] == "--ccb_explore_adf -q ::"
    resource.admin.update_policy({"name": "greedy", "arguments": "--ccb_explore_adf --squarecb -q ::"})
    until(lambda: serves("vw-"), 30.0)
    resource.client.rank_multi_slot({"actions": actions("a", "b", "c"), "slots": SLOTS})
    resource.admin.reset_policy()
    assert serves("vw-")
