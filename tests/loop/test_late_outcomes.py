"""Outcomes after the window: what was learned stays, and what an offer was worth in the end is told by revisions."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from adapters.interaction_log import count_loop, find_decision, find_settings
from adapters.loop_log import LoopLog
from contextual_bandit.loops import OutcomeKind, RewardDefinition
from contextual_bandit.types import Action, LateOutcomes
from evaluation.evaluate import evaluate
from evaluation.interactions import Interactions

WINDOW = 60.0
Drive = Callable[..., Any]
KINDS = {
    "sale": OutcomeKind(measure="revenue"),
    "refund": OutcomeKind(-1.0, measure="revenue", correction=True),
    "profit": OutcomeKind(measure="margin"),
}


def rebuilding(late_outcomes: LateOutcomes = "rebuild", **more: Any) -> RewardDefinition:
    settings = {"low": -100.0, "high": 100.0, "wait_seconds": WINDOW, "aggregation": "sum", "kinds": KINDS, **more}
    return RewardDefinition(late_outcomes=late_outcomes, **settings)


def revisions(loop: Any, decision_id: str = "d") -> int:
    """How often a decision's reward was computed anew."""
    (found,) = [one for one in loop.log(latest=True) if one.decision.decision_id == decision_id]
    return found.revision


def test_a_late_refund_makes_a_new_revision_and_what_was_learned_stays(drive: Drive) -> None:
    loop = drive(reward=rebuilding())
    loop.decide(0.0, "d").decide(1.0, "other").outcome(2.0, "d", 60.0, kind="sale").tick(100.0).run()
    assert loop.rewards() == loop.rewards(latest=True) == {"d": 60.0, "other": 0.0}
    loop.outcome(200.0, "d", -45.0, kind="refund").run()
    assert loop.rewards() == {"d": 60.0, "other": 0.0}
    assert loop.rewards(latest=True) == {"d": 15.0, "other": 0.0}
    before, after = loop.log()[0], loop.log(latest=True)[0]
    assert (before.revision, after.revision) == (0, 1)
    assert (before.sequence, before.closed_at, before.decision) == (after.sequence, after.closed_at, after.decision)
    stored = find_decision(loop.stores.engine, loop.name, "d")
    assert stored is not None
    assert stored.reward == 15.0
    assert [state for _, state in stored.outcomes] == ["joined", "late"]


def test_an_evaluation_reads_what_offers_were_worth_in_the_end(drive: Drive) -> None:
    loop = drive(reward=rebuilding())
    for number in range(8):
        loop.decide(number, f"d{number}").outcome(number + 1.0, f"d{number}", 4.0)
    loop.tick(100.0).run()
    loop.outcome(101.0, "d3", -8.0).outcome(102.0, "d5", 8.0).outcome(103.0, "d5", -4.0).run()
    assert evaluate(Interactions(loop.log())).mean_reward == 4.0
    found = evaluate(Interactions(loop.log(latest=True)))
    assert (found.n, found.mean_reward) == (8, 3.5)
    assert find_settings(loop.stores.engine, loop.name) == loop.config
    assert find_settings(loop.stores.engine, "nowhere") is None


def test_revisions_are_counted_nowhere(drive: Drive) -> None:
    loop = drive(reward=rebuilding())
    loop.decide(0.0, "d").decide(1.0, "other").outcome(2.0, "d", 60.0).tick(100.0).run()
    for value in (5.0, -20.0):
        loop.outcome(200.0, "d", value).run()
    counts = count_loop(loop.stores.engine, loop.name)
    assert (counts.decisions, counts.interactions, counts.duplicated, counts.open) == (2, 2, 0, 0)
    assert len(loop.log()) == len(loop.log(latest=True)) == 2
    assert loop.performance() == (2, 45.0)


def test_every_late_outcome_counts_with_all_that_came_before(drive: Drive) -> None:
    loop = drive(reward=rebuilding(aggregation="max"))
    loop.decide(0.0, "d").outcome(1.0, "d", 7.0).tick(100.0).run()
    for at, value, reward in ((101.0, 9.0, 9.0), (102.0, 8.0, 9.0), (103.0, 11.0, 11.0)):
        loop.outcome(at, "d", value).run()
        assert loop.rewards(latest=True) == {"d": reward}
    assert revisions(loop) == 3
    assert loop.performance() == (1, 11.0)


