"""Sums behind a series, and a series of each slot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import numpy as np
import pytest

from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide_slots
from contextual_bandit.limits import draw_slots
from contextual_bandit.loops import LoopConfig
from contextual_bandit.policy import UniformPolicy
from contextual_bandit.slots import Slate, SlotAsked
from contextual_bandit.types import Action, Context, LoggedInteraction
from evaluation.evaluate import Choices, Evaluation, evaluate
from evaluation.interactions import Interactions
from evaluation.report_json import to_json
from evaluation.series import Series
from evaluation.targets import first_action

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ACTIONS = [Action(name, {}) for name in "abc"]
LOOP = LoopConfig("homepage", exploration_floor=0.0)


def played(count: int, *, names: tuple[str, str] = ("top", "side"), renamed_from: int = 10**9) -> Iterator[LoggedInteraction]:  # fmt: skip
    """Slates of two slots a minute apart; "a" is worth 1 in the upper slot and 0.5 in the lower one."""
    serving, dice = ServingPolicy(UniformPolicy(), "uniform", "s"), Random(5)
    for number in range(count):
        at = START + timedelta(minutes=number)
        asked = [SlotAsked(name if number < renamed_from else name.upper()) for name in names]
        moment = Moment(f"d{number}-{dice.random()}", None, at, at, False, "h")
        slate = decide_slots(LOOP, serving, moment, Choice(Context({}), ACTIONS, (), ACTIONS[0]), asked)
        assert isinstance(slate, Slate)
        decision = slate.resolved(draw_slots(slate.draws, {}))
        worth = [one * float(decision.shown(place).offer_id == "a") for place, one in enumerate((1.0, 0.5))]
        yield LoggedInteraction(number + 1, decision, sum(worth), "learn", at, slot_rewards=tuple(worth))


def evaluated(log: Iterator[LoggedInteraction]) -> Evaluation:
    choices = Choices(against="logged", estimators=("ips", "snips"), replicates=10, fixed_offers=0)
    return evaluate(Interactions(log, chunk_size=37), {"first": first_action}, choices)


def test_each_slot_has_a_series_of_its_own() -> None:
    found = evaluated(played(600))
    upper, lower = found.slot_series
    assert [(one.place, one.slot_id, one.n) for one in (upper, lower)] == [(1, "top", 600), (2, "side", 600)]
    value, low, high = upper.series[-1].values["first"]
    # The first offer is "a": always 1 in the upper slot.
    assert low <= 1.0 <= high
    assert value == pytest.approx(1.0, abs=0.2)
    assert [point.n for point in lower.series] == sorted({point.n for point in lower.series})
    times = [point.closed_at for point in lower.series]
    assert times == sorted(times)
    assert times[-1] <= START + timedelta(minutes=600)


def test_a_place_with_several_names_has_none() -> None:
    found = evaluated(played(60, renamed_from=30))
    assert [one.slot_id for one in found.slot_series] == [None, None]


def test_sums_are_those_of_the_decisions_so_far() -> None:
    found = evaluated(played(100))
    logged, first = found.totals["logged"], found.totals["first"]
    assert (logged.weights, logged.nonzero) == (200.0, 200.0)
    assert logged.terms == pytest.approx(sum(one.reward for one in played(100)))
    assert first.terms == pytest.approx(found.n * found.policy("first").estimates["ips"].value)
    assert first.nonzero < logged.nonzero
    shown = to_json(found)
    assert shown["totals"]["first"]["terms"] == first.terms
    counted = [point["sums"]["logged"]["nonzero"] for point in shown["series"]]
    assert counted == [point["n"] for point in shown["series"]]
    assert {point["n"] for one in shown["slot_series"] for point in one["series"]} == {25, 50, 75, 100}


def test_sums_do_not_depend_on_the_pieces() -> None:
    at = np.datetime64("2026-03-02T09:30:00") + np.arange(90).astype("timedelta64[m]")
    dice = np.random.default_rng(3)
    reward, weight = dice.random(90), np.where(dice.random(90) < 0.5, 0.0, 2.0)
    whole, pieces = Series(), Series()
    whole.add(at, reward, {"p": weight})
    for rows in np.array_split(np.arange(90), 7):
        pieces.add(at[rows], reward[rows], {"p": weight[rows]})
    found = whole.totals()["p"]
    assert (found.terms, found.weights, found.nonzero) == pytest.approx(
        (float(weight @ reward), float(weight.sum()), float((weight > 0).sum()))
    )
    assert found.squares == pytest.approx(float(((weight * reward) ** 2).sum()))
    other = pieces.totals()["p"]
    assert (other.terms, other.squares) == pytest.approx((found.terms, found.squares))
