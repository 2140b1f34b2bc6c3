"""POST /v1/reward and what becomes of it: joined, aggregated, closed, late, doubled, refused."""

from __future__ import annotations

import json

import pytest

TWO = [{"offer_id": "left"}, {"offer_id": "right"}]


def states(record):
    return {outcome["outcome_id"]: outcome["state"] for outcome in record["outcomes"]}


def windowed(make_loop, **reward):
    """A simulated loop whose decisions close 60 s after they were made, not by `final`."""
    return make_loop(
        clock="simulated",
        grace_seconds=0,
        export_frequency_seconds=1,
        reward={"wait_seconds": 60, "aggregation": "earliest", **reward},
    )


def test_an_outcome_is_accepted_and_kept(make_loop, at):
    loop = make_loop(simulated=True)
    loop.rank(decision_id="d", occurred_at=at())
    answer = loop.reward("d", value=0.5, occurred_at=at(1))
    assert answer["outcome_id"]
    assert answer["position"]
    loop.tick(at(2))
    record = loop.record("d")
    (outcome,) = record["outcomes"]
    assert outcome["outcome_id"] == answer["outcome_id"]
    assert (outcome["value"], outcome["state"], outcome["final"]) == (0.5, "joined", False)
    assert record["state"] == "open"
    assert record["reward"] is None


def test_kinds_are_worth_what_the_loop_says(make_loop, at):
    reward = {"kinds": {"click": 0.25, "purchase": 0.01}, "aggregation": "sum", "wait_seconds": 60}
    loop = make_loop(simulated=True, reward=reward)
    for name, outcome, worth in (
        ("click", {"kind": "click"}, 0.25),
        ("purchase", {"kind": "purchase", "amount": 40.0}, 0.4),
        ("value", {"value": 0.75}, 0.75),
    ):
        loop.rank(decision_id=name, occurred_at=at())
        loop.reward(name, final=True, occurred_at=at(1), **outcome)
        loop.tick(at(2))
        record = loop.record(name)
        assert record["reward"] == pytest.approx(worth)
        assert record["outcomes"][0]["value"] == pytest.approx(worth)
        assert record["outcomes"][0]["kind"] == outcome.get("kind", record["outcomes"][0]["kind"])


BAD_OUTCOMES = {
    "above": ({"value": 1.5}, "value", "1.5"),
    "below": ({"value": -0.25}, "value", "-0.25"),
    "unknown kind": ({"kind": "yodel"}, "kind", "yodel"),
    "neither": ({}, "value", ""),
    "both": ({"value": 0.5, "kind": "click"}, "kind", ""),
    "amount of value": ({"value": 0.5, "amount": 2.0}, "amount", ""),
    "kind above": ({"kind": "click", "amount": 500.0}, "amount", "500"),
    "text": ({"value": "much"}, "value", "much"),
    "empty id": ({"value": 1.0, "outcome_id": ""}, "outcome_id", ""),
    "unknown field": ({"value": 1.0, "bonus": 3}, "bonus", "3"),
    "naive time": ({"value": 1.0, "occurred_at": "2020-01-06T12:00:00"}, "occurred_at", "2020-01-06T12:00:00"),
}


@pytest.mark.parametrize("bad", BAD_OUTCOMES)
def test_bad_outcomes_are_refused_and_leave_nothing(make_loop, at, problem, bad):
    body, field, value = BAD_OUTCOMES[bad]
    loop = make_loop(simulated=True)
    loop.rank(decision_id="d", occurred_at=at())
    answer = loop.api.post("/v1/reward", json={"loop": loop.name, "decision_id": "d", "occurred_at": at(1), **body})
    refused = problem(answer, 400)
    assert field in json.dumps(refused), refused
    assert value in json.dumps(refused), refused
    loop.tick(at(2))
    assert loop.record("d")["outcomes"] == []


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_rewards_are_finite(make_loop, at, problem, value):
    loop = make_loop(simulated=True)
    loop.rank(decision_id="d", occurred_at=at())
    text = f'{{"loop": "{loop.name}", "decision_id": "d", "value": {value}, "occurred_at": "{at(1)}"}}'
    problem(loop.api.post("/v1/reward", content=text, headers={"content-type": "application/json"}), 400)


