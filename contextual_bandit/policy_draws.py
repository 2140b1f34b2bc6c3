"""Decisions that the policy draws itself, slot after slot: caps, priorities and exclusions are left out before.

Elsewhere the policy gives probabilities and the service draws (``contextual_bandit.limits``). Here the draw happens
inside the policy, so that each slot's propensity is the one that it was drawn by, with the policy's own epsilon as the
floor (docs/decisions/0017-ccb-inside.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from contextual_bandit.limits import LOWER_PRIORITY, REASONS, as_fallback, below
from contextual_bandit.policy import uniform_number
from contextual_bandit.slots import all_fallback, fallback_for, own_seed, slot_seed, slot_views
from contextual_bandit.types import (
    Action,
    Context,
    Decision,
    Distribution,
    Features,
    OwnChoice,
    Removed,
    SlotDecision,
)

EXCLUDED_BY = 3
_SEEDS = 2**53


@dataclass(frozen=True, slots=True)
class SlotTask:
    """One slot to draw: its own features, the actions left to it before anything is drawn above, and its seed."""

    features: Features
    left: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class SlotDrawn:
    """What was drawn: -1 where nothing was left; the probability of each action, 0 where it was not left.

    ``number`` in [0, 1) is what the draw was made by, in the policy's own order of the actions.
    """

    chosen: int
    probabilities: tuple[float, ...]
    number: float


class SlateDrawer(Protocol):
    """Draws slots by itself."""

    def draw(
        self, context: Context, actions: Sequence[Action], tasks: Sequence[SlotTask], epsilon: float
    ) -> Sequence[SlotDrawn]:
        """What each slot shows; each of K actions left to a slot has at least epsilon / K."""


@dataclass(frozen=True, slots=True)
class PolicyDraws:
    """A decision that waits to be drawn by its policy.

    Attributes:
        decision: its slots are asked for and not drawn; of a plain decision there is one.
        drawer: the policy.
        epsilon: its floor, where its setting names none.
        fallback: shown, once, by the first slot for which nothing is left.
        tiers: each action's priority; of what is left only the highest competes.
        excludes: below the action of this index, those must not be shown.
        exhausted: what must not be shown at all: the reason's code by index.
        took: how a show of an action counts, by index.
        seed: of a slot, from the decision's id and the slot's place.
    """

    decision: Decision
    drawer: SlateDrawer
    epsilon: float
    fallback: Action
    tiers: tuple[int, ...] | None = None
    excludes: Mapping[int, frozenset[int]] = field(default_factory=dict)
    exhausted: Mapping[int, int] = field(default_factory=dict)
    took: Mapping[int, int] = field(default_factory=dict)
    seed: Callable[[str, int], str] = slot_seed

    def drawn(self) -> Decision:
        """The decision as the policy drew it; a fallback when nothing was left to any slot."""
        decision = self.decision
        found = self._draws()
        removed = [
            tuple(Removed(decision.actions[index].offer_id, REASONS[code]) for index, code in sorted(masked.items()))
            for _, masked in found
        ]
        if not decision.has_slots:
            everything = (*decision.removed, *removed[0])
            if found[0][0].chosen < 0:
                return as_fallback(decision, everything, self.fallback)
            slot = self._slot(decision.slots[0], found[0][0])
            return replace(
                decision, removed=everything, slots=(replace(slot, took_units=0),), took_units=slot.took_units
            )
        shown: set[str] = set()
        slots = []
        for asked, (one, _), out in zip(decision.slots, found, removed, strict=True):
            slot = replace(self._slot(asked, one), removed=out)
            if one.chosen < 0:
                slot = replace(slot, fallback=fallback_for(asked, self.fallback, shown))
            shown.add((slot.fallback or decision.actions[one.chosen]).offer_id)
            slots.append(slot)
        decision = replace(decision, slots=tuple(slots), took_units=slots[0].took_units)
        is_empty = all(slot.chosen < 0 for slot in slots)
        return all_fallback(decision, self.fallback) if is_empty else decision

    def own_choices(self) -> tuple[OwnChoice, ...]:
        """What the policy itself would show, where a baseline is served: a slate of its own, by numbers of its own."""
        return tuple(
            OwnChoice(
                one.chosen, Distribution(one.probabilities, one.probabilities),
                one.probabilities[one.chosen] if one.chosen >= 0 else 0.0, one.number,
            )
            for one, _ in replace(self, seed=own_seed)._draws()
        )  # fmt: skip

    def _slot(self, asked: SlotDecision, one: SlotDrawn) -> SlotDecision:
        if one.chosen < 0:
            return replace(asked, chosen=-1, distribution=None, propensity=None, draw=None, took_units=0)
        given = Distribution(one.probabilities, one.probabilities)
        return replace(
            asked, chosen=one.chosen, distribution=given, propensity=one.probabilities[one.chosen], draw=one.number,
            took_units=self.took.get(one.chosen, 0),
        )  # fmt: skip

    def _draws(self) -> list[tuple[SlotDrawn, Mapping[int, int]]]:
        """Each slot's draw, and what was left out of it with the reason's code."""
        slots = self.decision.slots
        left, masked = self._left(0, ())
        if self._is_unconditional(len(left)):
            found = self._ask([self.task(index, left) for index in range(len(slots))])
            return [(one, masked) for one in found]
        drawn: list[tuple[SlotDrawn, Mapping[int, int]]] = []
        for index in range(len(slots)):
            above = [one.chosen for one, _ in drawn]
            left, masked = self._left(index, above)
            # What is drawn above stands fast: it is all that is left there.
            fixed = [self.task(place, () if chosen < 0 else (chosen,)) for place, chosen in enumerate(above)]
            drawn.append((self._ask([*fixed, self.task(index, left)])[-1], masked))
        return drawn

    def _is_unconditional(self, left: int) -> bool:
        """Whether every slot has the same to choose from, and enough of it, whatever is drawn above."""
        slots = self.decision.slots
        if len(slots) == 1:
            return True
        return self.tiers is None and not self.excludes and left >= len(slots) and not any(one.exclude for one in slots)

    def _left(self, index: int, above: Sequence[int]) -> tuple[tuple[int, ...], Mapping[int, int]]:
        """What is left to a slot below what earlier ones show, and what is left out with the reason's code."""
        actions = self.decision.actions
        names = set(self.decision.slots[index].exclude)
        gone = {place for place, action in enumerate(actions) if action.offer_id in names}.union(above)
        masked = {place: EXCLUDED_BY for one in above for place in self.excludes.get(one, ())}
        masked = {place: code for place, code in {**masked, **self.exhausted}.items() if place not in gone}
        masked |= dict.fromkeys(below(self.tiers, {*masked, *gone}), LOWER_PRIORITY)
        left = tuple(place for place in range(len(actions)) if place not in masked and place not in gone)
        return left, masked

    def task(self, index: int, left: tuple[int, ...]) -> SlotTask:
        """What one slot is drawn from."""
        decision = self.decision
        number = uniform_number(decision.loop, self.seed(decision.decision_id, index))
        return SlotTask(decision.slots[index].features, left, int(number * _SEEDS))

    def _ask(self, tasks: Sequence[SlotTask]) -> Sequence[SlotDrawn]:
        if not any(task.left for task in tasks):
            return [SlotDrawn(-1, (), 0.0) for _ in tasks]
        return self.drawer.draw(self.decision.context, self.decision.actions, tasks, self.epsilon)


def drawer_of(policy: object) -> SlateDrawer | None:
    """What draws in a policy that draws by itself: its ``slates``, if it has any."""
    return cast("SlateDrawer | None", getattr(policy, "slates", None))


def drawn_again(decision: Decision, drawer: SlateDrawer, epsilon: float) -> Sequence[SlotDrawn]:
    """What a policy draws for a logged decision, slot by slot, among what was left to each.

    Args:
        decision: as it was logged, with use ``learn``.
        drawer: the policy, as of the decision's own snapshot.
        epsilon: the loop's floor of that time.
    """
    waiting = PolicyDraws(decision, drawer, epsilon, decision.actions[0])
    tasks = []
    for index, view in enumerate(slot_views(decision)):
        names = {entry.offer_id for entry in view.removed}
        is_empty = view.slots[0].distribution is None
        left = () if is_empty else tuple(
            place for place, action in enumerate(decision.actions) if action.offer_id not in names
        )  # fmt: skip
        tasks.append(waiting.task(index, left))
    return drawer.draw(decision.context, decision.actions, tasks, epsilon)