@pytest.mark.parametrize("killed", [False, True])
def test_a_late_outcome_that_comes_again_makes_no_second_revision(drive: Drive, killed: bool) -> None:
    loop = drive(reward=rebuilding())
    loop.decide(0.0, "d").outcome(1.0, "d", 60.0).tick(100.0).run()
    loop.outcome(200.0, "d", -45.0, "once").outcome(201.0, "d", -45.0, "once").run()
    loop.restart(killed=killed)
    loop.outcome(202.0, "d", -45.0, "once").run()
    assert loop.rewards(latest=True) == {"d": 15.0}
    assert revisions(loop) == 1
    assert loop.performance() == (1, 15.0)


def test_a_revision_is_committed_with_its_outcome_or_not_at_all(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = drive(reward=rebuilding())
    loop.decide(0.0, "d").outcome(1.0, "d", 60.0).tick(100.0).run()
    loop.outcome(200.0, "d", -45.0)

    def fail(*_: Any) -> None:
        raise ConnectionError("killed before the commit")

    with monkeypatch.context() as patched:
        # Revisions and outcomes are written by then.
        patched.setattr(LoopLog, "_write_performance", fail)
        with pytest.raises(ConnectionError):
            loop.run()
    assert loop.rewards(latest=True) == {"d": 60.0}
    loop.restart(killed=True)
    loop.run()
    assert loop.rewards(latest=True) == {"d": 15.0}
    assert revisions(loop) == 1
    assert loop.performance() == (1, 15.0)


@pytest.mark.parametrize("together", [False, True])
def test_an_outcome_between_window_and_closing_counts_once_closed(drive: Drive, together: bool) -> None:
    """It came too late for what is learned, and before there was an interaction."""
    loop = drive(reward=rebuilding(), grace_seconds=30.0)
    loop.decide(0.0, "d").outcome(1.0, "d", 7.0).outcome(WINDOW + 1.0, "d", 5.0)
    if not together:
        loop.run()
        assert loop.log() == []
        loop.restart(killed=True)
    loop.tick(200.0).run()
    assert loop.rewards() == {"d": 7.0}
    assert loop.rewards(latest=True) == {"d": 12.0}
    assert revisions(loop) == 1
    assert loop.performance() == (1, 12.0)


def test_an_outcome_after_a_final_one_corrects_it(drive: Drive) -> None:
    loop = drive(reward=rebuilding(), close_on_final=True)
    loop.decide(0.0, "d").outcome(1.0, "d", 9.0, final=True).outcome(2.0, "d", -4.0).run()
    assert loop.rewards() == {"d": 9.0}
    assert loop.rewards(latest=True) == {"d": 5.0}


def test_an_outcome_that_overtook_its_decision_counts_in_its_revisions(drive: Drive) -> None:
    loop = drive(reward=rebuilding())
    loop.outcome(0.0, "d", 3.0).run()
    loop.decide(1.0, "d").outcome(2.0, "d", 4.0).tick(100.0).outcome(101.0, "d", 5.0).run()
    assert loop.rewards() == {"d": 7.0}
    assert loop.rewards(latest=True) == {"d": 12.0}


def test_an_activation_that_overtook_its_decision_is_no_outcome(drive: Drive) -> None:
    loop = drive(reward=rebuilding(aggregation="earliest"))
    loop.send(0.0, "activation", {"decision_id": "d"}).decide(1.0, "d", deferred=True).outcome(2.0, "d", 4.0)
    loop.tick(100.0).outcome(101.0, "d", 5.0).run()
    assert loop.rewards() == loop.rewards(latest=True) == {"d": 4.0}
    assert revisions(loop) == 1


def test_a_late_margin_is_that_of_the_offer_as_it_was(drive: Drive) -> None:
    loop = drive(reward=rebuilding())
    garden = [Action("garden", {"margin": 0.5, "discount": 0.1}, version=3, cost=2.0), Action("other", {})]
    loop.decide(0.0, "d", actions=garden).tick(100.0).outcome(101.0, "d", 50.0, kind="profit").run()
    assert loop.rewards(latest=True) == {"d": pytest.approx(18.0)}


def test_where_late_outcomes_are_ignored_there_is_one_revision(drive: Drive) -> None:
    loop = drive(reward=rebuilding("ignore"))
    loop.decide(0.0, "d").outcome(1.0, "d", 7.0).tick(100.0).outcome(101.0, "d", 5.0).run()
    assert loop.rewards(latest=True) == {"d": 7.0}
    assert revisions(loop) == 0


def test_what_never_became_an_interaction_has_no_revisions(drive: Drive) -> None:
    loop = drive(reward=rebuilding())
    loop.decide(0.0, "unseen", deferred=True).tick(100.0).outcome(101.0, "unseen", 5.0).outcome(102.0, "never", 5.0)
    loop.run()
    assert loop.log(latest=True) == []


def test_an_interaction_that_was_set_aside_stays_so(drive: Drive) -> None:
    loop = drive(reward=rebuilding())
    loop.decide(0.0, "d").decide(1.0, "other").tick(100.0).run()
    loop.writer._ledger.set_aside(1)
    loop.outcome(200.0, "d", 5.0).run()
    assert loop.rewards(latest=True) == {"d": 5.0, "other": 0.0}
    assert loop.rewards(latest=True, learnable=True) == {"other": 0.0}


@pytest.mark.parametrize("seed", range(4))
def test_however_messages_are_cut_the_rewards_are_the_same(drive: Drive, seed: int) -> None:
    """Several late outcomes in one batch make one revision, in several batches several; their rewards agree."""

    def play(cuts: random.Random) -> Any:
        loop, dice = drive(reward=rebuilding()), random.Random(seed)
        for number in range(120):
            decision_id = f"d{dice.randrange(12)}"
            if dice.random() < 0.3:
                loop.decide(number * 3.0, decision_id)
            else:
                loop.outcome(number * 3.0, decision_id, float(dice.randrange(-3, 9)), f"o{dice.randrange(80)}")
            if cuts.random() < 0.3:
                loop.run()
            if cuts.random() < 0.03:
                loop.restart(killed=cuts.random() < 0.5)
        loop.tick(1000.0).run()
        assert loop.performance() == (len(loop.log()), pytest.approx(sum(loop.rewards(latest=True).values())))
        return loop.rewards(), loop.rewards(latest=True)

    first = play(random.Random(1))
    assert first == play(random.Random(2))
    assert first[0] != first[1], "no late outcome changed a reward"


def test_a_new_generation_learns_the_newest_revisions(drive: Drive) -> None:
    """And a replay still goes by what was learned since the generation began."""
    loop = drive(reward=rebuilding(low=0.0, high=1.0), export_frequency_seconds=1.0)
    actions = [Action(name, {"category": name}) for name in ("left", "right")]
    for number in range(60):
        loop.decide(number, f"d{number}", actions=actions, served=(0.5, 0.5), chosen=number % 2)
        loop.outcome(number + 0.5, f"d{number}", float(number % 2 == 0))
    loop.tick(200.0).run()
    assert loop.shares(actions)[0] > 0.7
    for number in range(60):
        # What was bought is sent back, and what seemed worthless is bought at last.
        loop.outcome(300.0 + number, f"d{number}", 1.0 if number % 2 else -1.0)
    loop.tick(400.0).run()
    assert loop.shares(actions)[0] > 0.7
    assert loop.verified().equal
    loop.change(arguments=loop.config.arguments.replace("gamma_scale 300", "gamma_scale 299"))
    assert loop.writer._trainer.generation == 2
    assert loop.shares(actions)[0] < 0.3
    loop.decide(500.0, "last", actions=actions).outcome(501.0, "last", 1.0).tick(600.0).run()
    loop.outcome(601.0, "last", -1.0).tick(700.0).run()
    loop.restart(killed=True)
    loop.decide(701.0, "more", actions=actions).tick(800.0).run()
    found = loop.verified()
    assert found.equal
    assert found.interactions == 2
