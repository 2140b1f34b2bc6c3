"""The one path from eligible actions to a decision: distribution, floor, promotion, one seeded draw (step Decide)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from contextual_bandit.baseline import BASELINE, BaselinePolicy
from contextual_bandit.holdout import in_holdout
from contextual_bandit.learning_arguments import SLATES_POLICY
from contextual_bandit.limits import HOLDOUT, as_fallback, left_over, mask, masked_indices
from contextual_bandit.loops import LoopConfig
from contextual_bandit.policy import FirstActionPolicy, Policy, pick, uniform_number, with_floor, with_promotion
from contextual_bandit.policy_draws import PolicyDraws, drawer_of
from contextual_bandit.slots import (
    Slate,
    SlotAsked,
    all_fallback,
    baseline_order,
    gone_indices,
    own_seed,
    slot_context,
    slot_seed,
)
from contextual_bandit.types import (
    Action,
    Context,
    Decision,
    Distribution,
    Features,
    OwnChoice,
    Removed,
    SlotDecision,
    Use,
)

_NOT_DRAWN = SlotDecision(-1, None, None, None)


@dataclass(frozen=True, slots=True)
class Moment:
    """What was asked: who, when, under which id. ``now`` is the service's clock, ``occurred_at`` feeds features."""

    decision_id: str
    customer_id: str | None
    now: datetime
    occurred_at: datetime
    deferred: bool
    request_hash: str


@dataclass(frozen=True, slots=True)
class ServingPolicy:
    """The policy that decides, with the names that the log keeps of it.

    ``stands_in``: it is the campaign manager's baseline, in place of the loop's own policy: a kill switch is on.
    """

    policy: Policy
    policy_id: str
    snapshot_id: str
    stands_in: bool = False


