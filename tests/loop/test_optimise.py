"""Automatic optimisation: when it is due, what it applies, and what it leaves as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import select

from adapters.evaluations import EvaluationStore
from adapters.installation import Installation
from adapters.jobs import JobStore
from adapters.operations import OperationStore
from adapters.personalizer_settings import PersonalizerSettings, PersonalizerStore
from adapters.search_notes import last_search
from adapters.tables import audit_log
from contextual_bandit import events
from contextual_bandit.loops import AutoOptimisation, RewardDefinition
from contextual_bandit.types import Action
from decision_service.personalizer_evaluation_forms import content, listed, old_form
from evaluation.search import SearchPlan, SearchResult
from learner import work
from learner.optimise import is_due

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
PLAIN = "--cb_explore_adf --epsilon 0.1 --cb_type mtr"
CROSSED = f"{PLAIN} -q DO"
ENABLED = AutoOptimisation(is_enabled=True)
Drive = Callable[..., Any]


@pytest.mark.parametrize(
    ("setting", "last", "now", "due"),
    [
        (AutoOptimisation(), None, NOW, False),
        (ENABLED, None, NOW, True),
        (ENABLED, NOW - 27 * DAY, NOW, False),
        (ENABLED, NOW - 28 * DAY, NOW, True),
        (replace(ENABLED, frequency_days=1), NOW - 1.5 * DAY, NOW, True),
        (replace(ENABLED, start=NOW + DAY), None, NOW, False),
        (replace(ENABLED, start=NOW), None, NOW, True),
        (replace(ENABLED, start=NOW - DAY), NOW - 2 * DAY, NOW, True),
        (replace(ENABLED, start=NOW - DAY), NOW - DAY / 2, NOW, False),
        (replace(ENABLED, start=NOW - 29 * DAY), NOW - 2 * DAY, NOW, True),
        (replace(ENABLED, start=NOW - 29 * DAY), NOW - DAY / 2, NOW, False),
    ],
)
def test_when_a_search_is_due(setting: AutoOptimisation, last: datetime | None, now: datetime, due: bool) -> None:
    assert is_due(setting, last, now) is due


@pytest.fixture
def optimise(installation: Installation) -> Callable[[], dict[str, str]]:
    """Run the job; what came of each loop."""

    def run() -> dict[str, str]:
        store = JobStore(installation.engine)
        job_id = store.add("auto_optimise", {}, datetime.now(UTC))
        # Whatever else waits comes first.
        while (job := store.get(job_id)) is not None and job.state == "waiting":
            assert work.run_one(installation, store)
        assert job is not None
        assert job.state == "done", job.error
        assert job.result is not None
        return dict(job.result["loops"])

    return run


def found(verdict: Any, best: str | None) -> Callable[..., SearchResult]:
    def search(log: object, loop: Any, *, plan: SearchPlan) -> SearchResult:
        return SearchResult(loop.loop, loop.arguments, 5000, 2000, 0.95, verdict, best, ("because",))

    return search


def notes(installation: Installation, loop: str) -> list[tuple[str, dict[str, Any]]]:
    query = select(audit_log.c.action, audit_log.c.detail).where(
        audit_log.c.subject == loop, audit_log.c.action.startswith("auto_optimisation.")
    )
    with installation.engine.connect() as connection:
        return [(row.action, row.detail) for row in connection.execute(query.order_by(audit_log.c.audit_id))]


def test_what_is_shown_better_is_applied_and_the_log_replayed(
    drive: Drive, installation: Installation, optimise: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = drive(arguments=PLAIN, auto_optimisation=ENABLED)
    monkeypatch.setattr("learner.optimise.search", found("better", CROSSED))
    assert optimise() == {loop.name: "applied"}
    stored = loop.stores.loops.get(loop.name)
    assert stored.arguments == CROSSED
    (operation,) = OperationStore(installation.engine).newest(loop.name)
    ((action, detail),) = notes(installation, loop.name)
    assert action == "auto_optimisation.applied"
    assert (detail["operation_id"], detail["best"], detail["reasons"]) == (operation.operation_id, CROSSED, ["because"])
    assert (operation.kind, operation.version, operation.actor) == ("replay", stored.version, "auto-optimisation")
    loop.run()
    assert loop.stores.snapshots.newest(loop.name, published=True).arguments == CROSSED
    assert optimise() == {}


@pytest.mark.parametrize(
    ("verdict", "best", "outcome"),
    [("better", CROSSED, "OptimalPolicyApplied"), ("not_shown", None, "OnlinePolicyRetained")],
)
def test_users_of_the_personalizer_api_are_told_by_an_evaluation(
    drive: Drive, installation: Installation, optimise: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch,
    verdict: str, best: str | None, outcome: str,
) -> None:  # fmt: skip
    loop = drive(
        arguments=PLAIN, auto_optimisation=ENABLED, exploration_floor=0.3, reward=RewardDefinition(wait_seconds=1.0)
    )
    for number in range(20):
        loop.decide(float(number), f"d{number}", served=(0.5, 0.5), chosen=number % 2)
        loop.outcome(number + 0.5, f"d{number}", float(number % 2))
    loop.tick(25.0).run()
    PersonalizerStore(installation.engine).put(loop.name, PersonalizerSettings(), NOW)
    monkeypatch.setattr("learner.optimise.search", found(verdict, best))
    optimise()
    store, jobs = EvaluationStore(installation.engine), JobStore(installation.engine)
    (asked,) = store.newest(loop.name)
    while asked.state in ("waiting", "running"):
        assert work.run_one(installation, jobs)
        again = store.get(asked.evaluation_id)
        assert again is not None
        asked = again
    name = asked.evaluation_id.removeprefix(f"personalizer:{loop.name}:")
    assert name.startswith("auto-2")
    shown = listed(name, asked)
    assert (shown["evaluationType"], shown["status"]) == ("Auto", outcome), asked.error
    results = content(asked, (NOW - 999 * DAY, NOW + 999 * DAY), 5)["value"]
    assert [one["name"] for one in results] == ["online", "baseline1", "baselineRand", *(["Hyper1"] if best else [])]
    assert results[0]["summary"]["expectedReward"] == pytest.approx(0.5)
    if best is not None:
        assert (shown["optimalPolicy"], results[3]["arguments"]) == ("Hyper1", CROSSED.replace("0.1", "0.3"))
    old = old_form(name, asked)
    assert (old["evaluationType"], old["status"]) == ("Auto", outcome[0].lower() + outcome[1:])


@pytest.mark.parametrize(("verdict", "best"), [("not_shown", None), ("refused", None)])
def test_what_is_not_shown_better_is_left(
    drive: Drive, installation: Installation, optimise: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch,
    verdict: str, best: str | None,
) -> None:  # fmt: skip
    loop = drive(arguments=PLAIN, auto_optimisation=ENABLED)
    monkeypatch.setattr("learner.optimise.search", found(verdict, best))
    assert optimise() == {loop.name: verdict}
    assert loop.stores.loops.get(loop.name) == loop.config
    assert [action for action, _ in notes(installation, loop.name)] == ["auto_optimisation.retained"]
    assert OperationStore(installation.engine).newest(loop.name) == []
    assert last_search(installation.engine, loop.name) is not None


def test_a_loop_that_was_changed_during_the_search_is_left(
    drive: Drive, installation: Installation, optimise: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = drive(arguments=PLAIN, auto_optimisation=ENABLED)

    def search(log: object, config: Any, *, plan: SearchPlan) -> SearchResult:
        loop.stores.loops.put(replace(config, arguments=f"{PLAIN} -q WO"), "somebody", NOW)
        return found("better", CROSSED)(log, config, plan=plan)

    monkeypatch.setattr("learner.optimise.search", search)
    assert optimise() == {loop.name: "better"}
    assert loop.stores.loops.get(loop.name).arguments == f"{PLAIN} -q WO"
    assert [action for action, _ in notes(installation, loop.name)] == ["auto_optimisation.retained"]


def test_loops_that_do_not_want_it_or_do_not_explore_are_not_searched(
    drive: Drive, optimise: Callable[[], dict[str, str]]
) -> None:
    drive(arguments=PLAIN)
    drive(arguments=PLAIN, auto_optimisation=ENABLED, learning_mode="apprentice")
    assert optimise() == {}


def test_a_log_without_anything_is_refused(drive: Drive, optimise: Callable[[], dict[str, str]]) -> None:
    loop = drive(arguments=PLAIN, auto_optimisation=ENABLED)
    assert optimise() == {loop.name: "refused"}


def test_a_real_search_on_a_real_log_finds_what_matters(
    drive: Drive, installation: Installation, optimise: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each segment likes an offer of its own, so that only crossed features help."""
    loop = drive(arguments=PLAIN, reward=RewardDefinition(wait_seconds=1.0), export_frequency_seconds=1e6)
    offers = [Action(name, {"category": name}) for name in ("left", "right", "middle")]
    random = Random(7)
    for number in range(2400):
        segment, chosen = random.randrange(3), random.randrange(3)
        decision = loop.make_decision(
            f"d{number}", loop=loop.name, actions=offers, served=(1 / 3,) * 3, chosen=chosen,
            context={"D": {"segment": f"s{segment}"}}, decided_at=NOW + timedelta(seconds=number),
        )  # fmt: skip
        loop.send(float(number), events.DECISION, events.decision_payload(decision))
        if random.random() < (0.7 if segment == chosen else 0.2):
            loop.outcome(number + 0.5, f"d{number}", 1.0)
    loop.tick(2405.0).run()
    assert len(loop.log()) == 2400
    loop.change(auto_optimisation=ENABLED)
    monkeypatch.setattr("learner.optimise.PLAN", SearchPlan(trials=4, finalists=1, processes=1))
    assert optimise() == {loop.name: "applied"}
    ((_, detail),) = notes(installation, loop.name)
    assert 0.0 < detail["low"] < detail["gain"]
    # The replay goes on between batches, a few hundred interactions at a time.
    for number in range(8):
        loop.tick(2410.0 + number).run()
    newest = loop.stores.snapshots.newest(loop.name, published=True)
    assert (newest.arguments, newest.generation) == (detail["best"], 2)
    assert loop.verified().equal
