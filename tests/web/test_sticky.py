"""Sessions: a customer is shown the same decision again for a while, and it is one decision in the log."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from adapters.installation import open_installation
from adapters.settings import Settings
from simulator.calls import Caller

SECONDS = 60


@pytest.fixture
def sticky_loop(make_loop):
    """A loop on simulated time whose sessions last a minute, and that explores evenly."""

    def make(**settings):
        return make_loop(
            simulated=True, **{"sticky_seconds": SECONDS, "exploration_floor": 1.0, "reward": {"wait_seconds": 90}, **settings}
        )  # fmt: skip

    return make


@pytest.fixture
def switch(api):
    """Throw an offer's kill switch; it is off when the test is over."""
    thrown = []

    def go(offer_id):
        thrown.append(offer_id)
        put(offer_id, True)

    def put(offer_id, on):
        answer = api.put(f"/v1/offers/{offer_id}/kill-switch", json={"on": on, "reason": "a test"})
        assert answer.status_code == 200, answer.text

    yield go
    for offer_id in thrown:
        put(offer_id, False)


def is_sticky(answer):
    return answer.get("sticky", False)


def plain(answer):
    return {name: value for name, value in answer.items() if name != "sticky"}


def test_a_session_is_one_decision_that_is_answered_again(sticky_loop, at):
    loop = sticky_loop()
    first = {c: loop.rank(customer_id=c, occurred_at=at()) for c in ("ann", "bob", "cleo", "dan", "eve")}
    assert not any(map(is_sticky, first.values()))
    for second in (0, 1, 59):
        for customer, answer in first.items():
            again = loop.rank(customer_id=customer, occurred_at=at(second), context={"page": {"number": second}})
            assert is_sticky(again)
            assert plain(again) == answer
    fresh = loop.rank(customer_id="ann", occurred_at=at(60))
    assert (is_sticky(fresh), fresh["decision_id"] == first["ann"]["decision_id"]) == (False, False)
    again = loop.rank(customer_id="ann", occurred_at=at(119))
    assert (is_sticky(again), plain(again)) == (True, fresh), "the new decision begins a session of its own"
    assert not is_sticky(loop.rank(customer_id="ann", occurred_at=at(30))), "time that goes back is no session"
    loop.tick(at(300))
    assert loop.status()["decisions"] == len(first) + 2


def test_the_draws_are_those_of_first_calls_alone(sticky_loop, api, at):
    """What is shown again is not drawn again: the shares are those of the probabilities, 1 to 1."""
    loop = sticky_loop()
    requests = [
        {"loop": loop.name, "customer_id": f"c{n}", "candidates": [{"offer_id": "a"}, {"offer_id": "b"}], "occurred_at": at()}
        for n in range(100)
    ]  # fmt: skip
    rounds = [api.post("/v1/rank/batch", json={"requests": requests}).json()["decisions"] for _ in range(3)]
    assert [[is_sticky(one) for one in answers] for answers in rounds] == [[False] * 100, [True] * 100, [True] * 100]
    assert rounds[1] == rounds[2] == [{**one, "sticky": True} for one in rounds[0]]
    assert abs(Counter(one["offer_id"] for one in rounds[0])["a"] - 50) < 20


def test_callers_without_an_id_and_loops_without_sessions_decide_each_time(sticky_loop, make_loop, at):
    loop, other = sticky_loop(), make_loop(simulated=True)
    found = {loop.rank(occurred_at=at())["decision_id"] for _ in range(3)}
    found |= {other.rank(customer_id="ann", occurred_at=at())["decision_id"] for _ in range(3)}
    assert len(found) == 6


def test_wall_time_sessions_end_by_the_clock(make_loop, until):
    loop = make_loop(sticky_seconds=1.5)
    first = loop.rank(customer_id="ann")
    again = loop.rank(customer_id="ann")
    assert (is_sticky(again), again["decision_id"]) == (True, first["decision_id"])
    until(lambda: not is_sticky(loop.rank(customer_id="ann")), 10, "the session ends")


