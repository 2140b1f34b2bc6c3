"""Every kind of decision is recomputed by what decided it: no false mismatch, and no lie that passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide, decide_slots, is_by_campaign_baseline
from contextual_bandit.limits import Draw, SlotDraw, draw, draw_slots, resolve
from contextual_bandit.loops import BaselineSetting, Holdout, LoopConfig
from contextual_bandit.slots import Slate, SlotAsked
from contextual_bandit.types import Action, Context, Decision, Distribution, LoggedInteraction
from evaluation.loop_audit import audit_loop

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ACTIONS = [Action(name, {}, {"r16": close}) for name, close in zip("abcde", (0.0, 2.0, 1.0, 3.0, 0.0), strict=True)]
FALLBACK = Action("no-offer", {})
LOOP = LoopConfig("homepage", exploration_floor=0.2)
BASELINE = BaselineSetting(top_n=3)
MODES: dict[str, LoopConfig] = {
    "online": LOOP,
    "apprentice": replace(LOOP, learning_mode="apprentice"),
    "logging only": replace(LOOP, learning_mode="logging_only"),
    "holdout": replace(LOOP, holdout=Holdout(0.99999), baseline=BASELINE),
    "holdout of an apprentice": replace(LOOP, holdout=Holdout(0.5), learning_mode="apprentice", baseline=BASELINE),
    "no offer": replace(LOOP, holdout=Holdout(0.99999, "no_offer")),
}
# What caps exhaust at the draw, by index.
EXHAUSTED: tuple[dict[int, int], ...] = ({}, {0: 1}, {3: 1, 1: 1}, {0: 1, 1: 1, 2: 1, 4: 1})


class Learned:
    """A policy whose probabilities depend on the slot's own features."""

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        boost = 2.0 if "T" in context.namespaces else 1.0
        masses = [boost + ord(action.offer_id) - 96.0 for action in actions]
        return tuple(mass / sum(masses) for mass in masses)

    def learn(self, interactions: Sequence[LoggedInteraction]) -> None:
        raise NotImplementedError


POLICY = Learned()


def moment_of(number: int) -> Moment:
    return Moment(f"d{number}", f"c{number}", NOW, NOW, False, "h")


def plain(loop: LoopConfig, number: int, exhausted: dict[int, int] | None = None) -> Decision:
    """As the service decides; with ``exhausted`` offers have limits, and a baseline is drawn from its order."""
    serving = ServingPolicy(POLICY, "policy-1", "snapshot-1")
    decision = decide(loop, serving, moment_of(number), Choice(Context({}), ACTIONS, (), FALLBACK))
    if exhausted is None or len(decision.actions) == 1:
        return decision
    slot, order = decision.slots[0], None
    assert slot.distribution is not None
    served = slot.distribution.served
    if is_by_campaign_baseline(decision):
        order = BaselinePolicy(loop.baseline).tiers(decision.actions)
        served = (1.0 / len(served),) * len(served)
        decision = replace(
            decision, slots=(replace(slot, distribution=Distribution(slot.distribution.policy, served)),)
        )
    drawn = draw(served, slot.draw or 0.0, exhausted, order, preferred=order is not None)
    return resolve(decision, drawn, FALLBACK, order)


def slate(loop: LoopConfig, number: int, exhausted: dict[int, int] | None = None) -> Decision:
    asked = [SlotAsked("top", {"size": "large"}), SlotAsked("side", baseline="d", exclude=("a",)), SlotAsked("low")]
    serving = ServingPolicy(POLICY, "policy-1", "snapshot-1")
    found = decide_slots(loop, serving, moment_of(number), Choice(Context({}), ACTIONS, (), FALLBACK), asked)
    return found.resolved(draw_slots(found.draws, exhausted or {})) if isinstance(found, Slate) else found


def audited(loop: LoopConfig, *decisions: Decision) -> Any:
    return audit_loop(decisions, loop, lambda view: POLICY.distribution(view.context, view.actions))


@pytest.mark.parametrize("kind", [plain, slate])
@pytest.mark.parametrize("mode", MODES)
def test_honest_decisions_of_every_mode_pass_to_the_bit(mode: str, kind: Callable[..., Decision]) -> None:
    loop = MODES[mode]
    decisions = [kind(loop, number, exhausted) for number in range(40) for exhausted in (None, *EXHAUSTED)]
    found = audited(loop, *decisions)
    assert found.mismatches == 0, found.examples
    # A slate of somebody who gets no offer is a fallback.
    assert found.checked == (0 if (mode, kind) == ("no offer", slate) else len(decisions))


def test_the_policy_is_asked_only_where_it_decided_or_watched() -> None:
    def never(view: Decision) -> tuple[float, ...]:
        raise LookupError("its snapshot is gone")

    for mode in ("logging only", "holdout", "no offer"):
        assert audit_loop([plain(MODES[mode], 1)], MODES[mode], never).passed


def test_a_baseline_that_served_something_else_is_caught() -> None:
    held = plain(MODES["holdout"], 1)
    assert not audited(MODES["online"], replace(held, use="learn")).passed
    assert not audited(replace(MODES["holdout"], baseline=BaselineSetting(top_n=1)), held).passed
    logged = plain(MODES["logging only"], 1)
    assert logged.slots[0].distribution is not None
    second = replace(logged.slots[0], chosen=1, distribution=Distribution((0.0, 1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0, 0.0)))  # fmt: skip
    assert not audited(MODES["logging only"], replace(logged, slots=(second,))).passed
    watched = slate(MODES["logging only"], 1)
    # The second slot has a baseline of its own.
    assert watched.shown(1).offer_id == "d"
    nameless = replace(watched, slots=(watched.slots[0], replace(watched.slots[1], baseline="c"), watched.slots[2]))
    assert not audited(MODES["logging only"], nameless).passed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draw": 0.5}, "draw logged 0.5"),
        ({"propensity": 0.9}, "propensity 0.9"),
        ({"distribution": Distribution((0.2,) * 5, (0.2,) * 5)}, "policy distribution"),
    ],
)
@pytest.mark.parametrize("kind", [plain, slate])
def test_every_lie_about_an_apprentices_own_choice_is_caught(
    kind: Callable[..., Decision], changes: dict[str, Any], message: str
) -> None:
    loop = MODES["apprentice"]
    watched = kind(loop, 3)
    own = watched.own[-1]
    assert audited(loop, watched).passed
    found = audited(loop, replace(watched, own=(*watched.own[:-1], replace(own, **changes))))
    assert (found.checked, found.mismatches) == (1, 1)
    assert message in found.examples[0]
    other = replace(own, chosen=(own.chosen + 1) % 5)
    assert not audited(loop, replace(watched, own=(*watched.own[:-1], other))).passed


def test_decisions_of_a_loop_with_tiers_are_believed_where_a_baseline_served() -> None:
    """What the catalogue's priorities were is not in the log."""
    loop = replace(MODES["holdout"], priority_tiers=True)
    decision = plain(loop, 1)
    slot = decision.slots[0]
    assert slot.distribution is not None
    tiers = (1, 0, 0, 0, 1)
    drawn: Draw = draw_slots([SlotDraw((0.2,) * 5, slot.draw or 0.0, tiers, preferred=True)], {})[0]
    even = replace(slot, distribution=Distribution(slot.distribution.policy, (0.2,) * 5))
    assert audited(loop, resolve(replace(decision, slots=(even,)), drawn, FALLBACK, tiers)).passed
