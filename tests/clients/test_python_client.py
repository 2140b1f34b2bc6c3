"""The Python client, sync and async, against the running service and a network that fails."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from offerloop_client import (
    NOT_SENT,
    AsyncClient,
    BadRequest,
    Client,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    Retry,
    ServiceAway,
    Unauthorized,
    is_local,
)

TWO = [{"offer_id": "left"}, {"offer_id": "right"}]
QUICK = Retry(timeout_seconds=20, budget_seconds=40, first_pause_seconds=0.001)


class Both:
    """One of the two clients, called alike: the async one in an event loop of its own for all calls of a test."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.runner = asyncio.Runner()
        self.opened: list[Any] = []

    def __call__(self, url: str, **settings: Any) -> Any:
        settings.setdefault("retry", QUICK)
        self.opened.append((Client if self.kind == "sync" else AsyncClient)(url, **settings))
        return Calls(self.opened[-1], self.runner)

    def close(self) -> None:
        for client in self.opened:
            closed = client.close()
            if closed is not None:
                self.runner.run(closed)
        self.runner.close()


class Calls:
    """Awaits what has to be awaited."""

    def __init__(self, client: Any, runner: asyncio.Runner) -> None:
        self.client, self.runner = client, runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)

        def call(*words: Any, **more: Any) -> Any:
            answer = method(*words, **more)
            return self.runner.run(answer) if inspect.isawaitable(answer) else answer

        return call


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Both]:
    both = Both(request.param)
    yield both
    both.close()


# Every call


def test_a_decision_is_made_rewarded_and_read(connect, service, until):
    client = connect(service.url)
    decision = client.rank(customer_id="c-1", candidates=TWO, context={"device": {"kind": "phone"}})
    assert decision["offer_id"] in ("left", "right")
    assert decision["fallback"] is False
    assert sum(entry["probability"] for entry in decision["ranking"]) == pytest.approx(1.0)
    accepted = client.reward(decision_id=decision["decision_id"], value=0.5)
    until(lambda: client.decision(decision["decision_id"])["outcomes"], what="the outcome is joined")
    record = client.decision(decision["decision_id"])
    assert record["customer_id"] == "c-1"
    assert [(one["outcome_id"], one["value"]) for one in record["outcomes"]] == [(accepted["outcome_id"], 0.5)]
    why = client.why(decision["decision_id"])
    assert {offer["offer_id"] for offer in why["offers"]} == {"left", "right"}


def test_a_batch_is_decided_in_order(connect, service, unique):
    ids = [unique("batch") for _ in range(3)]
    decisions = connect(service.url).rank_batch([{"decision_id": name, "candidates": TWO} for name in ids])
    assert [decision["decision_id"] for decision in decisions] == ids
    assert not any(decision["fallback"] for decision in decisions)


def test_several_slots_show_different_offers_and_are_rewarded_apart(connect, service, until):
    client = connect(service.url)
    decision = client.rank(candidates=[*TWO, {"offer_id": "third"}], slots=[{"id": "top"}, {"features": {"size": 2.0}}])
    assert [slot["slot_id"] for slot in decision["slots"]] == ["top", "1"]
    assert len({slot["offer_id"] for slot in decision["slots"]}) == 2
    assert decision["offer_id"] == decision["slots"][0]["offer_id"]
    client.reward(decision_id=decision["decision_id"], slot="top", value=1.0)
    until(lambda: client.decision(decision["decision_id"])["outcomes"], what="the outcome is joined")
    assert client.decision(decision["decision_id"])["outcomes"][0]["slot"] == "top"


def test_ids_are_made_for_calls_that_have_none(connect, network):
    client = connect(network.next().url)
    client.rank(candidates=TWO)
    client.rank_batch([{"candidates": TWO}, {"candidates": TWO}])
    client.activity([{"customer_id": "c", "kind": "view"}, {"customer_id": "c", "kind": "view"}])
    first, batch, activity = (one.body for one in network.seen)
    made = [first["decision_id"], *(one["decision_id"] for one in batch["requests"])]
    made += [one["activity_id"] for one in activity["activities"]]
    assert all(made)
    assert len(set(made)) == 5