def test_a_callers_own_id_stands_for_the_sessions_decision(sticky_loop, api, problem, at):
    loop = sticky_loop()
    first = loop.rank(customer_id="ann", occurred_at=at())
    own = {"decision_id": f"own-{loop.name}", "customer_id": "ann", "occurred_at": at(10)}
    answer = loop.rank(**own)
    assert (is_sticky(answer), plain(answer)) == (True, first)
    assert loop.rank(**own) == answer, "a retry"
    loop.rank(customer_id="ann", occurred_at=at(70))
    assert loop.rank(**own) == answer, "a retry when the session is over"
    refused = api.post("/v1/rank", json={"loop": loop.name, **own, "candidates": [{"offer_id": "left"}]})
    assert own["decision_id"] in problem(refused, 409)["detail"]
    loop.reward(own["decision_id"], value=0.5, occurred_at=at(20))
    loop.activate(own["decision_id"], occurred_at=at(20))
    assert loop.record(own["decision_id"])["decision_id"] == first["decision_id"]
    loop.tick(at(200))
    record = loop.record(first["decision_id"])
    assert (record["state"], record["reward"], len(record["outcomes"])) == ("closed", 0.5, 1)
    assert loop.record(own["decision_id"]) == record
    assert loop.rank(**own) == answer, "a retry when the stream was read"
    assert loop.status()["decisions"] == 2


def test_an_own_id_that_begins_a_session_is_the_sessions(sticky_loop, at):
    loop = sticky_loop()
    mine = {"decision_id": f"mine-{loop.name}", "customer_id": "ann"}
    first = loop.rank(**mine, occurred_at=at())
    assert loop.rank(**mine, occurred_at=at()) == first, "a retry is a retry"
    again = loop.rank(customer_id="ann", occurred_at=at(1))
    assert (is_sticky(again), again["decision_id"]) == (True, mine["decision_id"])


def test_slots_are_shown_again_and_other_slots_are_decided(sticky_loop, at):
    loop = sticky_loop()
    first = loop.rank(customer_id="ann", occurred_at=at(), slots=2)
    again = loop.rank(customer_id="ann", occurred_at=at(1), slots=2)
    assert (is_sticky(again), plain(again)) == (True, first)
    assert not is_sticky(loop.rank(customer_id="ann", occurred_at=at(2), slots=1))
    assert not is_sticky(loop.rank(customer_id="ann", occurred_at=at(3)))
    sized = [{"id": "top", "features": {"size": "large"}}]
    assert not is_sticky(loop.rank(customer_id="ann", occurred_at=at(4), slots=sized))
    assert is_sticky(loop.rank(customer_id="ann", occurred_at=at(5), slots=sized))


def test_an_offer_that_is_not_eligible_any_more_ends_the_session(sticky_loop, switch, unique, at):
    loop = sticky_loop()
    names = [unique("offer") for _ in range(3)]
    candidates = [{"offer_id": name} for name in names]
    shown = loop.rank(customer_id="ann", occurred_at=at(), candidates=candidates)["offer_id"]
    fewer = [one for one in candidates if one["offer_id"] != shown]
    answer = loop.rank(customer_id="ann", occurred_at=at(1), candidates=fewer)
    assert (is_sticky(answer), answer["offer_id"] == shown) == (False, False)
    again = loop.rank(customer_id="ann", occurred_at=at(2), candidates=candidates)
    assert (is_sticky(again), again["offer_id"]) == (True, answer["offer_id"])
    switch(answer["offer_id"])
    killed = loop.rank(customer_id="ann", occurred_at=at(3), candidates=candidates)
    assert (is_sticky(killed), killed["offer_id"] == answer["offer_id"]) == (False, False)


@pytest.mark.parametrize(
    ("settings", "call"),
    [({"learning_mode": "logging_only"}, {}), ({}, {"defer_activation": True}), ({"sticky_seconds": 0}, {})],
    ids=["another mode", "deferred", "no sessions any more"],
)
def test_what_else_ends_a_session(sticky_loop, api, at, settings, call):
    loop = sticky_loop()
    loop.rank(customer_id="ann", occurred_at=at())
    kept = {"clock": "simulated", "close_on_final": True, "sticky_seconds": SECONDS, "reward": {"wait_seconds": 90}}
    assert api.put(f"/v1/loops/{loop.name}", json={**kept, **settings}).status_code == 200
    assert not is_sticky(loop.rank(customer_id="ann", occurred_at=at(1), **call))


