"""Target policies that learned: a snapshot as it would serve, and a learning setting trained on the log itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from contextual_bandit.decide import serve
from contextual_bandit.loops import LoopConfig
from contextual_bandit.slots import lessons, slot_view
from contextual_bandit.types import Decision, LearningSetting, LoggedInteraction, PolicySnapshot, SlotDecision
from contextual_bandit.vowpal import VowpalPolicy, policy_id
from contextual_bandit.vowpal_progressive import ProgressivePolicy
from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk


class SnapshotTarget:
    """A snapshot with the loop's floor, promotion and the draw's own exclusions, as it would be served: a target.

    Only for decisions that it did not learn from is its value unbiased: a snapshot fitted to the rewards that it is
    then judged by looks better than it is.
    """

    def __init__(self, snapshot: PolicySnapshot, loop: LoopConfig) -> None:
        """Load the snapshot; floor and promotion are the loop's."""
        self._policy = VowpalPolicy(snapshot.setting, snapshot.model)
        self._policy_id = snapshot.policy_id
        self._loop = loop

    def __call__(self, chunk: Chunk) -> FloatArray:
        """Probability of each pair, (m,)."""
        target = np.empty(len(chunk.row))
        for start, stop, decision in _decisions(chunk):
            given = self._policy.view_distribution(decision, self._loop.exploration_floor)
            # Whether there is a floor beside the policy's own is for the target to say, not for who logged.
            target[start:stop] = serve(self._loop, replace(decision, policy_id=self._policy_id), given)
        return target

    def close(self) -> None:
        """Give the memory back."""
        self._policy.close()


class ProgressiveTarget:
    """A learning setting trained on the log as it goes: each decision is evaluated first and then learned.

    The target is what would be served, with the loop's floor and promotion and without what the draw left out. It
    learns as the learner does, from logged propensities and in the log's order, so that by the end it holds the
    learner's model of this log.

    Its value is that of a policy that changes from decision to decision. It is unbiased all the same: a decision's
    weight depends on decisions before it alone, so that the terms less their means are martingale differences (Li, Chu,
    Langford, Schapire 2010, "A contextual-bandit approach to personalized news article recommendation", do this by
    rejection). It includes what learning cost; the policy at the end is usually better than the mean.

    The log is in the order in which decisions closed, so that rewards are known a little earlier than live, where some
    decisions were still open.
    """

    def __init__(self, setting: LearningSetting, loop: LoopConfig, model: bytes | None = None) -> None:
        """Start untrained, or go on from a model's bytes; floor and promotion are the loop's."""
        self._policy = ProgressivePolicy(setting, model)
        self._policy_id = policy_id(setting.arguments)
        self._loop = loop

    def __call__(self, chunk: Chunk) -> FloatArray:
        """Probability of each pair, (m,), each decision before it is learned; once for each chunk, in order."""
        target = np.empty(len(chunk.row))
        for index, (start, stop, decision) in enumerate(_decisions(chunk)):
            logged = _logged(chunk, index, decision)
            served_by = replace(logged.decision, policy_id=self._policy_id)
            target[start:stop] = serve(self._loop, served_by, self._given(logged))
        return target

    def _given(self, logged: LoggedInteraction) -> tuple[float, ...]:
        decision = logged.decision
        if not decision.has_slots and self._policy.slates is None:
            return self._policy.predict_then_learn(logged)
        # A slot is taught among the actions that were left to it alone.
        given = self._policy.view_distribution(decision, self._loop.exploration_floor)
        self._policy.learn(lessons(replace(logged, slot_rewards=(logged.reward,))))
        return given

    def save(self) -> bytes:
        """What was learned; going on from it equals never having stopped."""
        return self._policy.save()

    def close(self) -> None:
        """Give the memory back."""
        self._policy.close()


def _decisions(chunk: Chunk) -> Iterator[tuple[int, int, Decision]]:
    """Each decision, of several slots the first one as a decision of its own, with the range of its pairs.

    Raises:
        ValueError: the log has none, only numbers.
    """
    if len(chunk.decisions) != chunk.n:
        raise ValueError("this log holds no contexts and actions, so no policy that learns can be evaluated on it")
    ends = [*chunk.first.tolist(), len(chunk.row)]
    for (start, stop), decision in zip(pairwise(ends), chunk.decisions, strict=True):
        yield start, stop, slot_view(decision, 0)


def _logged(chunk: Chunk, index: int, decision: Decision) -> LoggedInteraction:
    """The decision as the log's arrays have it: files may tell only those."""
    chosen, propensity = int(chunk.chosen[index] - chunk.first[index]), float(chunk.propensity[index])
    slot = decision.slots[0] if decision.slots else None
    if slot is None or slot.chosen != chosen or slot.propensity != propensity:
        decision = replace(decision, slots=(SlotDecision(chosen, None, propensity, None),))
    return LoggedInteraction(0, decision, float(chunk.reward[index]), "learn", decision.decided_at)