def stand_in(loop: LoopConfig) -> ServingPolicy:
    """What serves while a loop's kill switch is on; no snapshot has a part in it."""
    return ServingPolicy(BaselinePolicy(loop.baseline), BASELINE, BASELINE, stands_in=True)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a decision is made from: the context and where it came from, the eligible actions and the removed offers.

    ``fallback`` is served when no action is left; it is also what a holdout that gets no offer gets.
    """

    context: Context
    actions: Sequence[Action]
    removed: Sequence[Removed]
    fallback: Action
    sources: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


def decide(loop: LoopConfig, serving: ServingPolicy, moment: Moment, choice: Choice) -> Decision:
    """Pick one action with an exact probability.

    In mode ``online`` the loop's policy decides; in ``apprentice`` and ``logging_only`` the sender's first action
    is served with probability 1. An apprentice's own choice is logged beside it, and learned. Customers of the holdout
    get the baseline or no offer. Without an action the fallback is served, with no probability. Where the baseline
    stands in, it decides for everybody but those who get no offer, and its decisions have use ``baseline``.
    """
    inside = drawn_inside(loop, serving, moment, choice)
    if inside is not None:
        return inside.drawn()
    decision = _undecided(loop, serving, moment, choice)
    if not choice.actions:
        return as_fallback(decision, choice.removed, choice.fallback)
    policy: Policy = serving.policy
    if gets_no_offer(loop, decision):
        decision = _nothing_offered(decision, choice)
        policy = FirstActionPolicy()
    elif is_by_campaign_baseline(decision):
        policy = BaselinePolicy(loop.baseline)
    elif decision.use == "baseline":
        if loop.learning_mode == "apprentice":
            decision = replace(decision, own=_own_choices(loop, policy, decision, ({},)))
        policy = FirstActionPolicy()
    given = policy.distribution(choice.context, decision.actions)
    served = serve(loop, decision, given)
    number = uniform_number(loop.loop, moment.decision_id)
    chosen = pick(served, number)
    return replace(decision, slots=(SlotDecision(chosen, Distribution(tuple(given), served), served[chosen], number),))


def decide_slots(
    loop: LoopConfig,
    serving: ServingPolicy,
    moment: Moment,
    choice: Choice,
    asked: Sequence[SlotAsked],
    priorities: Sequence[int] | None = None,
) -> Slate | Decision:
    """Prepare several slots to be drawn: each one's distribution over all eligible actions, with its own features.

    Modes and holdout are as for one slot; where a baseline serves, each slot gets its own, or else the next of the
    baseline's order that is not shown yet. Without an action, or for a holdout without offers, there is nothing to
    draw and the decision itself is given; so it is where the policy draws itself.

    Args:
        loop: the loop's settings.
        serving: the policy that decides.
        moment: what was asked, when and by whom.
        choice: the eligible actions and what else the decision is made from.
        asked: the slots, with ids of their own.
        priorities: each action's, on loops with priority tiers.
    """
    inside = drawn_inside(loop, serving, moment, choice, asked)
    if inside is not None:
        return replace(inside, tiers=None if priorities is None else tuple(priorities)).drawn()
    slots = _not_drawn(asked)
    decision = replace(_undecided(loop, serving, moment, choice), slots=slots)
    if not choice.actions:
        return all_fallback(decision, choice.fallback)
    if gets_no_offer(loop, decision):
        removed = _nothing_offered(decision, choice).removed
        return replace(all_fallback(decision, choice.fallback), removed=removed, use=decision.use)
    numbers = [uniform_number(loop.loop, slot_seed(moment.decision_id, index)) for index in range(len(asked))]
    is_campaigns = is_by_campaign_baseline(decision)
    if decision.use == "baseline" and not is_campaigns and loop.learning_mode == "apprentice":
        own = _own_choices(loop, serving.policy, decision, [slot.features for slot in asked])
        decision = replace(decision, own=own)
    if decision.use == "learn":
        slots = _by_policy(loop, serving.policy, decision, numbers)
        tiers = None if priorities is None else (tuple(priorities),) * len(asked)
        decision = replace(decision, slots=slots)
        return Slate(decision, choice.fallback, loop.exploration_floor, loop.promoted_share, tiers)
    order: Sequence[int] = range(len(choice.actions), 0, -1)
    baseline: Policy = FirstActionPolicy()
    if is_campaigns:
        baseline = BaselinePolicy(loop.baseline)
        order = baseline.tiers(decision.actions)
    given = Distribution(baseline.distribution(choice.context, decision.actions), _even(len(choice.actions)))
    slots = tuple(replace(slot, distribution=given, draw=number) for slot, number in zip(slots, numbers, strict=True))
    orders = baseline_order(order, asked, decision.actions)
    tiers = orders if priorities is None else tuple(combined(priorities, one) for one in orders)
    return Slate(replace(decision, slots=slots), choice.fallback, tiers=tiers, preferred=True)


def drawn_inside(
    loop: LoopConfig,
    serving: ServingPolicy,
    moment: Moment,
    choice: Choice,
    asked: Sequence[SlotAsked] | None = None,
) -> PolicyDraws | None:
    """The decision of a policy that draws itself, before that; None where another draws, or there is nothing to draw.

    The loop's floor is the policy's epsilon; nothing is promoted.
    """
    drawer = drawer_of(serving.policy)
    if drawer is None or not choice.actions:
        return None
    decision = _undecided(loop, serving, moment, choice)
    slots = _not_drawn(asked) if asked is not None else (_NOT_DRAWN,)
    waiting = PolicyDraws(replace(decision, slots=slots), drawer, loop.exploration_floor, choice.fallback)
    return waiting if decision.use == "learn" else None


def serve(loop: LoopConfig, decision: Decision, given: Sequence[float]) -> tuple[float, ...]:
    """The distribution that is drawn from: the policy's with floor and promotion, and without what was masked.

    Only what the loop's own policy gave is changed: a baseline stays as it is. ``decision`` has one slot, or is the
    view of one: what was not left to it counts for neither floor nor promotion. What a policy gave that draws itself
    was drawn from as it is.
    """
    if decision.policy_id.startswith(SLATES_POLICY):
        out = masked_indices(decision)
        return mask(given, out) if any(given[index] for index in out) else tuple(given)
    served, gone = tuple(given), gone_indices(decision)
    if decision.use == "learn":
        promoted = [action.promoted for action in decision.actions] if loop.promoted_share else []
        if gone:
            served = left_over(given, gone, loop.exploration_floor, promoted, loop.promoted_share)
        else:
            served = with_promotion(with_floor(given, loop.exploration_floor), promoted, loop.promoted_share)
    masked = masked_indices(decision)
    return mask(served, masked) if masked - gone else served


def is_by_campaign_baseline(decision: Decision) -> bool:
    """Whether the campaign manager's baseline decides: for a customer of the holdout, or while it stands in."""
    return decision.use == "holdout" or (decision.use == "baseline" and decision.policy_id == BASELINE)


def gets_no_offer(loop: LoopConfig, decision: Decision) -> bool:
    """Whether the customer is held out and gets nothing, also while the baseline stands in."""
    return (
        loop.holdout.serves == "no_offer"
        and is_by_campaign_baseline(decision)
        and in_holdout(loop.loop, decision.customer_id, loop.holdout)
    )