def test_unknown_loops_are_404(api, problem):
    answer = api.post("/v1/reward", json={"loop": "no-such-loop", "decision_id": "d", "value": 1.0})
    assert "no-such-loop" in problem(answer, 404)["detail"]


@pytest.mark.parametrize("by_header", [False, True])
def test_doubled_outcomes_count_once(make_loop, at, by_header):
    loop = make_loop(simulated=True, reward={"aggregation": "sum", "wait_seconds": 60})
    loop.rank(decision_id="d", occurred_at=at())
    words = {"headers": {"Idempotency-Key": "once"}} if by_header else {"outcome_id": "once"}
    for number in range(3):
        assert loop.reward("d", value=0.25, occurred_at=at(1), **words)["outcome_id"]
        if number == 1:
            loop.tick(at(2))
    loop.reward("d", value=0.0, final=True, occurred_at=at(3), outcome_id="end")
    loop.tick(at(4))
    record = loop.record("d")
    assert record["reward"] == pytest.approx(0.25)
    assert len(record["outcomes"]) == 2


def test_distinct_outcomes_without_ids_all_count(make_loop, at):
    loop = make_loop(simulated=True, reward={"aggregation": "sum", "wait_seconds": 60})
    loop.rank(decision_id="d", occurred_at=at())
    ids = {loop.reward("d", value=0.25, occurred_at=at(1))["outcome_id"] for _ in range(3)}
    assert len(ids) == 3
    loop.reward("d", value=0.0, final=True, occurred_at=at(2))
    loop.tick(at(3))
    assert loop.record("d")["reward"] == pytest.approx(0.75)


@pytest.mark.parametrize("final", [False, True])
def test_a_reward_before_its_decision_joins(make_loop, at, final):
    loop = make_loop(simulated=True, reward={"wait_seconds": 60}, grace_seconds=0)
    loop.reward("d", value=1.0, final=final, occurred_at=at(1))
    loop.tick(at(1))
    loop.rank(decision_id="d", occurred_at=at())
    loop.tick(at(2))
    if not final:
        assert loop.record("d")["state"] == "open"
        loop.tick(at(100))
    record = loop.record("d")
    assert (record["state"], record["reward"]) == ("closed", 1.0)
    assert [outcome["state"] for outcome in record["outcomes"]] == ["joined"]


def test_outcomes_of_unknown_decisions_stop_nothing(make_loop, at):
    loop = windowed(make_loop)
    loop.reward("never", value=1.0, occurred_at=at())
    loop.rank(decision_id="d", occurred_at=at(1))
    loop.tick(at(hours=1))
    assert loop.record("d")["state"] == "closed"
    loop.record("never", expect=404)
    assert loop.status()["interactions"] == 1


def test_the_window_closes_hits_and_misses_at_the_same_age(make_loop, at):
    loop = windowed(make_loop, default=0.25)
    for name in ("hit", "miss"):
        loop.rank(decision_id=name, occurred_at=at())
    loop.reward("hit", value=1.0, final=True, occurred_at=at(5))  # `final` closes nothing early here
    loop.tick(at(59))
    assert {loop.record(name)["state"] for name in ("hit", "miss")} == {"open"}
    assert loop.status()["open"] == 2
    loop.tick(at(61))
    hit, miss = loop.record("hit"), loop.record("miss")
    assert (hit["state"], hit["reward"]) == ("closed", 1.0)
    assert (miss["state"], miss["reward"]) == ("closed", 0.25)
    assert (loop.status()["open"], loop.status()["interactions"]) == (0, 2)


def test_late_outcomes_are_kept_and_not_learned(make_loop, at):
    loop = windowed(make_loop)
    loop.rank(decision_id="d", occurred_at=at())
    loop.reward("d", value=0.5, outcome_id="early", occurred_at=at(59))
    loop.tick(at(100))
    loop.reward("d", value=1.0, outcome_id="late", occurred_at=at(101))
    loop.tick(at(200))
    record = loop.record("d")
    assert record["reward"] == 0.5
    assert states(record) == {"early": "joined", "late": "late"}
    assert (loop.status()["interactions"], loop.status()["duplicated"]) == (1, 0)


