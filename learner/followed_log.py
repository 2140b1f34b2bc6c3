"""A loop's log as its challengers follow it: page by page, every use, with rewards as the loop defines them now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from adapters.history import outcome_sums, read_history, sequence_before, stream_time
from adapters.installation import Installation
from adapters.interaction_log import first_sequence
from adapters.operations import OperationStore
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import LoggedInteraction
from evaluation.guardrails import OUTCOME
from learner.shadow import Outcomes

# Interactions that are taken at a time: some tenths of a second for each challenger.
PAGE = 500


class FollowedLog:
    """Reads one loop's log."""

    def __init__(self, installation: Installation, loop: str) -> None:
        self._engine = installation.engine
        self._loop = loop
        self._operations = OperationStore(installation.engine)

    def page(self, config: LoopConfig, after: int) -> list[LoggedInteraction]:
        """The next interactions behind a sequence, at most ``PAGE``."""
        definition = config.reward if self._operations.rewards_changed(self._loop) else None
        found = read_history(
            self._engine, self._loop, after=after, limit=PAGE, definition=definition, learnable=False
        )  # fmt: skip
        return list(found)

    def is_full(self, page: Sequence[LoggedInteraction]) -> bool:
        """Whether there may be more behind a page."""
        return len(page) >= PAGE

    def outcomes(self, config: LoopConfig, page: Sequence[LoggedInteraction]) -> Outcomes:
        """Outcomes that guardrails ask for, by decision and kind."""
        metrics = {one.metric for one in config.guardrails if one.metric.startswith(OUTCOME)}
        kinds = sorted(metric.removeprefix(OUTCOME) for metric in metrics)
        return outcome_sums(self._engine, self._loop, [one.decision.decision_id for one in page], kinds)

    def begins_after(self, config: LoopConfig) -> int:
        """The interaction behind which a challenger begins: what a replay would leave out, it leaves out."""
        now = stream_time(self._engine, self._loop)
        after = max(first_sequence(self._engine, self._loop) - 1, self.reset_through())
        windows = [days for days in (config.lookback_days, config.model_retrain_days) if days is not None]
        if not windows or now is None:
            return after
        # What closed at this very moment is no part of no days.
        begin = now - timedelta(days=min(windows)) if min(windows) else now + timedelta(days=1)
        return max(after, sequence_before(self._engine, self._loop, begin))

    def reset_through(self) -> int:
        """The last interaction that is learned no more."""
        return self._operations.reset_through(self._loop)
