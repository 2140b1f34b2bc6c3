"""What a broken guardrail does: a canary stops, a promotion is rolled back; the audit log says why."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from adapters.catalogue import LoopStore
from adapters.challengers import CHAMPION, PREVIOUS, ChallengerStore, Overtaken, guardrails_record
from adapters.installation import Installation
from adapters.loop_changes import tell_learner
from adapters.operations import OperationStore
from contextual_bandit.loops import Challenger, LoopConfig
from evaluation.guardrails import GuardrailWatch, Reading
from learner.followed_log import FollowedLog
from learner.shadow import Author, split_served, states

log = logging.getLogger(__name__)
ACTOR = "guardrail"
# A promoted champion is watched for so many times its guardrails' least decisions.
WATCHED_TIMES = 10
# A promotion that could not be rolled back is tried again after this.
RETRY_SECONDS = 60.0


def broken(readings: Sequence[Reading]) -> Reading | None:
    """The first guardrail that is shown to be broken."""
    return next((one for one in readings if one.status == "violated"), None)


def stop_canary(installation: Installation, loop: str, canary: Challenger, reading: Reading) -> None:
    """Let a challenger decide for nobody more; services follow as they follow every change of settings."""

    def stopped(config: LoopConfig) -> LoopConfig:
        left = tuple(replace(one, share=0.0) if one.name == canary.name else one for one in config.challengers)
        return replace(config, challengers=left)

    detail = {"policy": canary.name, "share": canary.share, **_told(reading)}
    loops = LoopStore(installation.engine, installation.client)
    if loops.edit(loop, stopped, ACTOR, _now(), "canary_stopped", detail) is not None:
        log.warning("canary stopped", extra={"loop": loop, "challenger": canary.name, "reason": detail["reason"]})


class ChampionWatcher:
    """Watches a loop's own policy after it was promoted, until it has served enough."""

    def __init__(self, installation: Installation, loop: str, followed: FollowedLog) -> None:
        self._installation = installation
        self._loop = loop
        self._log = followed
        self._store = ChallengerStore(installation.engine)
        self._operations = OperationStore(installation.engine)
        self._not_before = 0.0

    def look(self, config: LoopConfig, *, is_promoting: bool) -> bool:
        """Take one page; True when there is more to take at once. A promotion under way is let be."""
        row = self._store.row(self._loop, CHAMPION)
        if row is None or not row.state:
            return False
        watch = _watch(config, row.state.get("watch"))
        page = self._log.page(config, row.trained_through)
        previous = next((one for one in config.challengers if one.name == PREVIOUS), None)
        if page:
            other = Author.challenger(self._loop, PREVIOUS, (previous or Challenger(PREVIOUS, "")).arguments)
            own = Author.champion(self._loop, row.generation)
            mine, others = split_served(page, own, other, self._log.outcomes(config, page), begun=True)
            watch.add(config.guardrails, mine, others)
            state = {
                "watch": watch.to_dict(), "served": int(row.state.get("served", 0)) + len(mine),
                "guardrails": guardrails_record(states(watch.readings(config.guardrails))),
            }  # fmt: skip
            try:
                self._store.commit(
                    self._loop, row, replace(row, trained_through=page[-1].sequence, state=state), _now()
                )  # fmt: skip
            except Overtaken:
                return True
        readings = watch.readings(config.guardrails)
        found = broken(readings)
        if found is None and all(one.n >= WATCHED_TIMES * one.guardrail.least_decisions for one in readings):
            self._store.remove(self._loop, CHAMPION, _now())
        elif found is not None and previous is not None and not is_promoting:
            self._roll_back(found)
        return self._log.is_full(page)

    def _roll_back(self, reading: Reading) -> None:
        if time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + RETRY_SECONDS
        detail = {"name": PREVIOUS, "action": "rolled_back", **_told(reading)}
        operation_id = self._operations.add(self._loop, "promote", ACTOR, _now(), detail=detail)
        tell_learner(self._installation.client, self._loop, "promote_model", ACTOR, {"operation_id": operation_id})
        log.warning("promotion is rolled back", extra={"loop": self._loop, "reason": detail["reason"]})


def _watch(config: LoopConfig, stored: dict[str, Any] | None) -> GuardrailWatch:
    """What was seen so far; nothing when rewards have another range now."""
    low, high = config.reward.low, config.reward.high
    if stored is None or (stored["low"], stored["high"]) != (low, high):
        return GuardrailWatch(low, high)
    return GuardrailWatch.from_dict(stored)


def _told(reading: Reading) -> dict[str, Any]:
    """Why a policy is taken back: in one line, and as numbers."""
    guardrail = reading.guardrail
    numbers = {"value": reading.value, "low": reading.low, "high": reading.high, "bound": reading.bound}
    what = f"{guardrail.metric}{' beside the champion' if guardrail.relative else ''}"
    is_above = reading.low is not None and reading.bound is not None and reading.low > reading.bound
    side = "above" if is_above else "below"
    shown = {name: "none" if number is None else f"{number:.4g}" for name, number in numbers.items()}
    reason = (
        f"{what} is {shown['value']}, interval [{shown['low']}, {shown['high']}], {side} {shown['bound']} "
        f"after {reading.n:,} decisions"
    )
    return {
        "reason": reason, "metric": guardrail.metric, "relative": guardrail.relative, "decisions": reading.n, **numbers,
    }  # fmt: skip


def _now() -> datetime:
    return datetime.now(UTC)