def combined(first: Sequence[int] | None, second: Sequence[int]) -> tuple[int, ...]:
    """One order out of two: by the first, and among its equals by the second."""
    pairs = list(zip(first if first is not None else (0,) * len(second), second, strict=True))
    places = {pair: place for place, pair in enumerate(sorted(set(pairs)))}
    return tuple(places[pair] for pair in pairs)


def _undecided(loop: LoopConfig, serving: ServingPolicy, moment: Moment, choice: Choice) -> Decision:
    use: Use = "learn"
    if choice.actions and serving.stands_in:
        use = "baseline"
    elif choice.actions and in_holdout(loop.loop, moment.customer_id, loop.holdout):
        use = "holdout"
    elif choice.actions and loop.learning_mode != "online":
        use = "baseline"
    return Decision(
        loop=loop.loop,
        decision_id=moment.decision_id,
        decided_at=moment.now,
        occurred_at=moment.occurred_at,
        customer_id=moment.customer_id,
        context=choice.context,
        actions=tuple(choice.actions),  # the very same, where they are a tuple
        removed=tuple(choice.removed),
        slots=(),
        policy_id=serving.policy_id,
        snapshot_id=serving.snapshot_id,
        learning_mode=loop.learning_mode,
        use=use,
        deferred=moment.deferred,
        request_hash=moment.request_hash,
        sources=choice.sources,
        dropped=choice.dropped,
    )


def _nothing_offered(decision: Decision, choice: Choice) -> Decision:
    """A holdout without offers: all of them are removed, and the fallback is the only action."""
    removed = [*choice.removed, *(Removed(action.offer_id, HOLDOUT) for action in choice.actions)]
    shown = choice.fallback.offer_id
    others = tuple(entry for entry in removed if entry.offer_id != shown)
    return replace(decision, actions=(choice.fallback,), removed=others)


def _by_policy(
    loop: LoopConfig, policy: Policy, decision: Decision, numbers: Sequence[float]
) -> tuple[SlotDecision, ...]:
    """The slots with the policy's distributions, one prediction for those that share their features."""
    known: list[tuple[Features, Distribution]] = []
    slots = []
    for slot, number in zip(decision.slots, numbers, strict=True):
        found = next((given for features, given in known if features == slot.features), None)
        if found is None:
            given = tuple(policy.distribution(slot_context(decision.context, slot.features), decision.actions))
            found = Distribution(given, serve(loop, replace(decision, slots=()), given))
            known.append((slot.features, found))
        slots.append(replace(slot, distribution=found, draw=number))
    return tuple(slots)


def _own_choices(
    loop: LoopConfig, policy: Policy, decision: Decision, slots: Sequence[Features]
) -> tuple[OwnChoice, ...]:
    """What the model itself would show in each slot: its own draw, by a number that the served one does not depend on.

    ``slots`` are the features of each.
    """
    drawer = drawer_of(policy)
    if drawer is not None:
        waiting = decision if decision.has_slots else replace(decision, slots=(_NOT_DRAWN,))
        return PolicyDraws(waiting, drawer, loop.exploration_floor, decision.actions[0]).own_choices()
    found = []
    for index, features in enumerate(slots):
        given = tuple(policy.distribution(slot_context(decision.context, features), decision.actions))
        served = serve(loop, replace(decision, use="learn", slots=()), given)
        number = uniform_number(loop.loop, own_seed(decision.decision_id, index))
        chosen = pick(served, number)
        found.append(OwnChoice(chosen, Distribution(given, served), served[chosen], number))
    return tuple(found)


def _not_drawn(asked: Sequence[SlotAsked]) -> tuple[SlotDecision, ...]:
    return tuple(
        SlotDecision(-1, None, None, None, slot.slot_id, index, slot.features, slot.baseline, slot.exclude)
        for index, slot in enumerate(asked)
    )


def _even(count: int) -> tuple[float, ...]:
    return (1.0 / count,) * count


def ranking(decision: Decision) -> list[tuple[str, float]]:
    """Offers with their served probabilities: the chosen one first, then by falling probability; none of a fallback.

    ``decision`` has one slot, or is the view of one.
    """
    slot = decision.slots[0]
    if slot.distribution is None:
        return []
    served = slot.distribution.served
    masked = masked_indices(decision)
    left = [index for index in range(len(served)) if index not in masked]
    # In falling order, the earlier of equals first.
    order = sorted(left, key=served.__getitem__, reverse=True)
    if slot.chosen in order:
        order.remove(slot.chosen)
        order.insert(0, slot.chosen)
    return [(decision.actions[index].offer_id, served[index]) for index in order]