def test_a_deferred_decision_is_activated(connect, api, make_loop, until):
    loop = make_loop()
    client = connect(str(api.base_url), loop=loop.name)
    decision = client.rank(candidates=TWO, defer_activation=True)
    assert client.activate(decision_id=decision["decision_id"])["position"] != NOT_SENT
    assert client.decision(decision["decision_id"])["loop"] == loop.name
    client.reward(decision_id=decision["decision_id"], value=1.0)
    until(lambda: client.decision(decision["decision_id"])["outcomes"], what="the outcome is joined")


def test_activity_becomes_the_customers_profile(connect, service, unique):
    client, customer = connect(service.url), unique("c")
    seen = [{"customer_id": customer, "kind": "view", "category": "garden", "occurred_at": datetime.now(UTC)}]
    answer = client.activity(seen, wait=True)
    assert (answer["accepted"], answer["applied"]) == (1, True)
    assert client.customer(customer)["profile"] is not None


def test_offers_are_kept(connect, service, unique):
    client, name = connect(service.url), unique("offer/with a slash?").replace("/", "-")
    made = client.put_offer(name, category="garden", type="percentage", discount=0.1, code="SPRING10")
    assert (made["offer_id"], made["category"], made["discount"]) == (name, "garden", 0.1)
    assert client.offer(name) == made
    assert made in client.offers()
    decision = client.rank(candidates=[name])
    assert (decision["offer_id"], decision["code"]) == (name, "SPRING10")
    client.delete_offer(name)
    with pytest.raises(NotFound, match="unknown offer"):
        client.offer(name)


def test_customers_are_kept_and_erased(connect, service, unique):
    client, name = connect(service.url), unique("c")
    client.put_customer(name, demographics={"age_band": "35-44"}, consents={"personalise": True})
    assert client.customer(name)["demographics"] == {"age_band": "35-44"}
    receipt = client.erase_customer(name, wait=True)
    assert receipt["state"] == "done"
    with pytest.raises(NotFound):
        client.customer(name)


# Keys and errors


def test_the_key_is_sent_and_its_role_counts(connect, guarded, until):
    with guarded.client("test-admin-key") as admin:
        secret = admin.post("/v1/keys", json={"name": "shop", "role": "write"}).json()["secret"]
    shop = connect(guarded.url, api_key=secret)
    assert shop.rank(candidates=TWO)["fallback"] is False
    with pytest.raises(Forbidden, match="'write', the call needs 'admin'") as found:
        shop.put_offer("spring", category="garden")
    assert found.value.status == 403
    assert connect(guarded.url, api_key="test-admin-key").put_offer("spring", category="garden")["version"]
    with pytest.raises(Unauthorized):
        connect(guarded.url, fallback_offer="left").rank(candidates=TWO)


def test_errors_carry_what_the_service_says(connect, service, unique):
    client, name = connect(service.url), unique("d")
    with pytest.raises(BadRequest) as wrong:
        client.rank(candidates=[])
    assert (wrong.value.status, wrong.value.title, wrong.value.attempts) == (400, "Bad request", 1)
    assert wrong.value.errors[0]["field"] == "candidates"
    assert "candidates" in str(wrong.value)
    client.rank(decision_id=name, candidates=TWO)
    with pytest.raises(Conflict, match=name):
        client.rank(decision_id=name, candidates=TWO, context={"other": 1})
    with pytest.raises(NotFound, match="unknown loop 'no-such-loop'"):
        client.rank(loop="no-such-loop", candidates=TWO)
    with pytest.raises(Refused) as large:
        client.rank(context={"text": "x" * 9_000_000})
    assert large.value.status == 413


