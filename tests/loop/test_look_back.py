"""A loop that looks back a while: it forgets an old world, and its replay stays exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contextual_bandit.loops import RewardDefinition
from contextual_bandit.types import Action

DAY = 86400.0
OFFERS = [Action(name, {"category": name}) for name in ("left", "right")]
REWARD = RewardDefinition(wait_seconds=60.0)
# A model that changes its mind slowly, so that what it forgets it has not merely unlearned.
SLOW = "--cb_explore_adf --epsilon 0.1 -l 0.01 --power_t 0"
Drive = Callable[..., Any]


@pytest.fixture
def make(drive: Drive) -> Drive:
    def make(**settings: Any) -> Any:
        return drive(arguments=SLOW, reward=REWARD, export_frequency_seconds=1.0, **settings)

    return make


def play(loop: Any, day: float, best: str, count: int = 60) -> None:
    """Decisions from the start of a day on, a minute apart, of which those for the best offer are rewarded."""
    for number in range(count):
        at, chosen = day * DAY + number * 60.0, number % 2
        decision_id = f"d{day}-{number}"
        loop.decide(at, decision_id, actions=OFFERS, served=(0.5, 0.5), chosen=chosen)
        loop.outcome(at + 1.0, decision_id, float(OFFERS[chosen].offer_id == best))
    loop.tick(day * DAY + count * 60.0 + 61.0).run()


def generation(loop: Any) -> int:
    found: int = loop.writer._trainer.generation
    return found


def test_after_a_sudden_shift_the_old_world_is_forgotten(make: Drive) -> None:
    looking, remembering = make(lookback_days=4.0), make()
    for loop in (looking, remembering):
        play(loop, 0, "left", 400)
        assert loop.shares(OFFERS)[0] > 0.9
        play(loop, 5, "right", 30)
    assert (generation(looking), generation(remembering)) == (2, 1)
    assert looking.shares(OFFERS)[1] > 0.9
    assert remembering.shares(OFFERS)[0] > 0.9
    for loop in (looking, remembering):
        play(loop, 5.9, "right", 10)
        loop.restart(killed=True)
        play(loop, 5.95, "right", 10)
        assert loop.verified().equal


def test_a_generation_is_renewed_when_a_quarter_of_the_window_has_passed(make: Drive) -> None:
    loop = make(lookback_days=4.0)
    play(loop, 0, "left")
    for day, expected in ((0.5, 1), (0.9, 1), (1.2, 2), (1.9, 2), (2.3, 3)):
        play(loop, day, "left", 4)
        assert generation(loop) == expected, day


def test_nothing_is_renewed_while_nothing_new_is_learned(make: Drive) -> None:
    loop = make(lookback_days=4.0)
    play(loop, 0, "left")
    play(loop, 2, "left", 4)
    assert generation(loop) == 2
    for day in range(3, 9):
        loop.tick(day * DAY).run()
    assert generation(loop) == 2
    play(loop, 9, "right", 4)
    assert generation(loop) == 3
    assert loop.shares(OFFERS)[1] > 0.9


@pytest.mark.parametrize("killed", [False, True])
def test_when_a_generation_began_is_known_after_a_restart(make: Drive, killed: bool) -> None:
    loop = make(lookback_days=4.0)
    play(loop, 0, "left")
    loop.restart(killed=killed)
    play(loop, 0.9, "left", 4)
    loop.restart(killed=killed)
    assert generation(loop) == 1
    play(loop, 1.2, "left", 4)
    assert generation(loop) == 2
    loop.restart(killed=killed)
    play(loop, 1.9, "left", 4)
    assert generation(loop) == 2
    play(loop, 2.3, "left", 4)
    assert generation(loop) == 3
    assert loop.verified().equal


def test_a_writer_killed_in_the_middle_of_a_renewal_renews_once(make: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make(lookback_days=4.0)
    play(loop, 0, "left")
    with monkeypatch.context() as patched:
        patched.setattr("learner.loop.open_generation", _fail)
        with pytest.raises(ConnectionError):
            play(loop, 2, "right", 10)
    loop.restart(killed=True)
    play(loop, 2.1, "right", 10)
    assert generation(loop) == 2
    assert len(loop.log()) == 80
    assert loop.verified().equal


def _fail(*_: Any) -> None:
    raise ConnectionError("killed before the base was stored")


def test_a_look_back_that_is_set_later_holds_for_what_was_learned_before(make: Drive) -> None:
    loop = make()
    play(loop, 0, "left", 200)
    play(loop, 6, "right", 20)
    assert (generation(loop), loop.shares(OFFERS)[0] > 0.9) == (1, True)
    loop.change(lookback_days=1.0)
    play(loop, 6.5, "right", 4)
    assert (generation(loop), loop.shares(OFFERS)[1] > 0.8) == (2, True)


def test_a_changed_setting_looks_back_no_further(make: Drive) -> None:
    loop = make(lookback_days=1000.0)
    play(loop, 0, "left", 200)
    play(loop, 6, "right", 20)
    loop.change(lookback_days=1.0, arguments=SLOW.replace("0.1", "0.2"))
    assert (generation(loop), loop.shares(OFFERS)[1] > 0.8) == (2, True)


@pytest.mark.parametrize("use", ["holdout", "fallback", "baseline"])
def test_what_is_not_for_learning_reaches_no_model(make: Drive, use: str) -> None:
    """Neither as it comes, nor after a restart, nor in a new generation, nor in a replay."""
    loop, twin = make(lookback_days=4.0), make(lookback_days=4.0)
    for one in (loop, twin):
        play(one, 0, "left", 20)
    for number in range(20):
        loop.decide(DAY + number, f"{use}{number}", actions=OFFERS, use=use, chosen=1, served=(0.0, 1.0))
        loop.outcome(DAY + number + 0.5, f"{use}{number}", 1.0)
    for one in (loop, twin):
        one.tick(DAY + 100.0).run()
        one.restart(killed=True)
    assert len(loop.log()) == 40
    assert len(loop.log(learnable=True)) == 20
    assert loop.shares(OFFERS) == twin.shares(OFFERS)
    for one in (loop, twin):
        play(one, 2, "left", 10)
        assert generation(one) == 2
    assert loop.shares(OFFERS) == twin.shares(OFFERS)
    assert loop.verified().equal
    assert loop.verified().found == twin.verified().found
