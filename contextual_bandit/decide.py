"""The one path from eligible actions to a decision: distribution, floor, one seeded draw (step Decide)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contextual_bandit.loops import LoopConfig
from contextual_bandit.policy import FirstActionPolicy, Policy, pick, uniform_number, with_floor
from contextual_bandit.types import Action, Context, Decision, Distribution, Removed, SlotDecision, Use


class NothingEligible(ValueError):
    """The rules left no offer to decide among."""

    def __init__(self, removed: Sequence[Removed]) -> None:
        reasons = ", ".join(f"{entry.offer_id}: {entry.reason}" for entry in removed[:10]) or "no candidates"
        super().__init__(f"no eligible offer ({reasons})")
        self.removed = tuple(removed)


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


def decide(
    loop: LoopConfig,
    serving: ServingPolicy,
    moment: Moment,
    context: Context,
    actions: Sequence[Action],
    removed: Sequence[Removed],
) -> Decision:
    """Pick one action with an exact probability.

    In mode ``online`` the loop's policy decides; in ``apprentice`` and ``logging_only`` the sender's first action
    is served with probability 1.

    Raises:
        NothingEligible: ``actions`` is empty.
        UnusableExample: the policy cannot read the features.
    """
    if not actions:
        raise NothingEligible(removed)
    use: Use = "learn"
    if loop.learning_mode == "online":
        given = serving.policy.distribution(context, actions)
        served = with_floor(given, loop.exploration_floor)
    else:
        given = served = FirstActionPolicy().distribution(context, actions)
        use = "baseline"
    number = uniform_number(loop.loop, moment.decision_id)
    chosen = pick(served, number)
    slot = SlotDecision(chosen, Distribution(tuple(given), served), served[chosen], number)
    return Decision(
        loop=loop.loop,
        decision_id=moment.decision_id,
        decided_at=moment.now,
        occurred_at=moment.occurred_at,
        customer_id=moment.customer_id,
        context=context,
        actions=tuple(actions),
        removed=tuple(removed),
        slots=(slot,),
        policy_id=serving.policy_id,
        snapshot_id=serving.snapshot_id,
        learning_mode=loop.learning_mode,
        use=use,
        deferred=moment.deferred,
        request_hash=moment.request_hash,
    )


def ranking(decision: Decision) -> list[tuple[str, float]]:
    """Offers with their served probabilities: the chosen one first, then by falling probability."""
    slot = decision.slots[0]
    served = slot.distribution.served if slot.distribution else (0.0,) * len(decision.actions)
    order = sorted(range(len(served)), key=lambda index: (index != slot.chosen, -served[index], index))
    return [(decision.actions[index].offer_id, served[index]) for index in order]