@pytest.mark.parametrize("fallback", [None, "left"])
def test_a_wrong_request_is_neither_repeated_nor_answered_by_the_fallback(connect, network, fallback):
    client = connect(network.next().url, fallback_offer=fallback)
    with pytest.raises(BadRequest):
        client.rank(candidates=[])
    assert len(network.seen) == 1


@pytest.mark.parametrize(
    ("moment", "complaint"),
    [(datetime(2026, 3, 2, 9, 30), "time zone"), (float("nan"), "JSON"), ({"a set"}, "set")],
)
def test_what_is_no_json_is_refused_before_anything_is_sent(connect, network, moment, complaint):
    client = connect(network.next().url, fallback_offer="left")
    with pytest.raises((ValueError, TypeError), match=complaint):
        client.rank(candidates=TWO, context={"moment": moment})
    assert network.seen == []


# Attempts


@pytest.mark.parametrize("fault", ["drop", "lose", "429", "502", "503", "504"])
def test_an_attempt_that_failed_is_repeated_with_the_same_bytes(connect, network, make_loop, until, fault):
    loop = make_loop()
    client = connect(network.next(fault, fault).url, loop=loop.name)
    decision = client.rank(candidates=TWO)
    assert [one.fault for one in network.seen] == [fault, fault, "pass"]
    assert len({str(one.body) for one in network.seen}) == 1
    assert network.seen[0].body["decision_id"] == decision["decision_id"]
    until(lambda: loop.status()["decisions"] == 1, what="one decision is counted")
    assert loop.status()["duplicated"] == 0
    network.next(fault)
    accepted = client.reward(decision_id=decision["decision_id"], value=1.0)
    assert [one.body["outcome_id"] for one in network.seen] == [accepted["outcome_id"]] * 2
    until(lambda: loop.record(decision["decision_id"])["outcomes"], what="the outcome is joined")
    assert [one["outcome_id"] for one in loop.record(decision["decision_id"])["outcomes"]] == [accepted["outcome_id"]]


def test_a_lost_answer_of_a_deletion_is_no_error(connect, network, unique):
    client, name = connect(network.next().url), unique("offer")
    client.put_offer(name, category="garden")
    network.next("lose")
    client.delete_offer(name)
    assert len(network.seen) == 2
    with pytest.raises(NotFound):
        client.delete_offer(name)


def test_a_slow_answer_is_not_waited_for(connect, network, make_loop):
    loop = make_loop()
    retry = Retry(timeout_seconds=0.3, budget_seconds=30, first_pause_seconds=0.001)
    client = connect(network.next("slow:5", "slow:5").url, loop=loop.name, retry=retry)
    client.rank(candidates=TWO)
    assert [one.fault for one in network.seen] == ["slow:5", "slow:5", "pass"]
    assert len({one.body["decision_id"] for one in network.seen}) == 1


def test_attempts_end(connect, network):
    client = connect(network.next(then="503").url, retry=Retry(attempts=3, first_pause_seconds=0.001))
    with pytest.raises(ServiceAway) as away:
        client.reward(decision_id="d", value=1.0)
    assert (away.value.status, away.value.attempts, len(network.seen)) == (503, 3, 3)


def test_the_services_own_wish_to_wait_is_no_attempt_when_it_exceeds_the_budget(connect, network):
    client = connect(network.next(then="503:3600").url, retry=Retry(budget_seconds=2))
    with pytest.raises(ServiceAway) as away:
        client.rank(candidates=TWO)
    assert away.value.retry_after_seconds == 3600
    assert len(network.seen) == 1


@pytest.mark.parametrize("fault", ["500", "page"])
def test_answers_that_would_come_again_are_not_asked_for_again(connect, network, fault):
    client = connect(network.next(then=fault).url)
    with pytest.raises(ServiceAway):
        client.rank(candidates=TWO)
    assert client.rank(candidates=TWO, fallback_offer="left")["fallback"] is True
    assert len(network.seen) == 2


