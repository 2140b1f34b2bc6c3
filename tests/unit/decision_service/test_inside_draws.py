"""Draws inside a policy beside counted units: refusals do not depend on the draw, and nobody is served what is used up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import orjson
import pytest

from adapters.units import LimitedTake, entries
from contextual_bandit import events
from contextual_bandit.decide import Choice, Moment, ServingPolicy, drawn_inside
from contextual_bandit.limits import COUNTED, HOLDS_STOCK
from contextual_bandit.loops import LoopConfig
from contextual_bandit.policy import UniformPolicy
from contextual_bandit.policy_draws import SlotDrawn, SlotTask
from contextual_bandit.slots import Slate, SlotAsked
from contextual_bandit.types import Action, Cap, Context, Decision, Limits, Offer, Removed
from decision_service.inside_draws import InsideDraws, draws_of

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
FALLBACK = Action("nothing", {"type": "none"})
CAPPED = Limits(caps=(Cap("all", "total", 5),))
OFFERS = (
    Offer("a", "x", limits=CAPPED),
    Offer("b", "x", limits=Limits(stock=3, excludes=("a",))),
    Offer("c", "x"),
    Offer("d", "x"),
)
ACTIONS = tuple(Action(offer.offer_id, {"category": "x"}, version=1) for offer in OFFERS)
LOOP = LoopConfig("inside")


@dataclass
class FirstLeft:
    """Draws the first action that is left, among equal chances."""

    asked: list[list[tuple[int, ...]]] = field(default_factory=list)

    def draw(
        self, context: Context, actions: Sequence[Action], tasks: Sequence[SlotTask], epsilon: float
    ) -> Sequence[SlotDrawn]:
        self.asked.append([task.left for task in tasks])
        found, above = list[SlotDrawn](), set[int]()
        for task in tasks:
            left = [index for index in task.left if index not in above]
            if not left:
                found.append(SlotDrawn(-1, (), 0.0))
                continue
            shares = tuple(1.0 / len(left) if index in left else 0.0 for index in range(len(actions)))
            found.append(SlotDrawn(left[0], shares, 0.0))
            above.add(left[0])
        return found


class DrawingPolicy(UniformPolicy):
    """A policy that draws by itself."""

    def __init__(self) -> None:
        self.slates = FirstLeft()


Inside = Callable[..., InsideDraws]


@pytest.fixture
def inside() -> Inside:
    def make(
        asked: Sequence[SlotAsked] | None = (SlotAsked("top"), SlotAsked("low")), customer: str | None = "c"
    ) -> InsideDraws:
        serving = ServingPolicy(DrawingPolicy(), "ccb-1", "s")
        moment = Moment("d", customer, NOW, NOW, False, "h")
        draws = drawn_inside(LOOP, serving, moment, Choice(Context({}), ACTIONS, (), FALLBACK), asked)
        assert draws is not None
        held = entries(OFFERS)
        counted = tuple((index, held[offer.offer_id]) for index, offer in enumerate(OFFERS) if offer.offer_id in held)
        return draws_of(LOOP, draws, OFFERS, counted, None)

    return make


def shown(decision: Decision) -> list[str]:
    return [decision.shown(index).offer_id for index in range(len(decision.slots))]


def test_what_was_drawn_is_to_be_taken_and_all_that_is_counted_is_looked_at(inside: Inside) -> None:
    found = inside()
    decision = found.draws.drawn()
    # "b" must not be shown below "a".
    assert shown(decision) == ["a", "c"]
    assert [slot.took_units for slot in decision.slots] == [COUNTED, 0]
    assert decision.took_units == COUNTED
    take = found.take(decision)
    assert take is not None
    assert (take.shown, take.places, [index for index, _ in take.offers]) == ((0, 2), 2, [0, 1])
    spec = orjson.loads(take.argument())
    assert spec["drawn"] == [0, 2]
    assert [index for index, _ in spec["offers"]] == [0, 1]


def test_what_is_exhausted_is_left_out_of_the_next_draw_drawn_or_not(inside: Inside) -> None:
    found = inside().without([(1, 1)])
    decision = found.draws.drawn()
    assert shown(decision) == ["a", "c"]
    assert decision.slots[0].distribution is not None
    assert decision.slots[0].distribution.served == (1 / 3, 0.0, 1 / 3, 1 / 3)
    assert Removed("b", "cap_exhausted") in decision.slots[0].removed
    again = found.without([(0, 1)])
    decision = again.draws.drawn()
    assert shown(decision) == ["c", "d"]
    assert again.take(decision) is None, "nothing that is counted is left"


def test_without_counts_what_has_limits_is_not_served_and_nothing_is_taken(inside: Inside) -> None:
    decision = inside().without_units()
    assert shown(decision) == ["c", "d"]
    assert [slot.took_units for slot in decision.slots] == [0, 0]


def test_a_plain_call_is_the_same_with_one_slot(inside: Inside) -> None:
    found = inside(None)
    decision = found.draws.drawn()
    assert (decision.chosen.offer_id, decision.took_units, decision.slots[0].took_units) == ("a", COUNTED, 0)
    take = found.take(decision)
    assert take is not None
    assert take.shown == (0,)
    decision = found.without([(0, 1)]).draws.drawn()
    assert (decision.chosen.offer_id, decision.took_units) == ("b", HOLDS_STOCK)
    assert decision.removed == (Removed("a", "cap_exhausted"),)


def test_nobody_has_no_relations(inside: Inside) -> None:
    assert inside(customer=None).draws.excludes == {}
    assert inside().draws.excludes == {0: frozenset({1})}


@pytest.mark.parametrize("slots", [None, 2, 5])
def test_a_call_that_is_spooled_on_its_way_gets_the_fallback(inside: Inside, slots: int | None) -> None:
    """Its message waits for draws that were not made; some of five slots had nothing to show before."""

    asked = None if slots is None else [SlotAsked(str(index)) for index in range(slots)]
    found = inside(asked)
    decision = found.draws.drawn()
    take = found.take(decision)
    assert isinstance(take, LimitedTake)
    slate = Slate(decision, FALLBACK)
    payload = events.limited_payload(decision, FALLBACK) if slots is None else events.slate_payload(slate)
    message = events.encode(events.DECISION, NOW, payload)
    # While the stream is there, what is logged is the decision.
    assert events.decision_from(events.decode("1-0", message).payload) == decision
    spooled = events.decision_from(events.decode("1-0", events.with_draws(message, take.without_units())).payload)
    assert (spooled.use, shown(spooled)[0], len(spooled.slots)) == ("fallback", "nothing", slots or 1)
    assert all(slot.propensity is None for slot in spooled.slots)
    if slots is not None:
        assert slate.resolved(take.without_units()) == spooled


def test_what_shows_the_fallback_alone_takes_nothing(inside: Inside) -> None:
    found = inside().without([(index, 1) for index in range(4)])
    decision = found.draws.drawn()
    assert decision.use == "fallback"
    assert found.take(decision) is None
    assert replace(found, offers=()).take(decision) is None
