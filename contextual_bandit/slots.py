"""Several slots of one decision: what is asked of each, how they are drawn, and each as a decision of its own.

Slots are sequential draws without replacement from the loop's ordinary policy: each has the exact probability of what
it shows, given what the slots before it show (docs/decisions/0014-several-slots.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from contextual_bandit.actions import no_offer
from contextual_bandit.limits import (
    GONE,
    REASONS,
    SHOWN_ABOVE,
    SLOT_EXCLUDED,
    Draw,
    SlotDraw,
    as_fallback,
    drawn_from,
    mask,
    masked_indices,
)
from contextual_bandit.types import (
    Action,
    Context,
    Decision,
    Distribution,
    Features,
    LoggedInteraction,
    OwnChoice,
    Removed,
    SlotDecision,
    Use,
)

# The namespace of a slot's own features.
SLOT_NAMESPACE = "T"
MOST_SLOTS = 50


@dataclass(frozen=True, slots=True)
class SlotAsked:
    """One slot of a request: its id, its features, the offer of its baseline, and the offers that it must not show."""

    slot_id: str
    features: Features = field(default_factory=dict)
    baseline: str | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slate:
    """A decision whose slots wait to be drawn.

    Each slot's distribution is over all actions of the decision, as if it were the only one. ``tiers`` are each slot's
    priorities, or with ``preferred`` the order of its baseline. ``floor`` and ``share`` (of the promoted) hold over
    what is left to a slot. ``fallback`` is shown, once, by the first slot for which nothing is left.
    """

    decision: Decision
    fallback: Action
    floor: float = 0.0
    share: float = 0.0
    tiers: tuple[tuple[int, ...] | None, ...] | None = None
    preferred: bool = False

    @property
    def draws(self) -> tuple[SlotDraw, ...]:
        """What each slot is drawn from."""
        decision = self.decision
        promoted = tuple(action.promoted for action in decision.actions)
        return tuple(
            SlotDraw(
                slot.distribution.served, slot.draw, self.tiers[index] if self.tiers else None, self.preferred,
                _proportions(slot.distribution, is_own=not self.preferred), self.floor, self.share, promoted,
                _indices(decision, slot.exclude),
            )
            for index, slot in enumerate(decision.slots)
            if slot.distribution is not None and slot.draw is not None
        )  # fmt: skip

    def resolved(self, draws: Sequence[Draw]) -> Decision:
        """The decision as its slots were drawn; a fallback when nothing was left to any of them."""
        decision, taken, shown = self.decision, set[int](), set[str]()
        removed = [
            tuple(Removed(decision.actions[index].offer_id, REASONS[code]) for index, code in one.masked)
            for one in draws
        ]  # fmt: skip
        if all(drawn.chosen < 0 for drawn in draws):
            both = zip(decision.slots, removed, strict=True)
            bare = tuple(replace(asked, removed=(*asked.removed, *out)) for asked, out in both)
            return all_fallback(replace(decision, slots=bare), self.fallback)
        slots = []
        for asked, source, drawn, out in zip(decision.slots, self.draws, draws, removed, strict=True):
            slot = replace(asked, chosen=drawn.chosen, removed=out, took_units=drawn.took)
            if drawn.chosen < 0 or asked.distribution is None:
                action = fallback_for(asked, self.fallback, shown)
                slots.append(replace(slot, distribution=None, propensity=None, draw=None, fallback=action))
                shown.add(action.offer_id)
                continue
            served = drawn_from(source, source.excluded | taken, drawn)
            given = Distribution(asked.distribution.policy, served)
            slots.append(replace(slot, distribution=given, propensity=served[drawn.chosen]))
            taken.add(drawn.chosen)
            shown.add(decision.actions[drawn.chosen].offer_id)
        return replace(decision, slots=tuple(slots), took_units=slots[0].took_units)


def fallback_for(slot: SlotDecision, fallback: Action, shown: set[str]) -> Action:
    """What a slot shows for which nothing is left: the fallback, or nothing when it is shown already or excluded."""
    return no_offer() if fallback.offer_id in shown or fallback.offer_id in slot.exclude else fallback


def all_fallback(decision: Decision, fallback: Action) -> Decision:
    """The decision when no slot had an offer left: the fallback in the first that may show it, never learned from."""
    shown: set[str] = set()
    slots: list[SlotDecision] = []
    for slot in decision.slots:
        action = fallback_for(slot, fallback, shown)
        shown.add(action.offer_id)
        # As of a plain decision: what the first slot shows is the only action.
        slots.append(replace(slot, chosen=-1 if slots else 0, distribution=None, propensity=None, draw=None,
                             took_units=0, fallback=action))  # fmt: skip
    first = slots[0].fallback or fallback
    return replace(as_fallback(decision, decision.removed, first), slots=tuple(slots))


def slot_seed(decision_id: str, index: int) -> str:
    r"""What a slot's uniform number derives from beside the loop: that of the first slot is a plain decision's.

    >>> slot_seed("visit-1", 0), slot_seed("visit-1", 2)
    ('visit-1', 'visit-1\x002')
    """
    # No id can hold the control character.
    return decision_id if index == 0 else f"{decision_id}\x00{index}"


def own_seed(decision_id: str, index: int) -> str:
    """What the number of an apprentice's own choice derives from: never that of what is served."""
    return f"{slot_seed(decision_id, index)}\x00own"