# The local fallback


def test_nobody_there_and_no_fallback_is_an_error(connect, nobody):
    with pytest.raises(ServiceAway, match="ConnectError") as away:
        connect(nobody).rank(candidates=TWO)
    assert away.value.status is None
    assert away.value.attempts == QUICK.attempts


def test_nobody_there_and_the_fallback_offer_is_shown(connect, nobody):
    client = connect(nobody, fallback_offer="left")
    decision = client.rank(decision_id="visit-1", candidates=TWO)
    assert (decision["offer_id"], decision["fallback"]) == ("left", True)
    assert is_local(decision["decision_id"])
    assert client.rank(candidates=TWO, fallback_offer=["right", "left"])["offer_id"] == "right"
    shown = client.rank(slots=[{"id": "top"}, {}, {}], fallback_offer=["right", "left"])["slots"]
    assert [(slot["slot_id"], slot["offer_id"]) for slot in shown] == [("top", "right"), ("1", "left")]
    assert [slot["slot_id"] for slot in client.rank(slots=2)["slots"]] == ["0"]
    batch = client.rank_batch([{"decision_id": "a"}, {"decision_id": "b"}])
    assert [one["offer_id"] for one in batch] == ["left", "left"]
    assert batch[0]["decision_id"] != batch[1]["decision_id"]


def test_nothing_of_a_fallback_is_sent(connect, network):
    client = connect(network.next(then="drop").url, fallback_offer="left")
    decision_id = client.rank(candidates=TWO)["decision_id"]
    network.next()
    assert client.reward(decision_id=decision_id, value=1.0, outcome_id="o") == {
        "position": NOT_SENT,
        "outcome_id": "o",
    }
    assert client.activate(decision_id=decision_id) == {"position": NOT_SENT}
    assert network.seen == []


def test_a_decision_whose_answer_was_lost_is_not_credited_with_the_fallback(connect, network, decided, unique):
    name = unique("late")
    client = connect(network.next(then="lose").url, fallback_offer="shown")
    answer = client.rank(decision_id=name, candidates=TWO)
    network.next()
    client.reward(decision_id=answer["decision_id"], value=1.0)
    record = decided(name)
    assert record["slots"][0]["offer_id"] in ("left", "right")
    assert record["outcomes"] == []
    assert network.seen == []


# Connections


def test_clients_close_what_is_theirs_and_nothing_else(service):
    with httpx.Client(trust_env=False) as http:
        with Client(service.url, http=http) as client:
            client.rank(candidates=TWO)
        assert not http.is_closed
    with Client(service.url) as own:
        own.rank(candidates=TWO)
    with pytest.raises(RuntimeError, match="closed"):
        own.rank(candidates=TWO)


def test_async_clients_close_what_is_theirs_and_nothing_else(service):
    async def use() -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            async with AsyncClient(service.url, http=http) as client:
                await client.rank(candidates=TWO)
            assert not http.is_closed
        async with AsyncClient(service.url) as own:
            answers = await asyncio.gather(*(own.rank(candidates=TWO) for _ in range(20)))
        assert len({answer["decision_id"] for answer in answers}) == 20
        with pytest.raises(RuntimeError, match="closed"):
            await own.rank(candidates=TWO)

    asyncio.run(use())


# The page


def test_the_examples_run(blocks, service, api, capsys):
    for name in ("spring-10", "free-shipping"):
        assert api.put(f"/v1/offers/{name}", json={"category": "garden"}).status_code == 200
    examples = blocks("python", "python")
    for example in examples:
        exec(
            compile(example.replace("http://127.0.0.1:8080", service.url), "README.md", "exec"), {"__name__": "example"}
        )
    shown = capsys.readouterr().out
    assert "show spring-10" in shown or "show free-shipping" in shown
    assert "context.age" in shown