def test_an_outcome_in_the_grace_is_late(make_loop, at):
    """The grace waits for messages on their way; what was received after the wait time does not count."""
    loop = make_loop(clock="simulated", grace_seconds=30, reward={"wait_seconds": 60, "default": 0.25})
    loop.rank(decision_id="d", occurred_at=at())
    loop.reward("d", value=1.0, outcome_id="o", occurred_at=at(75))
    loop.tick(at(80))
    assert loop.record("d")["state"] == "open"
    loop.tick(at(91))
    record = loop.record("d")
    assert (record["state"], record["reward"]) == ("closed", 0.25)
    assert states(record) == {"o": "late"}


AGGREGATED = {"sum": 0.9, "earliest": 0.5, "average": 0.3, "median": 0.3, "min": 0.1, "max": 0.5}


@pytest.mark.parametrize("aggregation", AGGREGATED)
def test_aggregation(make_loop, at, aggregation):
    loop = windowed(make_loop, aggregation=aggregation)
    loop.rank(decision_id="d", occurred_at=at())
    for second, value in enumerate((0.5, 0.1, 0.3)):
        loop.reward("d", value=value, occurred_at=at(second + 1))
    loop.tick(at(100))
    assert loop.record("d")["reward"] == pytest.approx(AGGREGATED[aggregation])


def test_sums_stay_in_the_range(make_loop, at):
    loop = windowed(make_loop, aggregation="sum")
    loop.rank(decision_id="d", occurred_at=at())
    for _ in range(3):
        loop.reward("d", value=0.75, occurred_at=at(1))
    loop.tick(at(100))
    assert loop.record("d")["reward"] == 1.0


def test_refunds_correct_purchases(make_loop, at):
    loop = windowed(make_loop, aggregation="sum", low=-1.0, kinds={"purchase": 0.01, "refund": -0.01})
    loop.rank(decision_id="d", occurred_at=at())
    loop.reward("d", kind="purchase", amount=60.0, occurred_at=at(1))
    loop.reward("d", kind="refund", amount=20.0, occurred_at=at(2))
    loop.tick(at(100))
    assert loop.record("d")["reward"] == pytest.approx(0.4)


MONEY = {
    "sale": {"worth": 0.01, "measure": "revenue"},
    "profit": {"worth": 0.05, "measure": "margin"},
    "refund": {"worth": -0.01, "measure": "revenue", "correction": True},
    "complaint": {"worth": -2.0, "correction": True},
    "tap": 0.25,
}


def test_weights_revenue_and_corrections(make_loop, at):
    """A correction is added after the aggregation, and money may exceed the range that the reward keeps to."""
    loop = windowed(make_loop, aggregation="earliest", low=-1.0, kinds=MONEY)
    sent = {
        "sale": ([("sale", 60.0), ("tap", 1.0)], 0.6),
        "refunded": ([("sale", 60.0), ("refund", 45.0)], 0.15),
        "refunded first": ([("refund", 45.0), ("sale", 60.0)], 0.15),
        "large": ([("sale", 48_000.0), ("refund", 47_990.0)], 0.1),
        "clipped": ([("sale", 48_000.0)], 1.0),
        "corrected default": ([("refund", 20.0)], -0.2),
        "weighed": ([("tap", 2.0)], 0.5),
        "complained": ([("tap", 2.0), ("complaint", None)], -1.0),
    }
    for name, (outcomes, _) in sent.items():
        loop.rank(decision_id=name, occurred_at=at())
        for second, (kind, amount) in enumerate(outcomes):
            loop.reward(name, kind=kind, amount=amount, occurred_at=at(second + 1))
    loop.tick(at(100))
    found = {name: loop.record(name)["reward"] for name in sent}
    assert found == pytest.approx({name: expected for name, (_, expected) in sent.items()})