def slot_context(context: Context, features: Features) -> Context:
    """The context with a slot's own features."""
    return Context({**context.namespaces, SLOT_NAMESPACE: features}) if features else context


def slot_view(decision: Decision, index: int) -> Decision:
    """One slot as a plain decision over the same actions; a plain decision is its own view.

    The offers that earlier slots show, or that this one must not, stand among the removed with reasons of their own. A
    slot that shows a fallback is one, of use ``fallback`` unless the customer is held out.
    """
    if not decision.has_slots:
        return decision
    slot = decision.slots[index]
    context = slot_context(decision.context, slot.features)
    if slot.fallback is not None:
        bare = replace(slot, chosen=0, fallback=None)
        removed = (*decision.removed, *slot.removed)
        return replace(
            decision, context=context, actions=(slot.fallback,), removed=removed, slots=(bare,),
            use="holdout" if decision.use == "holdout" else "fallback", took_units=0,
        )  # fmt: skip
    above = {earlier.chosen for earlier in decision.slots[:index] if earlier.fallback is None}
    gone = [Removed(decision.actions[one].offer_id, SHOWN_ABOVE) for one in sorted(above)]
    excluded = sorted(_indices(decision, slot.exclude) - above)
    gone += [Removed(decision.actions[one].offer_id, SLOT_EXCLUDED) for one in excluded]
    return replace(
        decision,
        context=context,
        removed=(*decision.removed, *slot.removed, *gone),
        slots=(slot,),
        took_units=slot.took_units,
    )


def slot_views(decision: Decision) -> Iterator[Decision]:
    """Each slot as a plain decision, in their order."""
    return (slot_view(decision, index) for index in range(len(decision.slots)))


def gone_indices(view: Decision) -> frozenset[int]:
    """Of a slot's view: the actions that were not left to it, for what other slots show or what it excludes."""
    names = {entry.offer_id for entry in view.removed if entry.reason in GONE}
    if not names:
        return frozenset()
    return frozenset(index for index, action in enumerate(view.actions) if action.offer_id in names)


def slot_interactions(interaction: LoggedInteraction) -> Iterator[LoggedInteraction]:
    """Each slot as an interaction of its own, with its own reward; a plain one as it is.

    Each keeps the sequence of the whole. ``use`` is ``fallback`` for slots that no policy filled.
    """
    decision = interaction.decision
    if not decision.has_slots:
        yield interaction
        return
    for view, reward in zip(slot_views(decision), interaction.slot_rewards, strict=True):
        use = "fallback" if view.use == "fallback" else interaction.use
        yield replace(interaction, decision=view, reward=reward, use=use, slot_rewards=())


def use_of(decision: Decision) -> Use:
    """What an interaction of a decision is for: one that an apprentice watched is learned, whatever was served."""
    return "learn" if decision.use == "baseline" and decision.own else decision.use


