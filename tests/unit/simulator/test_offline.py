"""Tests of simulator.offline: what a policy sees of a market, and what it is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from contextual_bandit.policy import FirstActionPolicy, UniformPolicy
from contextual_bandit.types import LoggedInteraction
from simulator.offline import AFFINITY, REWARD_RANGES, OfflineLoop, draw_visits, market_loop
from simulator.shelf import draw_offers
from simulator.world import World, make_world

VISITS = 300


class Listening(UniformPolicy):
    """Decides evenly and keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[LoggedInteraction] = []

    def learn(self, interactions: Sequence[LoggedInteraction]) -> None:
        self.told.extend(interactions)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, 80, 40, objective="margin", offers=draw_offers(3, newcomers=2, days=40.0, with_none=True))


def test_every_visit_is_decided_and_learned_from_after_a_lag(world: World) -> None:
    policy = Listening()
    visits = draw_visits(world, VISITS, 1)
    run = OfflineLoop(world, policy, market_loop(world)).play(visits, 1, lag=20)
    assert [one.decision.decision_id for one in policy.told] == [f"s1-{row}" for row in range(VISITS - 20)]
    low, high = REWARD_RANGES["margin"]
    assert [one.reward for one in policy.told] == np.clip(run.reward, low, high)[: VISITS - 20].tolist()


def test_an_apprentice_is_told_of_its_own_choices_and_who_only_logs_of_nothing(world: World) -> None:
    visits = draw_visits(world, VISITS, 1)
    low, high = REWARD_RANGES["margin"]
    watching, logging = Listening(), Listening()
    run = OfflineLoop(world, watching, market_loop(world, learning_mode="apprentice")).play(visits, 1)
    assert len(watching.told) == VISITS
    for one, decision in zip(watching.told, run.decisions, strict=True):
        own = decision.own[0]
        assert (one.decision.slots[0].chosen, one.decision.slots[0].propensity) == (own.chosen, own.propensity)
        # The margin says nothing here: a match with what was served does.
        assert one.reward == (high if own.chosen == decision.slots[0].chosen == 0 else 0.0)
    assert low < 0.0
    OfflineLoop(world, logging, market_loop(world, learning_mode="logging_only")).play(visits, 1)
    assert logging.told == []


def test_only_offers_that_are_there_are_decided_between(world: World) -> None:
    visits = draw_visits(world, VISITS, 1)
    run = OfflineLoop(world, UniformPolicy(), market_loop(world)).play(visits, 1, learn=False)
    assert np.isfinite(run.expected).all()
    assert {len(decision.actions) for decision in run.decisions} == set(visits.truth.is_available.sum(axis=1).tolist())


def test_policies_of_one_market_have_the_same_luck(world: World) -> None:
    visits = draw_visits(world, VISITS, 1)
    even = OfflineLoop(world, UniformPolicy(), market_loop(world)).play(visits, 1)
    first = OfflineLoop(world, FirstActionPolicy(), market_loop(world, exploration_floor=0.0)).play(visits, 1)
    same = even.chosen == first.chosen
    assert 0 < same.sum() < VISITS
    assert (even.reward[same] == first.reward[same]).all()


def test_a_policy_sees_what_the_service_would_show_it(world: World) -> None:
    visits = draw_visits(world, 5, 1)
    seeing, blind = (
        OfflineLoop(world, UniformPolicy(), hidden=hidden).decide(visits, 0, "d")[0] for hidden in ("", "WS")
    )
    assert set(seeing.context.namespaces) == {"D", "H", "L", "S", "W"}
    assert set(blind.context.namespaces) == {"D", "H", "L"}
    for action in seeing.actions:
        if action.offer_id.endswith("none"):
            assert action.features == {"type": "none"}
        else:
            assert {"category", "discount", "margin", "price_band"} <= set(action.features)
            assert action.affinity[AFFINITY] in (0.0, 1.0, 2.0)
    customer = world.customers[int(visits.customer[0])]
    assert seeing.context.namespaces["D"] == customer.demographics


def test_no_bot_visits(world: World) -> None:
    visits = draw_visits(world, 2000, 1, first_day=3.0, last_day=9.0)
    assert not world.population.is_bot[visits.customer].any()
    assert 3 * 86400 <= visits.seconds.min() <= visits.seconds.max() < 9 * 86400
    assert (np.diff(visits.seconds) >= 0).all()


def test_the_example_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "SIMULATOR.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    exec(code.replace("5000", "200").replace("lag=50", "lag=5"), {})
    served, optimal = map(float, capsys.readouterr().out.split())
    assert 0.0 < served < optimal < 1.0
