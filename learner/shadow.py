"""One challenger in the shadow of its loop's own policy: it learns from the same log, and is judged before that."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Self, TypeAlias

import numpy as np

from adapters.challengers import ChallengerRow, ChallengerState, GuardrailState, shown_record
from adapters.records import loop_record
from adapters.snapshots import policy_key
from contextual_bandit.decide import serve
from contextual_bandit.loops import Challenger, Guardrail, LoopConfig
from contextual_bandit.slots import slot_interactions
from contextual_bandit.types import Decision, LearningSetting, LoggedInteraction
from contextual_bandit.vowpal import policy_id
from contextual_bandit.vowpal_progressive import ProgressivePolicy
from evaluation.arrays import FloatArray
from evaluation.confidence_sequences import ConfidenceSequence
from evaluation.guardrails import GuardrailWatch, Reading, Served
from evaluation.progressive_values import ProgressiveValues, WeighedSlot, weighed
from learner.train import learn

# Summed values of outcomes, by decision and kind.
Outcomes: TypeAlias = Mapping[str, Mapping[str, float]]


def lesson_mark(config: LoopConfig, arguments: str, reset_through: int) -> str:
    """What a challenger learns, as a short text; when it changes, the challenger begins anew.

    Args:
        config: the loop's settings.
        arguments: the challenger's.
        reset_through: the last interaction that is learned no more (``OperationStore.reset_through``).
    """
    _, reward = config.lesson
    # As JSON with sorted keys: the store gives mappings back in another order.
    told = {"reward": loop_record(replace(config, reward=reward))["reward"], "arguments": arguments}
    return sha256(json.dumps(told | {"reset_through": reset_through}, sort_keys=True).encode()).hexdigest()


class ServedDecisions:
    """What a policy's own decisions brought, beside those of the loop's own policy from its first one on."""

    def __init__(self, own: ConfidenceSequence, champion: ConfidenceSequence, watch: GuardrailWatch) -> None:
        self.own = own
        self.champion = champion
        self.watch = watch

    @classmethod
    def empty(cls, low: float, high: float) -> Self:
        """No decisions yet; rewards will be in [low, high]."""
        own, champion = (ConfidenceSequence(low, high, low, high) for _ in range(2))
        return cls(own, champion, GuardrailWatch(low, high))

    def add(self, guardrails: Sequence[Guardrail], own: Sequence[Served], champion: Sequence[Served]) -> None:
        """Take decisions in the order of the log."""
        for sequence, served in ((self.own, own), (self.champion, champion)):
            sequence.update(_rewards(served, sequence))
        self.watch.add(guardrails, own, champion)

    def watch_anew(self) -> None:
        """Forget what guardrails have seen: somebody lets the policy decide again."""
        self.watch = GuardrailWatch(self.watch.low, self.watch.high)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a store."""
        return {"own": self.own.to_dict(), "champion": self.champion.to_dict(), "watch": self.watch.to_dict()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave."""
        own, champion = (ConfidenceSequence.from_dict(stored[name]) for name in ("own", "champion"))
        return cls(own, champion, GuardrailWatch.from_dict(stored["watch"]))


@dataclass(frozen=True, slots=True)
class Author:
    """Whose decisions are meant: the names of snapshots begin so, and the policy is of this kind if one is given."""

    prefix: str
    policy_id: str | None = None
    least_generation: int = 0

    @classmethod
    def challenger(cls, loop: str, name: str, arguments: str) -> Self:
        """A challenger; what another one of its name decided is not its own."""
        return cls(f"{policy_key(loop, name)}-g", policy_id(arguments))

    @classmethod
    def champion(cls, loop: str, least_generation: int = 0) -> Self:
        """The loop's own policy, from a generation on."""
        return cls(f"{policy_key(loop)}-g", None, least_generation)

    def made(self, decision: Decision) -> bool:
        """Whether a decision is theirs."""
        name = decision.snapshot_id
        if not name.startswith(self.prefix) or self.policy_id not in (None, decision.policy_id):
            return False
        generation = name.removeprefix(self.prefix).partition("-")[0]
        return generation.isdigit() and int(generation) >= self.least_generation


def split_served(
    page: Iterable[LoggedInteraction], own: Author, other: Author, outcomes: Outcomes, *, begun: bool
) -> tuple[list[Served], list[Served]]:
    """Decisions of one author, and those of another since the first of these (``begun``: there was one already)."""
    mine: list[Served] = []
    others: list[Served] = []
    for interaction in page:
        decision = interaction.decision
        if decision.use not in ("learn", "fallback"):
            continue
        if own.made(decision):
            mine.append(_served(interaction, outcomes))
        elif (begun or mine) and other.made(decision):
            others.append(_served(interaction, outcomes))
    return mine, others


def _served(interaction: LoggedInteraction, outcomes: Outcomes) -> Served:
    found = outcomes.get(interaction.decision.decision_id, {})
    rewards = [one.reward for one in slot_interactions(interaction) if one.use == "learn"]
    return Served(sum(rewards) / len(rewards) if rewards else None, found)


def _rewards(served: Sequence[Served], sequence: ConfidenceSequence) -> FloatArray:
    rewards = [one.reward for one in served if one.reward is not None]
    return np.clip(np.array(rewards, dtype=np.float64), sequence.least, sequence.most)


class ShadowPolicy:
    """A challenger's model with all that is known of its worth."""

    def __init__(
        self, setting: LearningSetting, model: bytes | None, values: ProgressiveValues, served: ServedDecisions
    ) -> None:
        self.setting = setting
        self.values = values
        self.served = served
        self._policy = ProgressivePolicy(setting, model)

    @classmethod
    def begin(cls, setting: LearningSetting, model: bytes | None = None) -> Self:
        """Untrained, or with a model; nothing is known of its worth."""
        low, high = setting.reward_low, setting.reward_high
        return cls(setting, model, ProgressiveValues.empty(low, high), ServedDecisions.empty(low, high))

    @classmethod
    def resume(cls, setting: LearningSetting, model: bytes | None, sums: Mapping[str, Any]) -> Self:
        """As ``sums`` and ``save`` gave it."""
        return cls(
            setting, model, ProgressiveValues.from_dict(sums["values"]), ServedDecisions.from_dict(sums["served"])
        )

    @property
    def sums(self) -> dict[str, Any]:
        """What is known of its worth as plain numbers, for a store."""
        return {"values": self.values.to_dict(), "served": self.served.to_dict()}

    def take(self, loop: LoopConfig, page: Sequence[LoggedInteraction]) -> None:
        """Evaluate and learn interactions in the order of the log.

        Raises:
            ValueError: features or a propensity that cannot be learned from.
            RuntimeError: Vowpal Wabbit refuses what it is given.
        """
        decisions = []
        for interaction in page:
            slots = self._predict_and_learn(loop, interaction)
            if slots:
                decisions.append(slots)
        self.values.add(decisions)

    def save(self) -> bytes:
        """The model; going on from it equals never having stopped."""
        return self._policy.save()

    def close(self) -> None:
        """Free the workspace."""
        self._policy.close()

    def _predict_and_learn(self, loop: LoopConfig, interaction: LoggedInteraction) -> list[WeighedSlot]:
        decision, policy = interaction.decision, self._policy
        if interaction.use == decision.use == "learn" and not decision.has_slots and policy.slates is None:
            return [self._weighed(loop, interaction, policy.predict_then_learn(interaction))]
        slots = []
        if decision.use == "learn":
            # All slots before any is learned: no reward was known when the next was drawn.
            for one in slot_interactions(interaction):
                if one.use == "learn":
                    slots.append(self._weighed(loop, one, self._given(loop, one.decision)))
        if interaction.use == "learn":
            learn(policy, interaction)
        return slots

    def _given(self, loop: LoopConfig, view: Decision) -> tuple[float, ...]:
        slates = self._policy.slates
        if slates is not None:
            return slates.view_distribution(view, loop.exploration_floor)
        return self._policy.distribution(view.context, view.actions)

    def _weighed(self, loop: LoopConfig, interaction: LoggedInteraction, given: Sequence[float]) -> WeighedSlot:
        # As this policy would have served it, whoever did.
        decision = replace(interaction.decision, policy_id=policy_id(self.setting.arguments))
        slot = decision.slots[0]
        if slot.distribution is None:
            raise ValueError(f"decision {decision.decision_id!r} has no distribution to be evaluated by")
        return weighed(slot.distribution.served, serve(loop, decision, given), slot.chosen, interaction.reward)


def shown(
    name: str, generation: int, trained_through: int, now: datetime, shadow: ShadowPolicy,
    guardrails: Sequence[Guardrail], error: str | None = None,
) -> ChallengerState:  # fmt: skip
    """What a challenger's page tells."""
    values, served = shadow.values, shadow.served
    verdict = values.verdict
    value, low, high = _shown(values.value)
    champion_value, champion_low, champion_high = _shown(values.logged)
    gain, gain_low, gain_high = _shown(values.gain)
    served_value, served_low, served_high = _shown(served.own)
    beside, beside_low, beside_high = _shown(served.champion)
    return ChallengerState(
        name, shadow.setting.arguments, generation, trained_through, now, values.n, value, low, high,
        champion_value, champion_low, champion_high, gain, gain_low, gain_high,
        values.weights.result.effective_sample_size, served.own.n, served_value, served_low, served_high,
        served.champion.n, beside, beside_low, beside_high, states(served.watch.readings(guardrails)),
        verdict.verdict, verdict.reasons, error,
    )  # fmt: skip


def stored_row(
    challenger: Challenger, at: ChallengerRow, shadow: ShadowPolicy, mark: str, began: int,
    guardrails: Sequence[Guardrail] = (),
) -> ChallengerRow:  # fmt: skip
    """A challenger as it is stored.

    Args:
        challenger: as the settings have it.
        at: name, generation and position.
        shadow: its model and sums.
        mark: of what it learns (``lesson_mark``).
        began: the position from which it has learned.
        guardrails: of the loop.
    """
    told = shown(challenger.name, at.generation, at.trained_through, datetime.now(UTC), shadow, guardrails)
    state = {
        "mark": mark, "began": began, "share": challenger.share, "sums": shadow.sums, "shown": shown_record(told),
    }  # fmt: skip
    return replace(at, attempts=0, state=state, model=shadow.save())


def states(readings: Sequence[Reading]) -> tuple[GuardrailState, ...]:
    """Guardrails as they are stored and shown."""
    return tuple(
        GuardrailState(
            one.guardrail.metric, one.guardrail.relative, one.n, one.value, one.low, one.high, one.bound, one.status
        )
        for one in readings
    )


def _shown(sequence: ConfidenceSequence) -> tuple[float | None, float | None, float | None]:
    return (sequence.mean, *sequence.interval) if sequence.n else (None, None, None)