def test_a_margin_is_that_of_the_offer_when_it_was_shown(make_loop, at, unique, api):
    """Discount and contact cost come off it; a later version of the offer changes nothing."""
    loop = windowed(make_loop, aggregation="sum", low=-10.0, high=10.0, kinds=MONEY)
    offer_id = unique("spring")
    offer = {"category": "garden", "margin": 0.5, "discount": 0.1, "cost": 4.0}
    api.put(f"/v1/offers/{offer_id}", json=offer).raise_for_status()
    loop.rank(decision_id="d", candidates=[offer_id], occurred_at=at())
    api.put(f"/v1/offers/{offer_id}", json={**offer, "margin": -1.0, "cost": 90.0}).raise_for_status()
    loop.reward("d", kind="profit", amount=80.0, occurred_at=at(1))
    loop.reward("d", kind="profit", amount=20.0, occurred_at=at(2))
    loop.tick(at(100))
    assert loop.record("d")["reward"] == pytest.approx(0.05 * (100.0 * (0.5 - 0.1) - 4.0))
    api.delete(f"/v1/offers/{offer_id}").raise_for_status()


@pytest.mark.parametrize(
    ("kind", "amount", "words"),
    [("sale", None, "measured in money"), ("profit", None, "measured in money"), ("sale", 1.1e9, "1e+09"),
     ("profit", -1.1e9, "1e+09"), ("refund", 1e12, "1e+09"), ("tap", 5.0, "[-1, 1]")],
)  # fmt: skip
def test_bad_amounts_are_refused_by_name(make_loop, at, problem, kind, amount, words):
    loop = windowed(make_loop, low=-1.0, kinds=MONEY)
    loop.rank(decision_id="d", occurred_at=at())
    body = {"loop": loop.name, "decision_id": "d", "kind": kind, "amount": amount, "occurred_at": at(1)}
    refused = problem(loop.api.post("/v1/reward", json=body), 400)
    assert [error["field"] for error in refused["errors"]] == ["amount"]
    assert words in refused["detail"]
    loop.tick(at(100))
    assert loop.record("d")["outcomes"] == []


def test_a_late_refund_corrects_the_record_once(make_loop, at, service):
    """The reward that people see is corrected; what was learned stays, and can be learned again to the byte."""
    loop = windowed(make_loop, kinds=MONEY, late_outcomes="rebuild")
    loop.rank(decision_id="d", occurred_at=at())
    loop.reward("d", kind="sale", amount=60.0, occurred_at=at(1))
    loop.tick(at(100))
    assert loop.record("d")["reward"] == pytest.approx(0.6)
    for second in (101, 102):
        loop.reward("d", kind="refund", amount=45.0, outcome_id="back", occurred_at=at(second))
        loop.tick(at(second + 0.5))
        assert loop.record("d")["reward"] == pytest.approx(0.15)
    assert states(loop.record("d"))["back"] == "late"
    assert (loop.status()["interactions"], loop.status()["duplicated"], loop.status()["decisions"]) == (1, 0, 1)
    replayed = service.command("replay", "--loop", loop.name, "--verify")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_a_model_that_looks_back_is_renewed_and_replayed(make_loop, at, service):
    loop = windowed(make_loop)
    api, settings = loop.api, {"clock": "simulated", "grace_seconds": 0, "export_frequency_seconds": 1}
    settings |= {"reward": {"wait_seconds": 60}, "lookback_days": 4}
    api.put(f"/v1/loops/{loop.name}", json=settings).raise_for_status()
    for day in (0, 2):
        for number in range(10):
            answer = loop.rank(occurred_at=at(number, days=day))
            loop.reward(answer["decision_id"], value=1.0, occurred_at=at(number + 1, days=day))
        loop.tick(at(1000, days=day))
    assert loop.status()["snapshot_id"] == f"{loop.name}-g2-20"
    replayed = service.command("replay", "--loop", loop.name, "--verify")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_final_closes_at_once(make_loop, at):
    loop = make_loop(simulated=True)
    for name in ("one", "two"):
        loop.rank(decision_id=name, occurred_at=at())
    loop.reward("one", value=1.0, final=True, occurred_at=at(1))
    loop.reward("two", value=1.0, occurred_at=at(1))
    loop.tick(at(2))
    assert loop.record("one")["state"] == "closed"
    assert loop.record("two")["state"] == "open"
    status = loop.status()
    assert (status["decisions"], status["open"], status["interactions"]) == (2, 1, 1)
    loop.reward("one", value=0.0, final=True, occurred_at=at(3), outcome_id="again")
    loop.tick(at(4))
    assert loop.record("one")["reward"] == 1.0
    assert states(loop.record("one"))["again"] == "late"
    assert loop.status()["interactions"] == 1


