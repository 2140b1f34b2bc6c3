"""The one path from eligible actions to a decision: distribution, floor, promotion, one seeded draw (step Decide)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.holdout import in_holdout
from contextual_bandit.limits import HOLDOUT, as_fallback, mask, masked_indices
from contextual_bandit.loops import LoopConfig
from contextual_bandit.policy import FirstActionPolicy, Policy, pick, uniform_number, with_floor, with_promotion
from contextual_bandit.types import Action, Context, Decision, Distribution, Removed, SlotDecision


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
    """The policy that decides, with the names that the log keeps of it."""

    policy: Policy
    policy_id: str
    snapshot_id: str


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
    is served with probability 1. Customers of the holdout get the baseline or no offer. Without an action the fallback
    is served, with no probability.
    """
    decision = Decision(
        loop=loop.loop,
        decision_id=moment.decision_id,
        decided_at=moment.now,
        occurred_at=moment.occurred_at,
        customer_id=moment.customer_id,
        context=choice.context,
        actions=tuple(choice.actions),
        removed=tuple(choice.removed),
        slots=(),
        policy_id=serving.policy_id,
        snapshot_id=serving.snapshot_id,
        learning_mode=loop.learning_mode,
        use="learn",
        deferred=moment.deferred,
        request_hash=moment.request_hash,
        sources=choice.sources,
        dropped=choice.dropped,
    )
    if not choice.actions:
        return as_fallback(decision, choice.removed, choice.fallback)
    policy: Policy = serving.policy
    if in_holdout(loop.loop, moment.customer_id, loop.holdout):
        if loop.holdout.serves == "no_offer":
            removed = [*choice.removed, *(Removed(action.offer_id, HOLDOUT) for action in choice.actions)]
            shown = choice.fallback.offer_id
            others = tuple(entry for entry in removed if entry.offer_id != shown)
            decision = replace(decision, actions=(choice.fallback,), removed=others)
            policy = FirstActionPolicy()
        else:
            policy = BaselinePolicy(loop.baseline)
        decision = replace(decision, use="holdout")
    elif loop.learning_mode != "online":
        policy = FirstActionPolicy()
        decision = replace(decision, use="baseline")
    given = policy.distribution(choice.context, decision.actions)
    served = serve(loop, decision, given)
    number = uniform_number(loop.loop, moment.decision_id)
    chosen = pick(served, number)
    return replace(decision, slots=(SlotDecision(chosen, Distribution(tuple(given), served), served[chosen], number),))


def serve(loop: LoopConfig, decision: Decision, given: Sequence[float]) -> tuple[float, ...]:
    """The distribution that is drawn from: the policy's with floor and promotion, and without what was masked.

    Only what the loop's own policy gave is changed: a baseline stays as it is.
    """
    served = tuple(given)
    if decision.use == "learn":
        promoted = [action.promoted for action in decision.actions]
        served = with_promotion(with_floor(given, loop.exploration_floor), promoted, loop.promoted_share)
    masked = masked_indices(decision)
    return mask(served, masked) if masked else served


def ranking(decision: Decision) -> list[tuple[str, float]]:
    """Offers with their served probabilities: the chosen one first, then by falling probability; none of a fallback."""
    slot = decision.slots[0]
    if slot.distribution is None:
        return []
    served = slot.distribution.served
    masked = masked_indices(decision)
    left = [index for index in range(len(served)) if index not in masked]
    order = sorted(left, key=lambda index: (index != slot.chosen, -served[index], index))
    return [(decision.actions[index].offer_id, served[index]) for index in order]
