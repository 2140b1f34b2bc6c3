"""One learning problem's configuration: the loop, its reward definition and how its policy learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from contextual_bandit.thresholds import RfmThresholds
from contextual_bandit.types import Aggregation, Clock, LateOutcomes, LearningMode, LearningSetting, Rule

DEFAULT_LOOP = "default"

# For loops whose features are not known beforehand: offers and affinities in pairs with everything, scales normalised
# by Vowpal Wabbit (docs/decisions/0004-learning-setting.md).
DEFAULT_ARGUMENTS = (
    "--cb_explore_adf --squarecb --cb_type mtr --clip_p 1 --gamma_scale 300 --gamma_exponent 0.5 "
    "--power_t 0.4 -l 0.5 -q O: -q A:"
)


NO_OFFER = "no-offer"


@dataclass(frozen=True, slots=True)
class OutcomeKind:
    """What outcomes of a kind are worth: ``worth`` times the measure.

    ``count``: the amount sent (1 when absent). ``revenue``: the amount is money. ``margin``: of that money, what the
    chosen offer's margin leaves after its discount, less its contact cost. ``correction``: added after the
    aggregation of the others (a refund has worth -1).
    """

    worth: float = 1.0
    measure: Literal["count", "revenue", "margin"] = "count"
    correction: bool = False


@dataclass(frozen=True, slots=True)
class RewardDefinition:
    """How a decision's outcomes become one number.

    Rewards are clipped to [low, high]. Outcomes count when received within ``wait_seconds`` of the decision; what
    comes later is kept, and with ``late_outcomes: rebuild`` makes a new revision of the interaction.
    """

    low: float = 0.0
    high: float = 1.0
    default: float = 0.0
    wait_seconds: float = 600.0
    aggregation: Aggregation = "earliest"
    kinds: Mapping[str, OutcomeKind] = field(
        default_factory=lambda: {"click": OutcomeKind(), "redemption": OutcomeKind(), "purchase": OutcomeKind()}
    )
    late_outcomes: LateOutcomes = "ignore"


@dataclass(frozen=True, slots=True)
class BaselineSetting:
    """The campaign manager's policy: the ``top_n`` offers by affinity that exceed ``threshold``, evenly.

    When none does: the first offer of ``priority`` that is eligible, else the first eligible one. ``affinity`` names
    the Affinity feature (purchase days per year for r4, r16, r52).
    """

    threshold: float = 0.0
    top_n: int = 1
    affinity: str = "r16"
    priority: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Holdout:
    """A share of customers (by hash, for good) that gets the baseline or no offer, and is never trained on."""

    share: float = 0.0
    serves: Literal["baseline", "no_offer"] = "baseline"


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature of a schema; ``personal`` ones are left out when a customer does not consent to personalising."""

    type: Literal["number", "string", "boolean"]
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    personal: bool = True


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """Which features a request's context may hold, by path ("device.kind"); others are refused or dropped."""

    features: Mapping[str, FeatureSpec] = field(default_factory=dict)
    unknown: Literal["refuse", "drop"] = "refuse"


@dataclass(frozen=True, slots=True)
class AutoOptimisation:
    """Look for better learning settings every ``frequency_days`` from ``start`` on, and apply one that is shown better.

    Without ``start`` the first search is due at once.
    """

    is_enabled: bool = False
    frequency_days: int = 28
    start: datetime | None = None


@dataclass(frozen=True, slots=True)
class Challenger:
    """A policy beside the loop's own: it learns from the same log, and decides for a ``share`` of the customers.

    Attributes:
        name: by which people know it: small letters, digits and dashes; not ``champion``.
        arguments: Vowpal Wabbit's, as the loop's own.
        share: of the customers who have an id, in [0, 1]; 0 lets it learn without deciding for anybody (shadow).
    """

    name: str
    arguments: str
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A bound on what a policy does to its own decisions; one that is shown to be broken takes the policy back.

    Attributes:
        metric: ``reward`` (mean per decision), ``fallback_rate`` (share of decisions), or ``outcome:KIND`` (mean
            summed value of outcomes of that kind per decision).
        low: the least that is allowed.
        high: the most that is allowed.
        relative: the bounds hold for the difference to the champion's decisions of the same time.
        least_decisions: nothing is concluded from fewer.
    """

    metric: str
    low: float | None = None
    high: float | None = None
    relative: bool = False
    least_decisions: int = 200


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """A loop's settings. ``exploration_floor`` is the total probability mass spread over the eligible offers.

    ``export_frequency_seconds`` is stream time between two published snapshots. ``clock: simulated`` lets the
    sender's ``occurred_at`` and ticks be time; ``close_on_final`` closes a decision at its ``final`` outcome.
    ``rules`` hold for every offer. ``fallback`` is the offer that is shown when none is eligible. With
    ``priority_tiers`` only the highest priority among the eligible competes. ``promoted_share`` is probability that
    goes evenly to eligible offers with ``promoted_tag``. ``consent_required``: personalise only with explicit consent.
    ``region`` is where a request without one takes place. ``sales_dates`` are days of the year ("11-27"). ``rfm`` are
    the loop's own limits of quintiles; without them those hold that a job computed of all customers.
    ``lookback_days``: generations are trained on so many days of the log, and renewed as the window moves.
    ``model_retrain_days``: a changed learning setting is trained on so many days of it; without, as far as the loop
    looks back. ``challengers`` are policies beside the loop's own (the champion); ``guardrails`` are bounds that take
    them back. ``sticky_seconds``: a customer is shown the same decision again for so long.
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
    rules: tuple[Rule, ...] = ()
    fallback: str = NO_OFFER
    priority_tiers: bool = False
    promoted_share: float = 0.0
    promoted_tag: str = "promoted"
    consent_required: bool = False
    baseline: BaselineSetting = field(default_factory=BaselineSetting)
    holdout: Holdout = field(default_factory=Holdout)
    schema: FeatureSchema | None = None
    region: str | None = None
    sales_dates: tuple[str, ...] = ()
    rfm: RfmThresholds | None = None
    lookback_days: float | None = None
    model_retrain_days: float | None = None
    auto_optimisation: AutoOptimisation = field(default_factory=AutoOptimisation)
    challengers: tuple[Challenger, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    sticky_seconds: float = 0.0

    @property
    def setting(self) -> LearningSetting:
        """What the loop's policy is trained by."""
        return LearningSetting(self.arguments, self.reward.low, self.reward.high)

    @property
    def lesson(self) -> tuple[str, RewardDefinition]:
        """What a model of the loop learns; when it changes, the log is learned again.

        How long rewards are waited for is no part of it: that holds for decisions to come.
        """
        plain = RewardDefinition()
        reward = replace(self.reward, wait_seconds=plain.wait_seconds, late_outcomes=plain.late_outcomes)
        return self.arguments, reward