def lessons(interaction: LoggedInteraction, low: float = 0.0, high: float = 1.0) -> Iterator[LoggedInteraction]:
    """What a policy learns from an interaction: each slot that it filled, among the actions that were left to it.

    An apprentice learns its own choice instead: with the reward of a match where the baseline showed the same, and with
    the probability of its own draw. The label cannot stand on what was served: that had no other choice.

    Args:
        interaction: a closed decision.
        low: smallest reward of the loop.
        high: largest; what a match is worth.
    """
    for index, one in enumerate(slot_interactions(interaction)):
        if one.decision.use == "baseline" and interaction.decision.own:
            imitated = _imitation(one, interaction.decision.own[index], low, high)
            if imitated is not None:
                yield imitated
        elif one.use == "learn":
            yield _among_left(one) if interaction.decision.has_slots else one


def is_match(decision: Decision, index: int) -> bool:
    """Whether an apprentice's own choice for a slot is what the slot shows."""
    slot = decision.slots[index]
    return slot.fallback is None and decision.own[index].chosen == slot.chosen


def miss_reward(low: float, high: float) -> float:
    """What an apprentice's choice is worth that the baseline did not make: 0, or the least where 0 is no less.

    >>> miss_reward(-1.0, 1.0), miss_reward(5.0, 10.0), miss_reward(-1.0, 0.0)
    (0.0, 5.0, -1.0)
    """
    return 0.0 if low <= 0.0 < high else low


def _imitation(one: LoggedInteraction, own: OwnChoice, low: float, high: float) -> LoggedInteraction | None:
    """One slot's lesson for an apprentice; None where its choice was not to be had, so that it says nothing.

    Its draw is from all actions, so its probability among those left to the slot is in proportion.
    """
    view = one.decision
    out = masked_indices(view)
    if own.chosen in out or own.chosen < 0:
        return None
    left = mask(own.distribution.served, out) if out else own.distribution.served
    reward = high if own.chosen == view.slots[0].chosen else miss_reward(low, high)
    given = Distribution(own.distribution.policy, left)
    slot = replace(
        view.slots[0], chosen=own.chosen, distribution=given, propensity=left[own.chosen], draw=own.draw
    )  # fmt: skip
    return _among_left(replace(one, decision=replace(view, slots=(slot,)), reward=reward))


def _among_left(interaction: LoggedInteraction) -> LoggedInteraction:
    view = interaction.decision
    out, slot = masked_indices(view), view.slots[0]
    if not out or slot.distribution is None:
        return interaction
    left = [index for index in range(len(view.actions)) if index not in out]
    given = slot.distribution
    slot = replace(
        slot,
        chosen=left.index(slot.chosen),
        distribution=Distribution(
            tuple(given.policy[index] for index in left), tuple(given.served[index] for index in left)
        ),
    )
    return replace(
        interaction, decision=replace(view, actions=tuple(view.actions[index] for index in left), slots=(slot,))
    )


def baseline_order(
    tiers: Sequence[int], slots: Sequence[SlotAsked], actions: Sequence[Action]
) -> tuple[tuple[int, ...], ...]:
    """Each slot's order of the actions when a baseline serves.

    A slot's own baseline goes first, and those that later slots name for themselves go last.

    Args:
        tiers: the order without slots; higher goes first.
        slots: what is asked of each.
        actions: the eligible ones.
    """
    places: Mapping[str, int] = {action.offer_id: index for index, action in enumerate(actions)}
    named = [places.get(slot.baseline or "") for slot in slots]
    top, span = max(tiers) + 1, max(tiers) - min(tiers) + 1
    found = []
    for index, own in enumerate(named):
        later = {place for place in named[index + 1 :] if place is not None and place != own}
        order = [tier - span if place in later else tier for place, tier in enumerate(tiers)]
        if own is not None:
            order[own] = top
        found.append(tuple(order))
    return tuple(found)


def _indices(decision: Decision, names: Sequence[str]) -> frozenset[int]:
    if not names:
        return frozenset()
    wanted = set(names)
    return frozenset(index for index, action in enumerate(decision.actions) if action.offer_id in wanted)


def _proportions(given: Distribution, *, is_own: bool) -> tuple[float, ...]:
    """What is left of a distribution in proportion: the policy's own, or of a baseline the even one."""
    return given.policy if is_own else given.served
