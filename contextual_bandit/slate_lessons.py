"""What a policy that draws several slots itself learns from a decision: all slots at once, each below the others.

The counterpart of ``contextual_bandit.slots.lessons``, by which a policy of single decisions learns slot by slot.
"""

from __future__ import annotations

from dataclasses import dataclass

from contextual_bandit.limits import SHOWN_ABOVE, mask
from contextual_bandit.slots import SLOT_NAMESPACE, is_match, miss_reward, slot_view
from contextual_bandit.types import Action, Context, Decision, Features, LoggedInteraction


@dataclass(frozen=True, slots=True)
class SlotLesson:
    """One slot: its own features and what was left to it, by rising index.

    ``chosen`` has ``propensity`` among what was left and earned ``reward``; of a slot that teaches nothing it is -1,
    and nothing is left.
    """

    features: Features
    left: tuple[int, ...] = ()
    chosen: int = -1
    propensity: float = 0.0
    reward: float = 0.0


@dataclass(frozen=True, slots=True)
class SlateLesson:
    """A decision's slots, from the place ``above`` on: a slot's own view begins at its place, all others at 0."""

    context: Context
    actions: tuple[Action, ...]
    above: int
    slots: tuple[SlotLesson, ...]


def slate_lesson(interaction: LoggedInteraction, low: float = 0.0, high: float = 1.0) -> SlateLesson | None:
    """What there is to learn from an interaction, whole or the view of one of its slots; None when nothing is.

    An apprentice learns its own choices, with the reward of a match where the baseline showed the same.

    Args:
        interaction: a closed decision.
        low: smallest reward of the loop.
        high: largest; what a match is worth.
    """
    decision = interaction.decision
    rewards = interaction.slot_rewards or (interaction.reward,) * len(decision.slots)
    slots: list[SlotLesson] = []
    taught: set[int] = set()
    for index, reward in enumerate(rewards):
        # The view of a slot has its features in the context already.
        features = {} if SLOT_NAMESPACE in decision.context.namespaces else decision.slots[index].features
        if decision.use == "baseline" and decision.own:
            found = _imitated(decision, index, frozenset(taught), low, high)
        else:
            found = _served(decision, index, reward) if interaction.use == "learn" else None
        slots.append(SlotLesson(features, *found) if found else SlotLesson(features))
        taught.add(slots[-1].chosen)
    while slots and slots[-1].chosen < 0:
        slots.pop()
    return SlateLesson(decision.context, decision.actions, decision.slots[0].index, tuple(slots)) if slots else None


def _served(decision: Decision, index: int, reward: float) -> tuple[tuple[int, ...], int, float, float] | None:
    """What was left to a slot, what it shows, with which propensity, and its reward; None when nothing was drawn."""
    slot = decision.slots[index]
    if slot.propensity is None or slot.fallback is not None or decision.use == "fallback":
        return None
    view = slot_view(decision, index)
    out = {entry.offer_id for entry in view.removed}
    return _left(decision, out, frozenset(), slot.chosen), slot.chosen, slot.propensity, reward


def _imitated(
    decision: Decision, index: int, taught: frozenset[int], low: float, high: float
) -> tuple[tuple[int, ...], int, float, float] | None:
    """The same of an apprentice's own choice; None where it was not to be had below its choices for earlier slots."""
    own, view = decision.own[index], slot_view(decision, index)
    if view.use == "fallback" or own.chosen < 0:
        return None
    # What the baseline showed above was no hindrance to the apprentice's own slate.
    out = {entry.offer_id for entry in view.removed if entry.reason != SHOWN_ABOVE}
    if own.chosen in taught or decision.actions[own.chosen].offer_id in out:
        return None
    left = _left(decision, out, taught, own.chosen)
    share = mask(own.distribution.served, frozenset(range(len(decision.actions))) - frozenset(left))[own.chosen]
    return left, own.chosen, share, high if is_match(decision, index) else miss_reward(low, high)


def _left(decision: Decision, out: set[str], taught: frozenset[int], chosen: int) -> tuple[int, ...]:
    return tuple(
        index for index, action in enumerate(decision.actions)
        if index == chosen or (action.offer_id not in out and index not in taught)
    )  # fmt: skip