def test_a_loops_kill_switch_ends_sessions_and_begins_others(sticky_loop, api, at):
    loop = sticky_loop(baseline={"priority": ["right"]})

    def throw(on):
        answer = api.put(f"/v1/loops/{loop.name}/kill-switch", json={"on": on, "reason": "a test"})
        assert answer.status_code == 200, answer.text

    loop.rank(customer_id="ann", occurred_at=at())
    throw(True)
    killed = loop.rank(customer_id="ann", occurred_at=at(1))
    assert (is_sticky(killed), killed["policy_id"], killed["offer_id"]) == (False, "baseline", "right")
    assert is_sticky(loop.rank(customer_id="ann", occurred_at=at(2)))
    throw(False)
    assert loop.rank(customer_id="ann", occurred_at=at(3))["policy_id"] != "baseline"


def test_a_fallback_begins_no_session(sticky_loop, switch, unique, at):
    loop, killed = sticky_loop(), unique("offer")
    switch(killed)
    nothing = loop.rank(customer_id="ann", occurred_at=at(), candidates=[{"offer_id": killed}])
    assert nothing["use"] == "fallback"
    answer = loop.rank(customer_id="ann", occurred_at=at(1))
    assert (is_sticky(answer), answer["use"]) == (False, "learn")


def test_the_held_out_have_sessions_too(sticky_loop, at):
    loop = sticky_loop(holdout={"share": 0.9, "serves": "no_offer"})
    answers = [loop.rank(customer_id=f"c{number}", occurred_at=at()) for number in range(20)]
    held = next(number for number, answer in enumerate(answers) if answer["use"] == "holdout")
    again = loop.rank(customer_id=f"c{held}", occurred_at=at(1))
    assert (is_sticky(again), plain(again)) == (True, answers[held])


def test_an_erased_customer_has_no_session(sticky_loop, api, until, unique, service, at):
    loop, who = sticky_loop(), unique("somebody")
    own = f"own-of-{who}"
    loop.rank(customer_id=who, occurred_at=at())
    assert is_sticky(loop.rank(customer_id=who, decision_id=own, occurred_at=at(1)))
    loop.tick(at(2))
    asked = api.delete(f"/v1/customers/{who}")
    assert asked.status_code in (200, 202), asked.text

    def left():
        settings = Settings(data_dir=service.data_dir, database_url=None, redis_url=None, admin_key=None)
        with open_installation(settings) as opened:
            return [key for key in opened.client.scan_iter(count=1000) if who.encode() in key]

    until(lambda: not left(), 20, "nothing in Redis names the customer")
    assert not is_sticky(loop.rank(customer_id=who, occurred_at=at(3)))


def test_no_interface_makes_the_wait_for_rewards_shorter_than_a_session(make_loop, api):
    loop = make_loop(sticky_seconds=300)
    base = f"/loops/{loop.name}/personalizer/v1.0/configurations/service"
    settings, before = api.get(base).json(), api.get(f"/v1/loops/{loop.name}").json()
    refused = api.put(base, json={**settings, "rewardWaitTime": "PT1M"})
    assert refused.status_code == 400, refused.text
    assert "sticky_seconds" in refused.text
    assert api.get(f"/v1/loops/{loop.name}").json()["version"] == before["version"]


def test_calls_of_one_moment_begin_one_session(guarded, unique):
    """Each of many customers calls six times at once, on connections of two workers."""
    admin = {"Authorization": "Bearer test-admin-key"}
    loop = unique("at-once")
    with guarded.client("test-admin-key") as client:
        settings = {"sticky_seconds": SECONDS, "exploration_floor": 1.0, "reward": {"wait_seconds": 90}}
        assert client.put(f"/v1/loops/{loop}", json=settings).status_code == 200
    body = {"loop": loop, "candidates": [{"offer_id": name} for name in "abcdef"]}
    bodies = [{**body, "customer_id": f"{loop}-{n}"} for n in range(40) for _ in range(6)]

    async def called():
        async with Caller(guarded.url, 32, admin) as caller:
            return await caller.together([caller.call("POST", "/v1/rank", one) for one in bodies])

    found = {}
    for one, answer in zip(bodies, asyncio.run(called()), strict=True):
        found.setdefault(one["customer_id"], []).append(answer)
    for answers in found.values():
        assert len({answer["decision_id"] for answer in answers}) == 1
        assert len({answer["offer_id"] for answer in answers}) == 1
        assert [is_sticky(answer) for answer in answers].count(False) == 1
    # What no session answers alike is answered all the same.
    others = [{**body, "customer_id": loop, "candidates": [{"offer_id": f"{n}"}, {"offer_id": "z"}]} for n in range(12)]
    bodies[:] = others
    assert {answer["offer_id"] for answer in asyncio.run(called())} <= {"z", *map(str, range(12))}