def test_never_activated_is_never_learned(make_loop, at):
    loop = windowed(make_loop)
    loop.rank(decision_id="d", defer_activation=True, occurred_at=at())
    loop.reward("d", value=1.0, occurred_at=at(1))
    loop.tick(at(hours=2))
    status = loop.status()
    assert (status["decisions"], status["open"], status["interactions"]) == (1, 0, 0)
    assert loop.record("d")["state"] == "inactive"


def test_activation_before_and_after_the_reward(make_loop, at):
    loop = windowed(make_loop)
    for name in ("first", "last"):
        loop.rank(decision_id=name, defer_activation=True, occurred_at=at())
    loop.activate("first", occurred_at=at(1))
    for name in ("first", "last"):
        loop.reward(name, value=1.0, occurred_at=at(2))
    loop.activate("last", occurred_at=at(3))
    loop.tick(at(100))
    assert [loop.record(name)["reward"] for name in ("first", "last")] == [1.0, 1.0]
    assert loop.status()["interactions"] == 2


def test_activation_before_its_decision(make_loop, at):
    loop = windowed(make_loop)
    loop.activate("d", occurred_at=at())
    loop.rank(decision_id="d", defer_activation=True, occurred_at=at(1))
    loop.tick(at(100))
    assert loop.record("d")["state"] == "closed"


def test_the_wall_clock_closes_by_itself(make_loop, until):
    loop = make_loop(grace_seconds=0.2, reward={"wait_seconds": 1, "default": 0.25})
    loop.rank(decision_id="hit")
    loop.rank(decision_id="miss")
    loop.reward("hit", value=1.0)
    until(lambda: loop.record("miss")["state"] == "closed", 8, "the window closes")
    assert loop.record("miss")["reward"] == 0.25
    assert loop.record("hit")["reward"] == 1.0
    loop.reward("hit", value=0.5, outcome_id="late")
    until(lambda: "late" in states(loop.record("hit")), 8, "the late outcome is kept")
    record = loop.record("hit")
    assert (record["reward"], states(record)["late"]) == (1.0, "late")


def test_wall_loops_refuse_other_times(make_loop, wall, problem):
    loop = make_loop()
    loop.rank(decision_id="d")
    for shift in ({"minutes": -6}, {"minutes": 6}):
        for path, more in (("/v1/reward", {"value": 1.0}), ("/v1/activate", {})):
            body = {"loop": loop.name, "decision_id": "d", "occurred_at": wall(**shift), **more}
            assert "occurred_at" in problem(loop.api.post(path, json=body), 400)["detail"]


def test_low_and_high_bound_the_values(make_loop, at, problem):
    loop = make_loop(simulated=True, reward={"low": -5.0, "high": 20.0, "default": -5.0, "wait_seconds": 60})
    loop.rank(decision_id="d", occurred_at=at())
    refused = loop.api.post(
        "/v1/reward", json={"loop": loop.name, "decision_id": "d", "value": 20.5, "occurred_at": at(1)}
    )
    assert "20.5" in problem(refused, 400)["detail"]
    loop.reward("d", value=-4.5, final=True, occurred_at=at(1))
    loop.tick(at(2))
    assert loop.record("d")["reward"] == -4.5


def test_learning_uses_the_rewards(make_loop, at, until):
    """With rewards in [-10, 0] the better offer is still found."""
    loop = make_loop(simulated=True, export_frequency_seconds=1, reward={"low": -10.0, "high": 0.0, "wait_seconds": 60})
    offers = [{"offer_id": name, "features": {"category": name}} for name in ("left", "right")]
    for second in range(80):
        answer = loop.rank(candidates=offers, occurred_at=at(second))
        value = -1.0 if answer["offer_id"] == "left" else -9.0
        loop.reward(answer["decision_id"], value=value, final=True, occurred_at=at(second))
    loop.tick(at(100))

    def probability():
        ranking = loop.rank(candidates=offers, occurred_at=at(101))["ranking"]
        return next(ranked["probability"] for ranked in ranking if ranked["offer_id"] == "left")

    until(lambda: probability() > 0.8, 5, "left is preferred")
