"""A challenger is promoted: its model learns on to the end of the log, then it takes the loop's own policy's place.

The policy before it becomes the challenger ``previous`` with its model as it was, so that the way back is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from adapters.challengers import MOST_ATTEMPTS, PREVIOUS, ChallengerRow
from adapters.operations import Operation
from adapters.promotions import PROMOTED, Promotion, PromotionStore
from adapters.snapshots import snapshot_id
from contextual_bandit.loops import Challenger, LoopConfig
from contextual_bandit.types import LearningSetting, PolicySnapshot
from contextual_bandit.vowpal import VowpalPolicy
from learner.shadow import ShadowPolicy, lesson_mark, stored_row
from learner.train import make_snapshot

# Of a challenger's state, what the audit log keeps beside the reason.
NUMBERS = ("n", "value", "low", "high", "champion_value", "gain", "gain_low", "gain_high", "served", "served_value",
           "served_champion_value", "verdict")  # fmt: skip


class CannotPromote(ValueError):
    """There is no such challenger, or what it has learned is not what the loop's policy has to know."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A challenger that can be promoted: its model has learned up to ``row.trained_through``."""

    setting: LearningSetting
    row: ChallengerRow


class Promoter:
    """Finds challengers, and stores their promotion."""

    def __init__(self, store: PromotionStore) -> None:
        self._store = store

    def find(self, config: LoopConfig, operation: Operation) -> Candidate:
        """The challenger that an operation names.

        Raises:
            CannotPromote: says why not.
        """
        name = str(operation.detail.get("name"))
        challenger = next((one for one in config.challengers if one.name == name), None)
        if challenger is None:
            raise CannotPromote(f"loop {config.loop!r} has no challenger {name!r}")
        row = self._store.challengers.row(config.loop, name)
        mark = lesson_mark(config, challenger.arguments, self._store.operations.reset_through(config.loop))
        if row is None or row.state.get("mark") != mark or row.model is None:
            raise CannotPromote(f"challenger {name!r} has not learned from the log yet; try again when it is followed")
        if row.attempts >= MOST_ATTEMPTS or row.state["shown"].get("error"):
            raise CannotPromote(f"challenger {name!r} was given up: {row.state['shown'].get('error')}")
        return Candidate(LearningSetting(challenger.arguments, config.reward.low, config.reward.high), row)

    def store(
        self, config: LoopConfig, operation: Operation, candidate: Candidate, parent: PolicySnapshot,
        policy: VowpalPolicy, learned: int,
    ) -> LoopConfig:  # fmt: skip
        """Let a challenger be the loop's own policy, in one transaction.

        Args:
            config: the loop's settings.
            operation: that asked for it.
            candidate: the challenger.
            parent: the loop's own policy as it is.
            policy: the challenger's model, which has learned as far as ``parent`` has.
            learned: how many interactions it learned for that.

        Returns:
            The loop's settings as they are now.

        Raises:
            adapters.promotions.LoopGone: there is no such loop any more.
            adapters.challengers.Overtaken: the previous policy was changed by somebody else.
        """
        loop, through, at = parent.loop, parent.trained_through, parent.stream_time
        base = make_snapshot(loop, parent.generation + 1, through, at, parent.snapshot_id, policy)
        number = self._store.challengers.next_generation(loop, PREVIOUS)
        former = replace(
            parent, snapshot_id=snapshot_id(loop, number, through, PREVIOUS), generation=number,
            parent=parent.snapshot_id, challenger=PREVIOUS,
        )  # fmt: skip
        result = {
            "generation": base.generation, "trained_through": through, "snapshot_id": base.snapshot_id,
            "learned": learned,
        }  # fmt: skip
        detail = {
            **{name: candidate.row.state["shown"].get(name) for name in NUMBERS}, **operation.detail,
            "arguments": base.arguments, "snapshot_id": base.snapshot_id, "operation_id": operation.operation_id,
        }  # fmt: skip
        promotion = Promotion(
            operation.operation_id, candidate.row.name, operation.actor, operation.detail.get("action", PROMOTED), base,
            self._followed_on(config, former), former, result, detail,
        )  # fmt: skip
        return self._store.put(promotion, datetime.now(UTC))

    def _followed_on(self, config: LoopConfig, former: PolicySnapshot) -> ChallengerRow:
        """The policy so far as a challenger that goes on from here; of its worth nothing is known yet."""
        challenger = Challenger(PREVIOUS, former.arguments)
        is_current = former.setting == config.setting
        reset_through = self._store.operations.reset_through(config.loop)
        # A model whose loop has other settings by now has learned something else, and begins anew.
        mark = lesson_mark(config, former.arguments, reset_through) if is_current else ""
        shadow = ShadowPolicy.begin(former.setting, former.model)
        row = stored_row(
            challenger, ChallengerRow(PREVIOUS, former.generation, former.trained_through, 0, {}, None), shadow, mark,
            former.trained_through,
        )  # fmt: skip
        shadow.close()
        return replace(row, model=former.model)
