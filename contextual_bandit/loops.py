"""One learning problem's configuration: the loop, its reward definition and how its policy learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from contextual_bandit.types import Aggregation, Clock, LearningMode, LearningSetting

DEFAULT_LOOP = "default"

# For loops whose features are not known beforehand: all pairs of namespaces, scales normalised by Vowpal Wabbit.
DEFAULT_ARGUMENTS = "--cb_explore_adf --squarecb --cb_type mtr --gamma_scale 1000 --gamma_exponent 0.5 -q ::"


@dataclass(frozen=True, slots=True)
class RewardDefinition:
    """How a decision's outcomes become one number.

    Rewards lie in [low, high]; ``kinds`` maps an outcome kind to its value per unit of amount (1 when the sender
    names no amount). Outcomes count when received within ``wait_seconds`` of the decision.
    """

    low: float = 0.0
    high: float = 1.0
    default: float = 0.0
    wait_seconds: float = 600.0
    aggregation: Aggregation = "earliest"
    kinds: Mapping[str, float] = field(default_factory=lambda: {"click": 1.0, "redemption": 1.0, "purchase": 1.0})


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """A loop's settings. ``exploration_floor`` is the total probability mass spread over the eligible offers.

    ``export_frequency_seconds`` is stream time between two published snapshots. ``clock: simulated`` lets the
    sender's ``occurred_at`` and ticks be time; ``close_on_final`` closes a decision at its ``final`` outcome.
    """

    loop: str
    arguments: str = DEFAULT_ARGUMENTS
    exploration_floor: float = 0.02
    reward: RewardDefinition = field(default_factory=RewardDefinition)
    grace_seconds: float = 2.0
    export_frequency_seconds: float = 60.0
    learning_mode: LearningMode = "online"
    clock: Clock = "wall"
    close_on_final: bool = False
    time_zone: str = "UTC"
    retention_days: int = 90
    version: int = 1

    @property
    def setting(self) -> LearningSetting:
        """What the loop's policy is trained by."""
        return LearningSetting(self.arguments, self.reward.low, self.reward.high)
