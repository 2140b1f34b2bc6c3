"""Several policies on one loop: a canary's customers and probabilities, promotion, and the way back."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from adapters.catalogue import LoopStore
from adapters.installation import open_installation
from adapters.interaction_log import read_interactions
from adapters.settings import Settings
from adapters.snapshots import find_snapshot
from contextual_bandit.canary import canary_of
from contextual_bandit.loops import Challenger
from contextual_bandit.vowpal import VowpalPolicy, policy_id
from evaluation.loop_audit import audit_loop

CHAMPION = "--cb_explore_adf --epsilon 0.1 -l 0.01 --power_t 0"
BOLD = "--cb_explore_adf --epsilon 0.4 -l 0.02 --power_t 0"
CUSTOMERS = 600
SHARE = 0.25
WHY = {"reason": "a test"}
OFFERS = [{"offer_id": name, "features": {"kind": name}} for name in ("a", "b")]


def path(loop):
    return f"/v1/loops/{loop.name}/policies"


def policies(loop):
    answer = loop.api.get(path(loop))
    assert answer.status_code == 200, answer.text
    return answer.json()


def set_share(loop, share, name="bold"):
    answer = loop.api.put(f"{path(loop)}/{name}/share", json={"share": share, **WHY})
    assert answer.status_code == 200, answer.text
    assert "offerloop-workers-behind" not in answer.headers
    return answer.json()


@pytest.fixture(scope="module")
def challenged(lasting_loop, until, at):
    """A loop with a challenger named bold that has a model."""

    def make(**settings):
        plain = {"arguments": CHAMPION, "export_frequency_seconds": 0.001, "reward": {"wait_seconds": 30}}
        loop = lasting_loop(simulated=True, **plain, **settings)
        answer = loop.api.put(f"{path(loop)}/bold", json={"arguments": BOLD})
        assert answer.status_code == 200, answer.text
        decision = loop.rank(occurred_at=at(-60), candidates=OFFERS)
        loop.reward(decision["decision_id"], value=1.0, final=True, occurred_at=at(-60))
        loop.tick(at(-20))
        until(lambda: policies(loop)["challengers"][0]["snapshot_id"], 30, "the challenger's first model")
        return loop

    return make


@pytest.fixture(scope="module")
def canary(challenged):
    return challenged(holdout={"share": 0.1})


def everybody(loop, at, second=0, **more):
    """One decision for each customer: what was answered, by customer."""
    answers = {}
    for start in range(0, CUSTOMERS, 100):
        requests = [
            {
                "loop": loop.name, "customer_id": f"c{number}", "candidates": OFFERS,
                "occurred_at": at(second), **more,
            }
            for number in range(start, start + 100)
        ]  # fmt: skip
        answer = loop.api.post("/v1/rank/batch", json={"requests": requests})
        assert answer.status_code == 200, answer.text
        for request, decision in zip(requests, answer.json()["decisions"], strict=True):
            answers[request["customer_id"]] = decision
    return answers


def bolds(answers):
    """The customers whom the challenger decided for."""
    return {customer for customer, one in answers.items() if one["snapshot_id"].partition("@")[1]}


def test_a_challenger_in_the_shadow_decides_for_nobody(canary, at):
    found = policies(canary)
    assert found["champion"]["arguments"] == CHAMPION
    assert (found["champion"]["share"], found["champion"]["policy_id"]) == (1.0, policy_id(CHAMPION))
    (bold,) = found["challengers"]
    assert (bold["name"], bold["arguments"], bold["share"]) == ("bold", BOLD, 0.0)
    assert bold["snapshot_id"].startswith(f"{canary.name}@bold-g")
    assert bolds(everybody(canary, at)) == set()
    stored = canary.api.get(f"/v1/loops/{canary.name}").json()
    assert stored["challengers"] == [{"name": "bold", "arguments": BOLD, "share": 0.0}]


def test_a_canary_has_its_share_of_the_customers_and_the_audit_finds_its_probabilities(canary, at, service):
    found = set_share(canary, SHARE)
    assert (found["champion"]["share"], found["challengers"][0]["share"]) == (1 - SHARE, SHARE)
    answers = everybody(canary, at, 10)
    held = {customer for customer, one in answers.items() if one["use"] == "holdout"}
    wanted = (Challenger("bold", BOLD, SHARE),)
    theirs = {customer for customer in answers if canary_of(canary.name, customer, wanted)} - held
    assert bolds(answers) == theirs
    n = CUSTOMERS - len(held)
    assert abs(len(theirs) - n * SHARE) < 4 * math.sqrt(n * SHARE * (1 - SHARE))
    assert {answers[customer]["policy_id"] for customer in theirs} == {policy_id(BOLD)}
    assert {answers[customer]["policy_id"] for customer in answers.keys() - theirs} == {policy_id(CHAMPION)}
    assert {answers[customer]["use"] for customer in theirs} == {"learn"}
    canary.tick(at(100))
    decisions, result = audited(service, canary)
    assert result.passed, result.examples
    of_bold = [one for one in decisions if one.policy_id == policy_id(BOLD)]
    assert len(of_bold) == len(theirs)
    # The two policies explore differently, so that the audit would notice the wrong one.
    assert {round(min(one.slots[0].distribution.policy), 6) for one in of_bold} == {0.2}
    own = [one for one in decisions if one.policy_id == policy_id(CHAMPION) and one.use == "learn"]
    assert {round(min(one.slots[0].distribution.policy), 6) for one in own[1:]} == {0.05}


def audited(service, loop):
    settings = Settings(data_dir=service.data_dir, database_url=None, redis_url=None, admin_key=None)
    loaded = {}
    with open_installation(settings) as opened:
        config = LoopStore(opened.engine, opened.client).get(loop.name)

        def distribution_for(decision):
            name = decision.snapshot_id
            if name not in loaded:
                snapshot = find_snapshot(opened.engine, name)
                loaded[name] = VowpalPolicy(snapshot.setting, snapshot.model)
            return loaded[name].distribution(decision.context, decision.actions)

        decisions = [one.decision for one in read_interactions(opened.engine, loop.name)]
        found = audit_loop(decisions, config, distribution_for)
        for policy in loaded.values():
            policy.close()
        return decisions, found


def test_a_growing_canary_keeps_its_customers_and_new_settings_keep_the_canary(canary, at):
    set_share(canary, 0.1)
    few = bolds(everybody(canary, at, 200))
    set_share(canary, 0.4)
    more = bolds(everybody(canary, at, 201))
    assert few < more
    settings = {"arguments": CHAMPION, "clock": "simulated", "close_on_final": True, "reward": {"wait_seconds": 30}}
    assert canary.api.put(f"/v1/loops/{canary.name}", json=settings).status_code == 200
    assert bolds(everybody(canary, at, 202)) >= more, "without the holdout perhaps some more"


def test_callers_without_an_id_and_other_modes_get_the_champion(canary, at):
    set_share(canary, 1.0)
    assert canary.rank(occurred_at=at(300), customer_id="c1")["policy_id"] == policy_id(BOLD)
    assert canary.rank(occurred_at=at(300))["policy_id"] == policy_id(CHAMPION)
    slots = canary.rank(occurred_at=at(300), customer_id="c1", slots=2)
    assert (slots["policy_id"], len(slots["slots"])) == (policy_id(BOLD), 2)
    settings = {"arguments": CHAMPION, "clock": "simulated", "learning_mode": "logging_only"}
    assert canary.api.put(f"/v1/loops/{canary.name}", json=settings).status_code == 200
    answer = canary.rank(occurred_at=at(301), customer_id="c1")
    assert (answer["policy_id"], answer["use"]) == (policy_id(CHAMPION), "baseline")


def test_a_challenger_without_a_model_leaves_its_customers_to_the_champion(make_loop, at):
    loop = make_loop(simulated=True, arguments=CHAMPION)
    answer = loop.api.put(f"{path(loop)}/bold", json={"arguments": BOLD, "share": 1.0})
    assert answer.status_code == 200, answer.text
    answers = {loop.rank(occurred_at=at(), customer_id=f"c{number}")["policy_id"] for number in range(5)}
    assert answers <= {policy_id(CHAMPION), policy_id(BOLD)}
    assert loop.api.delete(f"{path(loop)}/bold").status_code == 204
    assert policies(loop)["challengers"] == []
    assert loop.rank(occurred_at=at(), customer_id="c1")["policy_id"] == policy_id(CHAMPION)


def test_shares_sum_to_at_most_1_and_ten_challengers_are_enough(make_loop, api, problem):
    loop = make_loop()
    for number in range(10):
        assert api.put(f"{path(loop)}/p{number}", json={"arguments": BOLD, "share": 0.1}).status_code == 200
    assert policies(loop)["champion"]["share"] == pytest.approx(0.0)
    refused = problem(api.put(f"{path(loop)}/p3/share", json={"share": 0.2, **WHY}), 400)
    assert [error["field"] for error in refused["errors"]] == ["share"]
    assert "1.1" in refused["detail"]
    problem(api.put(f"{path(loop)}/p3", json={"arguments": BOLD, "share": 0.11}), 400)
    refused = problem(api.put(f"{path(loop)}/p10", json={"arguments": BOLD}), 400)
    assert refused["errors"][0]["value"] == "p10"
    assert Counter(one["share"] for one in policies(loop)["challengers"]) == {0.1: 10}


def test_a_challenger_is_promoted_and_the_promotion_taken_back(challenged, at, until):
    loop = challenged()
    set_share(loop, 0.5)
    for number in range(20):
        decision = loop.rank(decision_id=f"{loop.name}-{number}", customer_id=f"c{number}", occurred_at=at(number))
        loop.reward(
            decision["decision_id"], value=float(decision["offer_id"] == "left"), final=True, occurred_at=at(number)
        )
    loop.tick(at(30))

    def standing():
        return {one["name"]: one for one in policies(loop)["challengers"]}

    until(lambda: (standing()["bold"]["state"] or {}).get("n") == 21, 30, "the challenger is caught up")
    answer = loop.api.post(f"{path(loop)}/bold/promote", json={"reason": "it is bold"})
    assert answer.status_code == 200, answer.text
    operation = answer.json()
    assert (operation["kind"], operation["state"], operation["detail"]["reason"]) == ("promote", "done", "it is bold")
    found = policies(loop)
    assert (found["champion"]["arguments"], found["champion"]["share"]) == (BOLD, 1.0)
    assert {name: one["arguments"] for name, one in standing().items()} == {"previous": CHAMPION}
    answer = loop.rank(occurred_at=at(40), customer_id="c1")
    assert (answer["policy_id"], answer["snapshot_id"]) == (policy_id(BOLD), operation["detail"]["snapshot_id"])
    until(lambda: standing()["previous"]["state"], 30, "the former champion is followed")
    answer = loop.api.post(f"{path(loop)}/rollback", json={"reason": "too bold"})
    assert answer.status_code == 200, answer.text
    assert policies(loop)["champion"]["arguments"] == CHAMPION
    assert {name: one["arguments"] for name, one in standing().items()} == {"previous": BOLD}
    assert loop.rank(occurred_at=at(41), customer_id="c1")["policy_id"] == policy_id(CHAMPION)
    kinds = [
        (one["kind"], one["state"]) for one in loop.api.get(f"/v1/loops/{loop.name}/operations").json()["operations"]
    ]
    assert kinds == [("promote", "done"), ("promote", "done")]


def test_there_may_be_nothing_to_promote_or_to_go_back_to(make_loop, problem, api):
    loop = make_loop()
    refused = problem(api.post(f"{path(loop)}/rollback", json=WHY), 409)
    assert "previous" in refused["detail"]
    for answer in (
        api.post(f"{path(loop)}/nobody/promote", json=WHY),
        api.put(f"{path(loop)}/nobody/share", json={"share": 0.1, **WHY}),
        api.delete(f"{path(loop)}/nobody"),
    ):
        assert "nobody" in problem(answer, 404)["detail"]
